"""
Tests for the agents' tools: how they are counted, and how operators decide about them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from twisted.logger import capturedLogs, eventAsText
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.session.tool_policy import ToolPolicy
from kiroworkers.testing import MemoryKiro
from tests import fakekiro
from tests.web.test_errors import STORY, TOKEN, MemoryServer, Response, ScriptedAcp


class AskingKiro(MemoryKiro):
    """
    A Kiro that asks to use a tool for each prompt, and answers if it may.
    """

    def __init__(self) -> None:
        super().__init__(self._ask)
        self._prompt = ""

    def _ask(self, prompt: str) -> None:
        self._prompt = prompt
        self.ask_approval()

    def say(self, text: str) -> None:
        answer = fakekiro.answer_text(self._prompt) if text == "allowed" else text
        super().say(answer or "")


def read_and_answer(acp: ScriptedAcp) -> None:
    """
    Use a tool that only reads, without asking, and answer.
    """
    acp.use_tool("read")
    acp.chunk(fakekiro.answer_text(acp.typed[-1]) or "")
    acp.end_turn()


class UnaskedTests(SynchronousTestCase):
    """
    Tests for tools that an agent uses without asking.
    """

    def test_read(self) -> None:
        """
        A tool that only reads is counted in a header and in the log, and is no error.
        """
        server = MemoryServer(lambda: ScriptedAcp(read_and_answer), "acp")
        with capturedLogs() as events:
            response = server.story()
        self.assertEqual(response.status, 200, response)
        self.assertEqual(response.headers["x-kiroworkers-tools-unasked"], "1")
        self.assertTrue(any(" tools_unasked=1 " in eventAsText(event) for event in events))

    def test_none(self) -> None:
        """
        Without such a tool there is no header.
        """
        self.assertNotIn("x-kiroworkers-tools-unasked", MemoryServer().story().headers)


class ApprovalsTests(SynchronousTestCase):
    """
    Tests for a server that runs with ``--tools ask``.
    """

    def begin(self, **options: Any) -> None:
        """
        Start a server, and send it a request whose agent asks to use a tool.
        """
        session = {"tools": ToolPolicy.ASK}
        self.server = MemoryServer(AskingKiro, session=session, **options)
        self.story = self.send()
        self.server.settle()

    def send(self, **headers: str) -> Callable[[], Response]:
        headers = {"Authorization": f"Bearer {TOKEN}", **headers}
        return self.server.begin("POST", STORY, {"idea": "An idea"}, **headers)

    def get(self, path: str) -> Any:
        return json.loads(self.server.request("GET", path).content)

    def decide(self, id: str, body: Any) -> Response:
        return self.server.request("POST", f"/operator/approvals/{id}", body)

    def test_listed(self) -> None:
        """
        An operator sees what waits for a decision, with the agent's question, and which request
        it belongs to.
        """
        self.begin()
        [approval] = self.get("/operator/approvals")["approvals"]
        question = approval.pop("question")
        self.assertIn("Allow this action?", question)
        age, left = approval.pop("age"), approval.pop("timeLeft")
        # It was sent a moment before the agent asked.
        self.assertIn(age + left, range(119_800, 120_001))
        self.assertEqual(
            approval, {"id": "approval1", "agent": "kiro", "worker": "worker1", "request": 1}
        )
        [request] = self.get("/operator/queue")["requests"]
        self.assertEqual((request["id"], request["approval"]), (1, "approval1"))
        self.assertEqual(self.get("/operator/approvals?agent=kiro")["approvals"][0]["request"], 1)
        response = self.server.request("GET", "/operator/approvals?agent=q")
        self.assertEqual((response.status, response.error["field"]), (400, "agent"))

    def test_allowed(self) -> None:
        """
        A tool that an operator allows is used, the request is answered, and nothing waits any
        more; the log names the operator's client and the approval.
        """
        self.begin()
        with capturedLogs() as events:
            response = self.decide("approval1", {"decision": "allow"})
        self.assertEqual(response.status, 200)
        self.assertEqual(json.loads(response.content), {"id": "approval1", "decision": "allow"})
        lines = [eventAsText(event, includeTimestamp=False) for event in events]
        self.assertTrue(
            any("operator 127.0.0.1: allow approval approval1" in line for line in lines), lines
        )
        [action] = [event for event in events if "operator" in event]
        self.assertEqual(action["requestId"], response.headers["x-request-id"])
        story = self.story()
        self.assertEqual((story.status, story.headers["x-kiroworkers-tools-allowed"]), (200, "1"))
        self.assertEqual(self.get("/operator/approvals"), {"approvals": []})

    def test_denied(self) -> None:
        """
        A tool that an operator denies is not used, and the answer does not fit.
        """
        self.begin()
        self.assertEqual(self.decide("approval1", {"decision": "deny"}).status, 200)
        # The agent is asked once more in the same conversation, and asks again.
        self.assertEqual(self.decide("approval2", {"decision": "deny"}).status, 200)
        for number in (3, 4):
            self.decide(f"approval{number}", {"decision": "deny"})
        story = self.story()
        self.assertEqual((story.status, story.error["code"]), (502, "approval_denied"))

    def test_undecided(self) -> None:
        """
        A request that nobody decides about ends at its deadline, and its approval with it.
        """
        self.begin(request_timeout=5.0)
        self.server.settle(4)
        self.assertEqual(self.story().status, 504)
        self.assertEqual(self.get("/operator/approvals"), {"approvals": []})
        response = self.decide("approval1", {"decision": "allow"})
        self.assertEqual((response.status, response.error["code"]), (404, "unknown_approval"))

    def test_decided_once(self) -> None:
        """
        An approval that is unknown or was decided gets 404, and the decision stays.
        """
        self.begin()
        self.decide("approval1", {"decision": "allow"})
        for id in ("approval1", "x" * 1000, "%00"):
            response = self.decide(id, {"decision": "deny"})
            self.assertEqual((response.status, response.error["code"]), (404, "unknown_approval"))
            self.assertLess(len(response.content), 300)
        self.assertEqual(self.story().status, 200)

    def test_bodies(self) -> None:
        """
        A body without a valid decision gets 400, which names the field, and decides nothing.
        """
        self.begin()
        decisions: list[Any] = ["yes", "", True, ["allow"], {"allow": True}, None]
        bodies: list[Any] = [{}, [], "allow", None]
        bodies += [{"decision": decision} for decision in decisions]
        for body in bodies:
            response = self.decide("approval1", body)
            self.assertEqual((response.status, response.error["field"]), (400, "decision"), body)
        self.assertEqual(len(self.get("/operator/approvals")["approvals"]), 1)

    def test_operators_only(self) -> None:
        """
        A client that may only ask cannot decide about its own request.
        """
        self.begin(scopes="ask")
        headers = {"Authorization": f"Bearer {TOKEN}"}
        path = "/operator/approvals"
        for response in (
            self.server.request("GET", path, **headers),
            self.server.request("POST", f"{path}/approval1", {"decision": "allow"}, **headers),
        ):
            self.assertEqual((response.status, response.error["code"]), (403, "wrong_scope"))
