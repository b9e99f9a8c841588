"""
End-to-end tests for the choice of a model, what a turn costs, and the tools that an operator
allows.
"""

from __future__ import annotations

import json
from typing import Any

import treq

from tests.end_to_end.test_acp import AcpServerTestCase
from tests.end_to_end.test_answers import events_in


class KiroTests(AcpServerTestCase):
    """
    Tests for Kiro over ACP.
    """

    async def test_models(self) -> None:
        """
        The client's model answers, and the session's own answers the next request; models that
        clients may not choose, or that Kiro does not offer, are refused without a turn.
        """
        await self.start_acp("--model", "claude-haiku-4.5", "--models", "claude-*")
        for model, expected in (
            ("claude-sonnet-5", "claude-sonnet-5"),
            (None, "claude-haiku-4.5"),
            ("auto", None),
            ("claude-opus-9", None),
        ):
            headers = {} if model is None else {"X-Model": model}
            response, body = await self.story("An idea [[whose]]", headers=headers)
            if expected is None:
                self.assertEqual((response.code, body["code"]), (400, "unknown_model"))
                self.assertEqual(body["field"], "X-Model")
            else:
                self.assertEqual((response.code, body["iWant"]), (200, f"{expected}'s answer"))
        _, body = await self.fetch("GET", "/v1/models")
        names = [entry["id"] for entry in body["data"]]
        self.assertEqual(names[-2:], ["kiro/claude-haiku-4.5", "kiro/claude-sonnet-5"])
        for name in ("kiro/claude-sonnet-5", "kiro%2Fclaude-sonnet-5"):
            response, body = await self.fetch("GET", f"/v1/models/{name}")
            self.assertEqual((response.code, body["id"]), (200, "kiro/claude-sonnet-5"))

    async def test_usage(self) -> None:
        """
        The credits and the share of the context that Kiro reports are in the headers.
        """
        await self.start_acp()
        response, _ = await self.story("An idea")
        self.assertGreater(float(self.header(response, "x-kiroworkers-credits")), 0)
        self.assertGreater(float(self.header(response, "x-kiroworkers-context")), 0)
        await self.server.says(r"access_log.* credits=0\.\d")

    async def test_events(self) -> None:
        """
        A stream has what Kiro tells about the turn, and says when the text so far is void.
        """
        await self.start_acp()
        headers: Any = {"Accept": "text/event-stream"}
        response = await treq.post(
            f"{self.base}/kiro/generate-story",
            json={"idea": "An idea [[compact stall=1 discard]]"},
            headers=headers,
            persistent=False,
        )
        events: list[tuple[str, Any]] = events_in((await response.content()).decode())
        kinds = {data["kind"] for name, data in events if name == "notice"}
        self.assertEqual(kinds, {"compaction", "stall"})
        self.assertEqual([data["where"] for name, data in events if name == "retry"], ["same_turn"])
        names = [name for name, _ in events]
        self.assertEqual(names[-2:], ["headers", "answer"])
        start = names.index("retry")
        text = "".join(data["text"] for name, data in events[start:] if name == "text")
        story = text[text.index("{") : text.rindex("}") + 1]
        self.assertEqual(json.loads(story), events[-1][1])

    async def test_operator_decides(self) -> None:
        """
        With --tools ask, the turn goes on when an operator has decided.
        """
        await self.start_acp("--tools", "ask")
        story = self.story("An idea [[approve]]")
        await self.server.says(r"an operator must decide about a tool \(approval (\w+)\)")
        _, body = await self.fetch("GET", "/operator/approvals")
        [approval] = body["approvals"]
        path = f"/operator/approvals/{approval['id']}"
        response, _ = await self.fetch("POST", path, json={"decision": "allow"})
        self.assertEqual(response.code, 200)
        response, body = await story
        self.assertEqual(response.code, 200, body)
        self.assertEqual(self.header(response, "x-kiroworkers-tools-allowed"), "1")
        response, body = await self.fetch("POST", path, json={"decision": "deny"})
        self.assertEqual((response.code, body["code"]), (404, "unknown_approval"))
