"""
Tests that a session tells its observer what happens.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.conversations import (
    AgentFailure,
    Answered,
    Cleared,
    NeedsApproval,
    Ready,
    Submitted,
    TextChunk,
    TextDiscarded,
    ToolUsed,
)
from kiroworkers.errors import FailureKind
from kiroworkers.request_record import EventData, EventName, RequestRecord
from kiroworkers.session.state import SessionState
from tests.memory import results_of, why
from tests.session.scripted import ScriptedSession
from tests.telemetry.test_observers import CallList
from tests.test_images import png


class ObserverTests(SynchronousTestCase):
    """
    Tests for the observer of a session, and for the events of the request of a turn.
    """

    def setUp(self) -> None:
        self.seen = CallList()
        self.events: list[tuple[EventName, EventData]] = []
        self.record = RequestRecord(
            on_event=lambda record, name, data: self.events.append((name, data))
        )
        self.scripted = ScriptedSession(observer=self.seen)
        self.session = self.scripted.session
        self.report(Ready(), at_prompt=True)
        self.seen.calls.clear()

    def report(self, *events: Any, at_prompt: bool | None = None) -> None:
        self.scripted.report(*events, at_prompt=at_prompt)

    def ask(self, prompt: str = "prompt") -> Any:
        return results_of(self.session.ask(prompt, record=self.record))

    def changes(self) -> list[str]:
        """
        Return the changes of the session's state.
        """
        return [
            f"{old.value} {new.value} {reason}".rstrip()
            for call in self.seen.calls
            for old, new, reason in [call if len(call) == 3 else (None, None, "")]
            if isinstance(old, SessionState) and isinstance(new, SessionState)
        ]

    def names(self) -> list[str]:
        return [name for name, _ in self.events]

    def test_images(self) -> None:
        """
        The observer learns of the type and the size of each image, and sees none of their bytes,
        even if they are sent only when the model is selected.
        """
        conversation = self.scripted.conversation
        conversation.accepts_images = True
        images = [png(b"1" * 300), png(b"2")]
        frame = f'["{images[0].data}","{images[1].data}"]\n'.encode()
        described = b'["(image/png, 308 bytes)","(image/png, 9 bytes)"]\n'
        self.session.ask("prompt", record=self.record, images=images)
        self.assertEqual(conversation.calls[-1], ("ask", "prompt", "", *images))
        text = "[image 1: image/png, 308 bytes]\n[image 2: image/png, 9 bytes]\nprompt"
        self.assertIn((self.record, text), self.seen.calls)
        conversation.late_data = frame
        self.report()
        self.assertIn(("typed", described), self.seen.calls)
        [program] = self.scripted.reactor.programs
        self.assertEqual(program.typed[-1], frame.decode())
        self.assertNotIn(images[0].data[:100], str(self.seen.calls))
        self.report(Answered("fine", "prompt"), at_prompt=True)
        self.assertEqual(self.session._turn.images, ())
        self.session.ask_again("again")
        self.assertEqual(conversation.calls[-1], ("ask", "again", ""))
        self.assertIn((self.record, "again"), self.seen.calls)

    def test_images_in_stderr(self) -> None:
        """
        An image that the agent logs is left out.
        """
        logged = b"got data:image/png;base64,%b!\n"
        self.session._feed_stderr(logged % (b"A" * 300))
        self.assertIn(("stderr", logged % b"(base64 left out)"), self.seen.calls)
        self.assertEqual(self.scripted.conversation.stderr, logged % b"(base64 left out)")

    def test_turn(self) -> None:
        """
        The observer learns of each state, of the prompt and the reply, and of each byte.
        """
        self.ask()
        self.report(Submitted())
        self.report(Answered("fine", "prompt"), at_prompt=True)
        self.session.end_turn()
        self.report(Cleared(), at_prompt=True)
        self.assertEqual(
            self.changes(), ["idle busy", "busy answered", "answered clearing", "clearing idle"]
        )
        self.assertIn((self.record, "prompt"), self.seen.calls)
        self.assertIn(("fine",), self.seen.calls)
        self.assertEqual(
            [call for call in self.seen.calls if call[0] == "typed"],
            [("typed", b"ask\r"), ("typed", b"clear\r")],
        )
        self.assertGreater(len([call for call in self.seen.calls if call[0] == "output"]), 2)
        self.assertEqual(self.names(), ["submitted", "first_output", "cleared"])

    def test_first_output(self) -> None:
        """
        The first output is the beginning of the answer, not a spinner; without one, it is the
        end of the turn.
        """
        self.ask()
        self.report(Submitted())
        self.report()
        self.assertEqual(self.names(), ["submitted"])
        self.report(TextChunk("a"), TextChunk("b"))
        self.assertEqual(self.names(), ["submitted", "first_output"])
        self.report(Answered("ab", "prompt"), at_prompt=True)
        self.assertEqual(self.names(), ["submitted", "first_output"])

    def test_end(self) -> None:
        """
        The observer learns why the session ends, and that it has ended.
        """
        self.session.stop(why("not needed"))
        self.scripted.reactor.pump([0.1] * 10)
        self.assertEqual(self.changes(), ["idle stopping not needed", "stopping gone not needed"])

    def test_cancelled(self) -> None:
        """
        A turn that is cancelled is interrupted and cleared, and the request learns of both.
        """
        reply = self.session.ask("prompt", record=self.record)
        results_of(reply)
        self.report(Submitted())
        reply.cancel()
        self.report(Ready(), at_prompt=True)
        self.scripted.reactor.pump([0.1] * 10)
        self.report(Cleared(), at_prompt=True)
        self.assertEqual(self.names(), ["submitted", "interrupted", "cleared"])
        self.assertEqual(self.events[1][1], {"worker": "worker1"})

    def test_failed(self) -> None:
        """
        The conversation of a turn that has failed is cleared for the request that failed.
        """
        self.ask()
        self.report(AgentFailure(FailureKind.AGENT_ERROR, "oops"), at_prompt=True)
        self.report(Cleared(), at_prompt=True)
        self.assertEqual(self.names(), ["cleared"])

    def test_next_turn(self) -> None:
        """
        The events of a turn are not told to the request of the turn before.
        """
        self.test_turn()
        self.events.clear()
        self.record = RequestRecord()
        self.ask()
        self.report(Submitted())
        self.assertEqual(self.events, [])

    def test_tools(self) -> None:
        """
        The request learns of each question about a tool, its answer, and each use.
        """
        self.ask()
        self.report(NeedsApproval("run ls?"), at_prompt=True)
        self.report(ToolUsed("read a", "read", False))
        self.report(TextDiscarded())
        self.assertEqual(
            [event for event in self.events if event[0] != "first_output"],
            [
                ("tool_asked", {"question": "run ls?"}),
                ("tool_decided", {"allowed": False}),
                ("tool_used", {"title": "read a", "access": "read", "asked": False}),
                (
                    "retry",
                    {
                        "reason": "the agent's service restarted its answer",
                        "where": "same_turn",
                    },
                ),
            ],
        )
