"""
Tests for images in prompts over ACP.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from acp import schema
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.conversations import AgentFailure, Answered, Ready, load_dialect
from kiroworkers.conversations.acp.messages import MessageReader, ShownMessage
from kiroworkers.conversations.acp.texts import error_text
from kiroworkers.errors import FailureKind
from kiroworkers.images import Image, without_images
from tests.conversations.acp.agent import INITIALIZED, Agent, read
from tests.test_images import encoded, png


def greeting(**capabilities: Any) -> dict[str, Any]:
    """
    Return the response to the first request of an agent with these abilities.
    """
    result = {**INITIALIZED, "agentCapabilities": {"promptCapabilities": capabilities}}
    schema.InitializeResponse.model_validate(result)
    return result


def blocks(text: str, images: Sequence[Image]) -> list[Any]:
    """
    Return the content blocks of a prompt.
    """
    return [
        {"type": "text", "text": text},
        *({"type": "image", "mimeType": image.media_type, "data": image.data} for image in images),
    ]


class PromptTests(SynchronousTestCase):
    """
    Tests for `AcpConversation.ask` with images.
    """

    def test_capability(self) -> None:
        """
        Only an agent that says so accepts images, once it has said so.
        """
        for result, accepts in (
            (greeting(image=True, audio=True), True),
            (greeting(image=False), False),
            (greeting(audio=True, embeddedContext=True), False),
            (INITIALIZED, False),
            ({**INITIALIZED, "agentCapabilities": {"promptCapabilities": {"image": 1}}}, False),
            ({**INITIALIZED, "agentCapabilities": {"promptCapabilities": ["image"]}}, False),
            ({**INITIALIZED, "agentCapabilities": None}, False),
        ):
            conversation = Agent(greeting=result).conversation
            self.assertEqual(conversation.accepts_images, accepts, result)

    def test_prompt(self) -> None:
        """
        The images follow the text in their order, as blocks of the protocol.
        """
        agent = Agent(greeting=greeting(image=True)).started()
        images = [png(b"1"), png(b"22")]
        [message] = read(agent.conversation.ask("What?", images=images))
        self.assertEqual(message["params"]["prompt"], blocks("What?", images))
        agent.last_id = message["id"]
        self.assertEqual(agent.stop(), [Answered("", "response")])
        self.assertEqual(agent.ask("And?")["params"]["prompt"], blocks("And?", []))

    def test_after_model(self) -> None:
        """
        Images wait with their text until the model is selected, and are sent once.
        """
        agent = Agent.v2()
        images = [png()]
        [select] = read(agent.conversation.ask("What?", "haiku", images))
        self.assertEqual(select["method"], "session/set_model")
        agent.last_id = select["id"]
        agent.result({})
        self.assertEqual(agent.next_request()["params"]["prompt"], blocks("What?", images))
        agent.stop()
        self.assertEqual(agent.ask("And?", "haiku")["params"]["prompt"], blocks("And?", []))

    def test_without_model(self) -> None:
        """
        The images of a turn that is given up, or has no model, are not sent with a later prompt.
        """
        agent = Agent.v2()
        self.assertEqual(agent.conversation.ask("What?", "gpt", [png()]), b"")
        agent.conversation.on_quiet()
        self.assertEqual(agent.ask("And?")["params"]["prompt"], blocks("And?", []))
        agent.stop()
        [select] = read(agent.conversation.ask("What?", "haiku", [png()]))
        self.assertEqual(agent.conversation.interrupt(), b"")
        agent.last_id = select["id"]
        self.assertEqual(agent.result({}), [Ready()])
        self.assertEqual(agent.data_to_send(), [])
        self.assertEqual(agent.ask("And?", "haiku")["params"]["prompt"], blocks("And?", []))

    def test_bad_image(self) -> None:
        """
        An agent that cannot read an image fails the turn, and its session is not used again.
        """
        agent = Agent.v2()
        [message] = read(agent.conversation.ask("What?", images=[png()]))
        agent.last_id = message["id"]
        [failure] = agent.error(-32603, "Internal error", "Could not process image")
        self.assertEqual(
            failure,
            AgentFailure(
                FailureKind.AGENT_ERROR, "-32603: Internal error (Could not process image)"
            ),
        )
        self.assertEqual(agent.clear()["method"], "session/new")

    def test_quoted_in_error(self) -> None:
        """
        An error that quotes an image is reported without it.
        """
        data = encoded(bytes(400))
        for quote in (f"data:image/png;base64,{data}", f'{{"data":"{data}"}}'):
            text = error_text({"code": -32603, "message": f"bad image {quote}"})
            self.assertNotIn("AAAA", text)
            self.assertIn("(base64 left out)", text)

    def test_terminal(self) -> None:
        """
        An agent with a terminal accepts no images.
        """
        conversation = Agent().conversation
        self.assertFalse(conversation.accepts_images)
        self.assertEqual(load_dialect("kiro-classic").transport, "terminal")


class ShownTests(SynchronousTestCase):
    """
    Tests for what viewers of a session see of an image.
    """

    def shown(self, frame: bytes) -> list[ShownMessage]:
        return MessageReader().sent(frame)

    def test_described(self) -> None:
        """
        A prompt is shown with the type and the size of each image.
        """
        images = [png(b"1" * 300), png(b"2")]
        frame = json.dumps(
            {
                "jsonrpc": "2.0",
                "id": 1,
                "method": "session/prompt",
                "params": {"sessionId": "s", "prompt": blocks("What?", images)},
            }
        ).encode()
        described = "What?\n[image (image/png, 308 bytes)]\n[image (image/png, 9 bytes)]"
        self.assertEqual(
            self.shown(without_images(frame, images) + b"\n"), [ShownMessage("user", described)]
        )
        # A recording of another program may have the bytes.
        self.assertEqual(
            self.shown(frame + b"\n"), [ShownMessage("user", "What?\n[image]\n[image]")]
        )
