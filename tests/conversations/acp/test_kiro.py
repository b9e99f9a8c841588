"""
Tests for what Kiro tells in a turn beyond the protocol.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.conversations import (
    AgentFailure,
    Answered,
    Event,
    LateOutput,
    Notice,
    Ready,
    TextChunk,
    TextDiscarded,
    Usage,
)
from kiroworkers.conversations.acp.kiro import INTERRUPTED, read_notification
from kiroworkers.conversations.acp.turn import MAX_NOTICES
from kiroworkers.errors import FailureKind
from tests.conversations.acp.agent import Agent, read

_SILENCE = 10


def asked(agent: Agent) -> Agent:
    """
    Ask a question of a new agent, and return the agent.
    """
    agent.ask()
    return agent


def v3() -> Agent:
    """
    Return Kiro's engine v3 in a turn.
    """
    agent = Agent.v3()
    agent.set_option()
    return asked(agent)


class DiscardedTextTests(SynchronousTestCase):
    """
    Tests for text that the agent takes back.
    """

    def test_discarded(self) -> None:
        """
        Discarded text is no part of the answer, and a discard of another session changes
        nothing.
        """
        agent = asked(Agent.v2())
        self.assertEqual(agent.kiro_update("stream_discarded"), [])
        agent.chunk("lost")
        self.assertEqual(agent.kiro_update("stream_discarded"), [TextDiscarded()])
        self.assertEqual(agent.chunk("kept"), [TextChunk("kept")])
        self.assertEqual(agent.kiro_update("stream_discarded", "s9"), [])
        self.assertEqual(agent.stop(), [Answered("kept", "response")])
        self.assertEqual(agent.kiro_update("stream_discarded"), [])

    def piece(self, agent: Agent, text: str, id: str = "p1", **kiro: Any) -> list[Event]:
        content = {"type": "text", "text": text}
        meta = {"kiro": {"replayId": id, **kiro}}
        return agent.update(sessionUpdate="agent_message_chunk", content=content, _meta=meta)

    def test_repeated(self) -> None:
        """
        A piece that begins anew after a retry replaces its beginning, and nothing before it.
        """
        agent = v3()
        prompt_id = agent.last_id
        self.piece(agent, "First. ", "p0")
        self.piece(agent, "Sec", "p1")
        notice = "The connection to the model was interrupted. Retrying…"
        events = agent.kiro("/system/notify", None, level="warning", message=notice)
        self.assertEqual(events, [Notice("retry", notice)])
        self.assertEqual(
            self.piece(agent, "Sec"), [TextDiscarded(), TextChunk("First. "), TextChunk("Sec")]
        )
        self.assertEqual(self.piece(agent, "ond."), [TextChunk("ond.")])
        agent.last_id = prompt_id
        self.assertEqual(agent.stop(), [Answered("First. Second.", "response")])

    def test_not_repeated(self) -> None:
        """
        A piece goes on after a pause, and another piece is new after a retry.
        """
        agent = v3()
        prompt_id = agent.last_id
        self.piece(agent, "a", "p1")
        paused = "The model response paused unexpectedly. Waiting for it to resume…"
        events = agent.kiro("/system/notify", None, level="warning", message=paused)
        self.assertEqual(events, [Notice("stall", paused)])
        self.piece(agent, "b", "p1")
        agent.kiro("/system/notify", None, level="warning", message="Retrying…")
        self.piece(agent, "c", "p2")
        self.piece(agent, "d", "p2")
        agent.last_id = prompt_id
        self.assertEqual(agent.stop(), [Answered("abcd", "response")])

    def test_many_repetitions(self) -> None:
        """
        An agent that repeats itself without end has a bounded number of repetitions.
        """
        agent = v3()
        events = self.piece(agent, "x")
        for _ in range(100):
            agent.kiro("/system/notify", None, level="warning", message="Retrying…")
            events += self.piece(agent, "x")
        self.assertEqual(events.count(TextDiscarded()), 20)

    def test_agent_initiated(self) -> None:
        """
        A turn that the agent begins by itself is no answer: between two turns it is late
        output, even before the first one.
        """
        agent = v3()
        prompt_id = agent.last_id
        self.piece(agent, "mine")
        self.assertEqual(self.piece(agent, "nobody's", agentInitiated=True), [])
        agent.last_id = prompt_id
        self.assertEqual(agent.stop(), [Answered("mine", "response")])
        self.assertEqual(self.piece(agent, "It", agentInitiated=True), [LateOutput("It")])
        agent = Agent.v3()
        self.assertEqual(agent.set_option(), [Ready()])
        self.assertEqual(self.piece(agent, "It", agentInitiated=True), [LateOutput("It")])


class EndTests(SynchronousTestCase):
    """
    Tests for turns that end without a response.
    """

    def test_interrupted(self) -> None:
        """
        A turn whose tools were interrupted fails when nothing follows; then it can still be
        cancelled.
        """
        agent = asked(Agent.v2())
        agent.chunk(f"{INTERRUPTED}\n")
        self.assertEqual(agent.conversation.quiet_timeout, _SILENCE)
        failure = AgentFailure(FailureKind.TOOL_INTERRUPTED, INTERRUPTED)
        self.assertEqual(agent.conversation.on_quiet(), [failure])
        self.assertEqual(agent.conversation.failure, failure)
        self.assertFalse(agent.conversation.at_prompt)
        self.assertIs(agent.conversation.quiet_timeout, None)
        self.assertEqual(agent.conversation.on_quiet(), [])
        [cancel] = read(agent.conversation.interrupt())
        self.assertEqual(cancel["method"], "session/cancel")
        self.assertEqual(agent.stop("cancelled"), [Ready()])

    def test_quoted(self) -> None:
        """
        The same words in an answer, or with an answer after them, end nothing.
        """
        agent = asked(Agent.v2())
        agent.chunk(f"It says: {INTERRUPTED}")
        self.assertIs(agent.conversation.quiet_timeout, None)
        agent.chunk(INTERRUPTED)
        agent.chunk(" is what it says.")
        self.assertIs(agent.conversation.quiet_timeout, None)
        self.assertEqual(agent.conversation.on_quiet(), [])

    def test_compaction(self) -> None:
        """
        A turn whose conversation could not be summarized fails when nothing follows, for
        the reason that was told.
        """
        for reason, kind, detail in (
            ("The request was throttled by the service", FailureKind.THROTTLED, None),
            (None, FailureKind.CONTEXT_FULL, "the agent could not summarize the conversation"),
            ("Something", FailureKind.CONTEXT_FULL, None),
        ):
            agent = asked(Agent.v2())
            agent.kiro(".dev/compaction/status", status={"type": "started"})
            status = {"type": "failed"} if reason is None else {"type": "failed", "error": reason}
            # The session is optional.
            events = agent.kiro(".dev/compaction/status", None, status=status)
            self.assertEqual(events, [Notice("compaction", detail or reason or "")])
            self.assertEqual(agent.conversation.quiet_timeout, _SILENCE)
            [event] = agent.conversation.on_quiet()
            self.assertEqual(event, AgentFailure(kind, detail or reason or ""))

    def test_compaction_goes_on(self) -> None:
        """
        A failed compaction is nothing if the turn goes on, or if it is another session's.
        """
        agent = asked(Agent.v2())
        agent.kiro(".dev/compaction/status", "s9", status={"type": "failed"})
        self.assertIs(agent.conversation.quiet_timeout, None)
        agent.kiro(".dev/compaction/status", status={"type": "failed"})
        agent.kiro(".dev/compaction/status", status={"type": "started"})
        self.assertIs(agent.conversation.quiet_timeout, None)
        agent.kiro(".dev/compaction/status", status={"type": "failed"})
        agent.chunk("yes")
        self.assertIs(agent.conversation.quiet_timeout, None)


class FailureTests(SynchronousTestCase):
    """
    Tests for the reasons of a failed turn.
    """

    def test_rate_limit(self) -> None:
        """
        An error without words has those of the notification before it, if that was about
        this session, and one with words keeps them.
        """
        for message, kind in (
            ("The monthly usage limit has been reached", FailureKind.OUT_OF_CREDITS),
            ("Rate limit exceeded", FailureKind.THROTTLED),
            ("Slowly, please", FailureKind.THROTTLED),
        ):
            agent = asked(Agent.v2())
            agent.kiro(".dev/error/rate_limit", message=message)
            agent.kiro(".dev/error/rate_limit", "s9", message="Due to suspicious activity, we")
            [event] = agent.error(-32603, "Internal error")
            self.assertEqual(event, AgentFailure(kind, message))
            agent.kiro(".dev/error/rate_limit", message=message)
            agent.clear()
            agent.session("s2")
            agent.ask()
            [event] = agent.error(-32603, "Internal error")
            self.assertEqual(event, AgentFailure(FailureKind.AGENT_ERROR, "-32603: Internal error"))
        agent = asked(Agent.v2())
        agent.kiro(".dev/error/rate_limit", message="Rate limit exceeded")
        [event] = agent.error(-32603, "Internal error", "Context window overflowed")
        assert isinstance(event, AgentFailure), event
        self.assertEqual(event.kind, FailureKind.CONTEXT_FULL)

    def test_given_up(self) -> None:
        """
        A failure of the account counts although the turn was given up; another one does not.
        """
        agent = asked(Agent.v2())
        agent.conversation.interrupt()
        agent.kiro(".dev/error/rate_limit", message="The monthly usage limit has been reached")
        [event] = agent.error(-32603, "Internal error")
        assert isinstance(event, AgentFailure), event
        self.assertEqual(event.kind, FailureKind.OUT_OF_CREDITS)
        self.assertEqual(agent.conversation.failure, event)
        agent = asked(Agent.v2())
        agent.conversation.interrupt()
        self.assertEqual(agent.error(-32603, "Internal error", "dispatch failure"), [Ready()])
        self.assertIs(agent.conversation.failure, None)

    def test_retry_after(self) -> None:
        """
        The delay that engine v3 names is that of the failure, in whole seconds.
        """
        for delay, seconds in ((2500, 3), (None, None), (-1, None), (1e300, None), (True, None)):
            agent = v3()
            message = "Too many requests"
            agent.kiro("/error/rate_limit", None, message=message, retryAfterMs=delay)
            [event] = agent.error(-32000, message)
            self.assertEqual(
                event, AgentFailure(FailureKind.THROTTLED, f"-32000: {message}", seconds)
            )

    def test_data(self) -> None:
        """
        The kind of a failure may be in any field of the error's data.
        """
        for message, data, kind in (
            ("Odd", {"errorType": "TokenExpiredError"}, FailureKind.LOGIN_EXPIRED),
            ("Odd", {"retryErrorType": "MODEL_TEMPORARILY_UNAVAILABLE"}, FailureKind.MODEL_GONE),
            ("Odd", {"cause": {"reason": "ThrottlingException"}}, FailureKind.THROTTLED),
            ("Odd", {"actions": ["viewUsage"]}, FailureKind.OUT_OF_CREDITS),
            ("Odd", {"details": "connection reset by peer"}, FailureKind.NETWORK),
            ("Odd", "User ID (d-1) temporarily is suspended", FailureKind.SUSPENDED),
            ("Odd", {"errorType": 7, "actions": [None], "cause": []}, FailureKind.AGENT_ERROR),
            ("Authentication required", None, FailureKind.LOGIN_REQUIRED),
            ("Odd", None, FailureKind.AGENT_ERROR),
        ):
            agent = v3()
            [event] = agent.error(-32000, message, data)
            assert isinstance(event, AgentFailure), event
            self.assertEqual(event.kind, kind, (message, data))

    def test_filtered(self) -> None:
        """
        A filtered answer is a refusal, whether the response says so or not.
        """
        refusal = {"category": "CYBER", "explanation": "no"}
        failure = AgentFailure(FailureKind.REFUSAL, "the answer was filtered (CYBER)")
        for ends in (Agent.stop, lambda agent: agent.error(-32603, "Internal error")):
            agent = asked(Agent.v2())
            agent.chunk("I cannot help.")
            agent.kiro(".dev/metadata", stopReason="CONTENT_FILTERED", refusal=refusal)
            self.assertEqual(ends(agent), [failure])
        agent = asked(Agent.v2())
        agent.kiro(".dev/metadata", "s9", stopReason="CONTENT_FILTERED", refusal=refusal)
        agent.kiro(".dev/metadata", stopReason="CONTENT_FILTERED", refusal=refusal)
        agent.kiro(".dev/metadata", stopReason="END_TURN", refusal=None)
        self.assertEqual(agent.stop(), [Answered("", "response")])

    def test_failed_turn(self) -> None:
        """
        A turn that engine v3 calls failed is one, although its response is that of an
        answer; the complaint about an MCP server is none.
        """
        agent = v3()
        agent.info("display_error", message="Slow down: Too many requests", errorType="Error")
        agent.info("turn_completion", status="failed")
        [event] = agent.stop()
        assert isinstance(event, AgentFailure), event
        self.assertEqual(event.kind, FailureKind.THROTTLED)
        agent = v3()
        agent.info("display_error", message="fetch failed", errorType="mcp_connection_error")
        agent.info("turn_completion", status="success")
        self.assertEqual(agent.stop(), [Answered("", "response")])

    def test_access_token(self) -> None:
        """
        A request for an access token is refused at once, so that nothing waits for it.
        """
        agent = Agent(dialect="kiro-acp-v3")
        agent.data_to_send()
        self.assertEqual(agent.say(id=0, method="_kiro/auth/getAccessToken", params={}), [])
        [response] = agent.data_to_send()
        self.assertEqual(response["id"], 0)
        self.assertIn("--auth-method cli", response["error"]["message"])


class NoticeTests(SynchronousTestCase):
    """
    Tests for what an agent tells about a turn that goes on.
    """

    def test_notices(self) -> None:
        """
        Retries, stalls, other models and compaction are told.
        """
        agent = asked(Agent.v2())
        self.assertEqual(
            agent.kiro_update("retry_warning", attempt=2, message="Retrying in 3s"),
            [Notice("retry", "Retrying in 3s")],
        )
        self.assertEqual(
            agent.kiro_update("stream_stall_notice", message="Still working"),
            [Notice("stall", "Still working")],
        )
        fallback: dict[str, Any] = {"from": "sonnet", "to": "haiku"}
        self.assertEqual(
            agent.kiro_update("model_fallback", **fallback),
            [Notice("model_fallback", "the model sonnet is not available; haiku answers instead")],
        )
        fallback["to"] = None
        self.assertEqual(
            agent.kiro_update("model_fallback", **fallback),
            [
                Notice(
                    "model_fallback",
                    "the model sonnet is not available, and no other model answers",
                )
            ],
        )
        self.assertEqual(
            agent.kiro(".dev/compaction/status", status={"type": "completed"}, summary="long"),
            [Notice("compaction", "the agent has summarized the conversation")],
        )

    def test_many(self) -> None:
        """
        The number of notices of a turn is bounded; the next turn has its own.
        """
        agent = asked(Agent.v2(max_output=1_000_000))
        for turn in range(2):
            events: list[Event] = []
            for number in range(MAX_NOTICES + 10):
                events += agent.kiro_update("stream_stall_notice", message=f"{number}")
            self.assertEqual(len(events), MAX_NOTICES, turn)
            agent.stop()
            agent.ask()

    def test_other_sessions(self) -> None:
        """
        Another session's notices, and those between two turns, are not told.
        """
        agent = asked(Agent.v2())
        self.assertEqual(agent.kiro_update("stream_stall_notice", "s9", message="Hm"), [])
        agent.stop()
        self.assertEqual(agent.kiro_update("stream_stall_notice", message="Hm"), [])

    def test_mcp_login(self) -> None:
        """
        An MCP server that waits for a login is told as the reason of a stall, without its
        address; before the first session it is part of the recent output.
        """
        agent = asked(Agent.v2())
        login = {"serverName": "tickets", "oauthUrl": "https://auth.example.com/?state=secret"}
        detail = "the MCP server tickets needs a login; log in to it with Kiro"
        self.assertEqual(agent.kiro(".dev/mcp/oauth_request", **login), [Notice("stall", detail)])
        self.assertEqual(agent.kiro(".dev/mcp/oauth_request", **login), [])
        agent = Agent(dialect="kiro-acp")
        self.assertEqual(agent.kiro(".dev/mcp/oauth_request", **login), [])
        self.assertEqual(agent.conversation.recent_output, detail)
        server = {"name": "tickets", "authorizationUrl": "https://auth.example.com/"}
        self.assertEqual(
            v3().kiro("/mcp/status", servers=[{"name": "x"}, server]), [Notice("stall", detail)]
        )


class UsageTests(SynchronousTestCase):
    """
    Tests for the cost of a turn.
    """

    def test_v2(self) -> None:
        """
        The credits are the sum of the last list, and the context is the last share.
        """
        agent = asked(Agent.v2())

        def metadata(*values: Any, **params: Any) -> None:
            usage = [{"value": value, "unit": "credit"} for value in values]
            agent.kiro(".dev/metadata", meteringUsage=usage, **params)

        metadata(5, contextUsagePercentage=3.5)
        metadata(0.5, 0.25, contextUsagePercentage=4)
        agent.kiro(".dev/metadata", "s9", contextUsagePercentage=90)
        agent.kiro(".dev/metadata")
        self.assertEqual(agent.stop(), [Answered("", "response", usage=Usage(0.75, 4.0))])

    def test_v3(self) -> None:
        """
        Engine v3 sums up the turn, and tells the context apart.
        """
        agent = v3()
        summaries = [{"unit": "credit", "usage": 0.5}, {"unit": "token", "usage": 900}]
        agent.info("context_usage", usagePercentage=2.5)
        agent.info("turn_completion", promptTurnSummaries=summaries, status="success")
        self.assertEqual(agent.stop(), [Answered("", "response", usage=Usage(0.5, 2.5))])

    def test_nonsense(self) -> None:
        """
        A share or a price that cannot be true is not taken.
        """
        values: list[Any] = [-1, "5", None, True, 1e300, 10**400, [], float("nan")]
        for value in values:
            agent = asked(Agent.v2())
            usage = [{"value": value, "unit": "credit"}, value]
            agent.kiro(".dev/metadata", meteringUsage=usage, contextUsagePercentage=value)
            self.assertEqual(agent.stop(), [Answered("", "response")], value)


_JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda values: (
        st.lists(values, max_size=3)
        | st.dictionaries(
            st.sampled_from(["sessionUpdate", "update", "_meta", "kiro", "kind", "status", "type"]),
            values,
            max_size=3,
        )
    ),
    max_leaves=10,
)
_METHODS = (
    "session/update",
    *(
        f"_kiro.dev/{name}"
        for name in ("session/update", "metadata", "error/rate_limit", "compaction/status")
    ),
    *(f"_kiro/{name}" for name in ("error/rate_limit", "system/notify", "mcp/status")),
)


class OddMessageTests(SynchronousTestCase):
    """
    Tests for messages that do not have the known form.
    """

    @given(
        st.sampled_from(_METHODS),
        st.dictionaries(
            st.sampled_from(
                ["update", "message", "status", "servers", "meteringUsage", "stopReason", "refusal"]
            ),
            _JSON,
        ),
    )
    def test_any_form(self, method: str, params: dict[str, Any]) -> None:
        """
        No form of a notification is too odd to be read.
        """
        list(read_notification(method, params))
