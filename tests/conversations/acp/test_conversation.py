"""
Tests for `kiroworkers.conversations.acp.conversation`.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.conversations import (
    AgentFailure,
    Answered,
    Cleared,
    LateOutput,
    NeedsApproval,
    NotCleared,
    Overflowed,
    Ready,
    Submitted,
    TextChunk,
    Working,
    load_dialect,
    new_conversation,
)
from kiroworkers.errors import FailureKind
from tests.conversations.acp.agent import CLOSES, NEVER, OPTIONS, Agent, read
from tests.conversations.acp.test_jsonrpc import cut

_NO_SESSION_ID = AgentFailure(FailureKind.PROTOCOL, "the agent returned no session ID")


class AcpTests(SynchronousTestCase):
    """
    Tests for `AcpConversation`.
    """

    def test_start(self) -> None:
        """
        The conversation introduces itself, then makes a session, and only then is at the
        prompt.
        """
        agent = Agent()
        self.assertEqual(agent.events, [])
        self.assertFalse(agent.conversation.at_prompt)
        agent.started()
        self.assertTrue(agent.conversation.at_prompt)
        self.assertTrue(agent.conversation.can_clear)
        self.assertEqual(agent.data_to_send(), [])

    def test_other_version(self) -> None:
        """
        An agent that speaks another version of the protocol is a failure, and nothing more
        is sent to it.
        """
        agent = Agent(greeting={"protocolVersion": 2})
        [event] = agent.events
        self.assertEqual(event, agent.conversation.failure)
        self.assertEqual(
            event, AgentFailure(FailureKind.PROTOCOL, "the agent speaks ACP version 2, not 1")
        )
        self.assertEqual(agent.data_to_send(), [])

    def test_login_required(self) -> None:
        """
        An agent without a login reports that when a session is requested.
        """
        agent = Agent()
        agent.last_id = agent.data_to_send()[0]["id"]
        events = agent.error(-32000, "Authentication required")
        self.assertEqual(
            events, [AgentFailure(FailureKind.LOGIN_REQUIRED, "-32000: Authentication required")]
        )
        self.assertEqual(agent.conversation.failure, events[0])

    def test_late_output(self) -> None:
        """
        Output of a turn that arrives after its end is reported as such, and a usage
        update is not output.
        """
        agent = Agent().started()
        agent.ask()
        agent.chunk("Well. ")
        self.assertEqual(agent.stop(), [Answered("Well. ", "response")])
        self.assertEqual(agent.chunk("Late."), [LateOutput("Late.")])
        thought: Any = {"type": "text", "text": "Hm."}
        update: Any = {"sessionUpdate": "agent_thought_chunk", "content": thought}
        self.assertEqual(agent.update(**update), [LateOutput("")])
        usage: Any = {"sessionUpdate": "usage_update", "used": 1, "size": 2}
        self.assertEqual(agent.update(**usage), [])
        agent.clear()
        self.assertEqual(agent.chunk("Later still."), [])
        agent.session("s2")
        self.assertEqual(agent.chunk("Much later."), [])
        self.assertEqual(agent.chunk("Nobody asked yet.", session="s2"), [])

    def test_missing_session_id(self) -> None:
        """
        A session without an id, or with one that is too long to be remembered, is a failure.
        """
        for id in (None, "", 7, "x" * 1000):
            agent = Agent()
            agent.next_request()
            self.assertEqual(agent.result({"sessionId": id}), [_NO_SESSION_ID])
            self.assertFalse(agent.conversation.at_prompt)

    def test_handshake(self) -> None:
        """
        The first request says who the client is, and what it can do: nothing.
        """
        conversation = new_conversation(load_dialect("kiro-acp"), 1000)
        [initialize] = read(conversation.data_to_send())
        params = initialize["params"]
        self.assertEqual(params["clientInfo"]["name"], "kiroworkers")
        self.assertEqual(
            params["clientCapabilities"],
            {"fs": {"readTextFile": False, "writeTextFile": False}, "terminal": False},
        )

    def test_used_session_id(self) -> None:
        """
        A session id that was used before is a failure, because that session would remember
        an earlier conversation.
        """
        agent = Agent(greeting=CLOSES).started()
        for name in ("s2", "s1"):
            agent.clear()
            [event] = agent.session(name)
        assert isinstance(event, AgentFailure), event
        self.assertEqual(event.kind, FailureKind.PROTOCOL)
        self.assertIn("the agent resumed session s1", event.detail)
        self.assertFalse(agent.conversation.at_prompt)

    def test_recent_output(self) -> None:
        """
        Standard error, and lines that are not messages, are the recent output, and may
        explain a failure before there is a session.
        """
        agent = Agent()
        agent.conversation.feed_stderr(b"\x1b[31mfetch failed\x1b[0m\n")
        agent.conversation.feed(b"no JSON\n")
        self.assertEqual(agent.conversation.recent_output, "fetch failed\nno JSON")
        self.assertEqual(
            agent.conversation.failure, AgentFailure(FailureKind.NETWORK, "fetch failed")
        )
        agent.started()
        self.assertIs(agent.conversation.failure, None)

    def test_recent_output_is_bounded(self) -> None:
        """
        Only the end of standard error is kept.
        """
        agent = Agent().started()
        for _ in range(1000):
            agent.conversation.feed_stderr(b"x" * 1000)
        self.assertLessEqual(len(agent.conversation.recent_output), 8192)

    def test_turn(self) -> None:
        """
        The answer consists of the message chunks, without thoughts and plans, and the
        response is the end of the turn.
        """
        agent = Agent().started()
        message = agent.ask("What is 1 + 1?\n\x1b[31m")
        prompt = [{"type": "text", "text": "What is 1 + 1?\n\x1b[31m"}]
        self.assertEqual(message["params"], {"sessionId": "s1", "prompt": prompt})
        self.assertFalse(agent.conversation.at_prompt)
        content = {"type": "text", "text": "hm"}
        thought = agent.update(sessionUpdate="agent_thought_chunk", content=content)
        self.assertEqual(thought, [Submitted()])
        self.assertEqual(agent.chunk("It is "), [TextChunk("It is ")])
        call = agent.update(sessionUpdate="tool_call", toolCallId="1", title="add")
        self.assertEqual(call, [Working("add")])
        self.assertEqual(agent.update(sessionUpdate="plan", entries=[]), [])
        self.assertEqual(agent.chunk("2.\n"), [TextChunk("2.\n")])
        self.assertEqual(agent.stop(), [Answered("It is 2.\n", "response")])
        self.assertTrue(agent.conversation.at_prompt)

    @given(st.lists(st.integers(0, 600)))
    def test_cut(self, places: list[int]) -> None:
        """
        A turn is the same wherever its bytes are cut.
        """
        agent = Agent().started()
        agent.ask()
        lines: list[dict[str, Any]] = [
            {
                "method": "session/update",
                "params": {
                    "sessionId": "s1",
                    "update": {
                        "sessionUpdate": "agent_message_chunk",
                        "content": {"type": "text", "text": text},
                    },
                },
            }
            for text in ("größer ", "🎉")
        ]
        lines.append({"id": agent.last_id, "result": {"stopReason": "end_turn"}})
        data = b"".join(json.dumps(line, ensure_ascii=False).encode() + b"\n" for line in lines)
        events = [e for piece in cut(data, places) for e in agent.conversation.feed(piece)]
        self.assertEqual(events[-1], Answered("größer 🎉", "response"))

    def test_cut_surrogate_pair(self) -> None:
        """
        A character that the agent cut in two is joined again; half a character is replaced.
        """
        agent = Agent().started()
        agent.ask()
        for piece in ("\ud83c", "\udf89", " \ud83c"):
            agent.chunk(piece)
        self.assertEqual(agent.stop(), [Answered("🎉 �", "response")])

    def test_clear(self) -> None:
        """
        A new session is the clear, and late output of the old session is ignored.
        """
        agent = Agent().started()
        agent.ask()
        agent.stop()
        self.assertEqual(agent.clear()["method"], "session/new")
        self.assertFalse(agent.conversation.at_prompt)
        self.assertEqual(agent.session("s2"), [Cleared()])
        self.assertEqual(agent.data_to_send(), [])
        self.assertEqual(agent.ask()["params"]["sessionId"], "s2")
        self.assertEqual(agent.chunk("late"), [])
        self.assertEqual(agent.chunk("mine", "s2"), [Submitted(), TextChunk("mine")])
        self.assertEqual(agent.stop(), [Answered("mine", "response")])

    def test_close(self) -> None:
        """
        An agent that can close sessions is told to close the one that was left.
        """
        agent = Agent(greeting=CLOSES).started()
        agent.clear()
        self.assertEqual(agent.session("s2"), [Cleared()])
        [close] = agent.data_to_send()
        self.assertEqual((close["method"], close["params"]), ("session/close", {"sessionId": "s1"}))
        self.assertEqual(agent.say(id=close["id"], error={"code": 1, "message": "no"}), [])
        self.assertIs(agent.conversation.failure, None)

    def test_delete(self) -> None:
        """
        An agent that can delete sessions as well keeps nothing of the one that was left.
        """
        offered: dict[str, Any] = {"list": {}, "delete": {}, "close": {}}
        capabilities = {"sessionCapabilities": offered}
        agent = Agent(greeting={**CLOSES, "agentCapabilities": capabilities}).started()
        agent.clear()
        self.assertEqual(agent.session("s2"), [Cleared()])
        written = [(request["method"], request["params"]) for request in agent.data_to_send()]
        params = {"sessionId": "s1"}
        self.assertEqual(written, [("session/close", params), ("session/delete", params)])

    def test_not_cleared(self) -> None:
        """
        A new session that the agent refuses is reported as not cleared.
        """
        agent = Agent().started()
        agent.clear()
        self.assertEqual(agent.error(-32603, "too many"), [NotCleared("-32603: too many")])

    def test_stop_reasons(self) -> None:
        """
        Every other stop reason is a failure of its own kind, and does not affect the next
        turn.
        """
        for reason, kind in (
            ("max_tokens", "max_tokens"),
            ("max_turn_requests", "max_turn_requests"),
            ("refusal", "refusal"),
            ("cancelled", "cancelled"),
            ("of_the_future", "agent_error"),
        ):
            agent = Agent().started()
            agent.ask()
            agent.chunk("half an ans")
            [event] = agent.stop(reason)
            assert isinstance(event, AgentFailure), event
            self.assertEqual((event.kind, event), (kind, agent.conversation.failure))
            self.assertTrue(agent.conversation.at_prompt)
            agent.clear()
            self.assertIs(agent.conversation.failure, None)

    def test_errors(self) -> None:
        """
        The kind of a failure is known by its code or its text, in whichever field the text
        is.
        """
        for error, expected in (
            ((-32000, "Odd"), AgentFailure(FailureKind.AGENT_ERROR, "-32000: Odd")),
            (
                (-32000, "Not logged in"),
                AgentFailure(FailureKind.LOGIN_REQUIRED, "-32000: Not logged in"),
            ),
            ((429, "Slow down"), AgentFailure(FailureKind.THROTTLED, "429: Slow down")),
            (
                (-32603, "Internal error", {"details": "Rate limit: wait 7 s"}),
                AgentFailure(
                    FailureKind.THROTTLED, "-32603: Internal error (Rate limit: wait 7 s)", 7
                ),
            ),
            (
                (-32603, "Internal error", {"request": "a story on rate limits"}),
                AgentFailure(FailureKind.AGENT_ERROR, "-32603: Internal error"),
            ),
            (
                (1, "\x1b]0;title\x07\x1b[2Jwiped \ud800"),
                AgentFailure(FailureKind.AGENT_ERROR, "1: wiped ?"),
            ),
            ((-32603, "oops\n" * 1000), None),
        ):
            agent = Agent().started()
            agent.ask()
            [event] = agent.error(*error)
            assert isinstance(event, AgentFailure), event
            if expected is None:
                self.assertEqual(event.kind, "agent_error")
                self.assertLessEqual(len(event.detail), 300)
            else:
                self.assertEqual(event, expected)

    def test_interrupt(self) -> None:
        """
        An interrupted turn is cancelled at once; however it ends, that end is only reported
        as ready.
        """
        for end in ("cancelled", "end_turn"):
            agent = Agent().started()
            agent.ask()
            [cancel] = read(agent.conversation.interrupt())
            self.assertEqual(cancel["method"], "session/cancel")
            self.assertEqual(cancel["params"], {"sessionId": "s1"})
            self.assertEqual(agent.chunk("late"), [])
            self.assertEqual(agent.stop(end), [Ready()])
            self.assertEqual(agent.conversation.interrupt(), b"")
        agent = Agent().started()
        agent.ask()
        agent.conversation.interrupt()
        self.assertEqual(agent.error(-32603, "aborted"), [Ready()])
        self.assertIs(agent.conversation.failure, None)

    def test_deny(self) -> None:
        """
        A tool is denied by an option that rejects, or by cancelling where there is none.
        """
        for options, outcome in (
            (OPTIONS, {"outcome": "selected", "optionId": "no"}),
            (OPTIONS[:2], {"outcome": "cancelled"}),
            ([*OPTIONS[:2], NEVER], {"outcome": "selected", "optionId": "never"}),
            ([], {"outcome": "cancelled"}),
            ("nonsense", {"outcome": "cancelled"}),
        ):
            agent = Agent().started()
            agent.ask()
            self.assertEqual(agent.ask_permission("x", options), [NeedsApproval("rm -rf", "1")])
            [response] = read(agent.conversation.deny())
            self.assertEqual((response["id"], response["result"]["outcome"]), ("x", outcome))
            self.assertEqual(agent.conversation.deny(), b"")

    def test_allow(self) -> None:
        """
        A tool is allowed once, never for longer.
        """
        for options, outcome in (
            (OPTIONS, {"outcome": "selected", "optionId": "yes"}),
            (OPTIONS[:1], {"outcome": "cancelled"}),
        ):
            agent = Agent().started()
            agent.ask()
            agent.ask_permission(0, options)
            [response] = read(agent.conversation.allow())
            self.assertEqual((response["id"], response["result"]["outcome"]), (0, outcome))

    def test_two_questions(self) -> None:
        """
        Simultaneous questions are answered one by one, in their order.
        """
        agent = Agent().started()
        agent.ask()
        agent.ask_permission(1)
        agent.ask_permission(2)
        for number in (1, 2):
            [response] = read(agent.conversation.allow())
            self.assertEqual(
                (response["id"], response["result"]["outcome"]["optionId"]), (number, "yes")
            )
        self.assertEqual(agent.data_to_send(), [])

    def test_question_at_the_end(self) -> None:
        """
        A question that is open when the turn ends is cancelled, and so is a question of
        another session.
        """
        agent = Agent().started()
        agent.ask()
        agent.ask_permission(1)
        agent.stop()
        self.assertEqual(agent.conversation.deny(), b"")
        agent.clear()
        agent.session("s2")
        agent.ask()
        self.assertEqual(agent.ask_permission(2, session="s1"), [])
        outcomes = {
            response["id"]: response["result"]["outcome"]["outcome"]
            for response in agent.data_to_send()
        }
        self.assertEqual(outcomes, {1: "cancelled", 2: "cancelled"})

    def test_question_in_an_interrupt(self) -> None:
        """
        An interrupt cancels open questions, and later ones of that turn.
        """
        agent = Agent().started()
        agent.ask()
        agent.ask_permission(1)
        response, cancel = read(agent.conversation.interrupt())
        self.assertEqual(
            (response["id"], response["result"]["outcome"]["outcome"]), (1, "cancelled")
        )
        self.assertEqual(cancel["method"], "session/cancel")
        self.assertEqual(agent.ask_permission(2), [])
        [second] = agent.data_to_send()
        self.assertEqual((second["id"], second["result"]["outcome"]["outcome"]), (2, "cancelled"))

    def test_unknown_request(self) -> None:
        """
        A request for a feature that is not supported is refused, so that the agent need not
        wait.
        """
        agent = Agent().started()
        agent.ask()
        self.assertEqual(agent.say(id="f", method="fs/read_text_file", params={"path": "/x"}), [])
        [response] = agent.data_to_send()
        self.assertEqual((response["id"], response["error"]["code"]), ("f", -32601))

    def test_unknown_ids(self) -> None:
        """
        Responses to requests that were never sent change nothing.
        """
        agent = Agent().started()
        agent.ask()
        for id in (0, 999, "1", None):
            self.assertEqual(agent.say(id=id, result={"stopReason": "end_turn"}), [])
        self.assertFalse(agent.conversation.at_prompt)
        self.assertEqual(agent.stop(), [Answered("", "response")])
        self.assertEqual(agent.stop(), [])

    def test_equal_ids(self) -> None:
        """
        A request of the agent may have the id of one of ours; both get their response.
        """
        agent = Agent().started()
        agent.ask()
        prompt_id = agent.last_id
        self.assertEqual(agent.ask_permission(prompt_id), [NeedsApproval("rm -rf", "1")])
        [response] = read(agent.conversation.deny())
        self.assertEqual(response["id"], prompt_id)
        self.assertEqual(agent.say(id=str(prompt_id), result={"stopReason": "end_turn"}), [])
        self.assertEqual(agent.stop(), [Answered("", "response")])

    def test_odd_responses(self) -> None:
        """
        Whatever a response to the prompt holds, it ends the turn; so does an error without
        an id if no other request is pending.
        """
        for message, detail in (
            ({}, "the turn ended with stop reason None"),
            ({"result": None}, "the turn ended with stop reason None"),
            (
                {"result": {"stopReason": {"x": "y" * 1000}}},
                "the turn ended with stop reason {'x': 'yyy",
            ),
            ({"error": "boom"}, "None: boom"),
            ({"id": None, "error": {"code": -32700, "message": "Parse"}}, "-32700: Parse"),
        ):
            agent = Agent().started()
            agent.ask()
            [event] = agent.say(**{"id": agent.last_id, **message})
            assert isinstance(event, AgentFailure), event
            self.assertEqual(event.kind, "agent_error")
            self.assertTrue(event.detail.startswith(detail), event)
            self.assertLessEqual(len(event.detail), 300)
            self.assertTrue(agent.conversation.at_prompt)

    def test_titles(self) -> None:
        """
        The title of a tool is reported in part, and as plain text.
        """
        agent = Agent(max_output=10_000).started()
        agent.ask()
        title = "\x1b[31mrm \ud800" + "x" * 1000
        [_, event] = agent.update(sessionUpdate="tool_call", toolCallId="1", title=title)
        self.assertEqual(event, Working("rm ?" + "x" * 191))

    def test_overflow(self) -> None:
        """
        A turn with too much output is reported once, and its end is then only reported as
        ready.
        """
        agent = Agent(max_output=1000).started()
        agent.ask()
        agent.chunk("x" * 1000)
        self.assertEqual(agent.chunk("y"), [TextChunk("y"), Overflowed(1000)])
        self.assertEqual(agent.chunk("z" * 500), [])
        self.assertEqual(agent.stop(), [Ready()])

    def test_flood(self) -> None:
        """
        Other messages, and a line without an end, count as output too.
        """
        for flood in (b"{}\n" * 400, b"x" * 100_000, b'{"method": "log", "params": {}}\n' * 40):
            agent = Agent(max_output=1000).started()
            agent.ask()
            self.assertEqual(agent.conversation.feed(flood), [Overflowed(1000)])

    def test_small_chunks(self) -> None:
        """
        Text counts by its length, thoughts as well; the JSON around it counts only where
        there is far more of it.
        """
        agent = Agent(max_output=1000).started()
        agent.ask()
        content = {"type": "text", "text": "y"}
        for _ in range(500):
            agent.update(sessionUpdate="agent_thought_chunk", content=content)
            agent.chunk("x")
        self.assertEqual(agent.stop(), [Answered("x" * 500, "response")])
        agent.clear()
        agent.session("s2")
        agent.ask()
        padded = {"type": "text", "text": "", "_meta": {"x": "y" * 10_000}}
        update = {"sessionUpdate": "agent_message_chunk", "content": padded}
        floods = [agent.update("s2", **update) for _ in range(30)]
        self.assertIn([TextChunk(""), Overflowed(1000)], floods)

    def test_escapes(self) -> None:
        """
        Text that JSON escapes may be as long as any other.
        """
        agent = Agent(max_output=200_000).started()
        agent.ask()
        agent.chunk("é" * 100_000)
        self.assertEqual(agent.stop(), [Answered("é" * 100_000, "response")])
