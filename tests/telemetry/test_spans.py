"""
Tests for the spans of requests.
"""

from __future__ import annotations

import json
from typing import Any

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.request_record import EventName, RequestEvent, RequestRecord
from kiroworkers.telemetry.spans import MAX_CONTENT, Exchange, Span, request_span

#: A request that one worker answered.
RECORD = RequestRecord(
    id="r1",
    method="POST",
    path="/kiro/echo",
    host="192.0.2.7",
    task="echo",
    agent="kiro",
    worker="worker1",
    attempts=1,
    credits=0.5,
    status=200,
    model="auto",
)


def event(at: float, name: EventName, /, **data: Any) -> RequestEvent:
    """
    Return an event at `at`.
    """
    return RequestEvent(name, at, data)


#: The events of a request that waits for 2 s and is answered 3 s later.
EVENTS = (
    event(10, "received", method="POST", path="/kiro/echo"),
    event(11, "queued", position=2, estimate=3.0),
    event(13, "started", worker="worker1", agent="kiro", attempt=1),
    event(13.5, "submitted"),
    event(14, "first_output"),
    event(16, "answered", characters=9, completion="complete", source="terminal"),
    event(16.5, "ended", status=200, total=6.5),
    event(17, "cleared", worker="worker1", seconds=0.75),
)


def outline(span: Span) -> list[tuple[str, float, float]]:
    """
    Return the names and times of the parts of `span`, in their order.
    """
    return [(child.name, child.start, child.end) for child in span.children]


class RequestSpanTests(SynchronousTestCase):
    """
    Tests for `request_span`.
    """

    def test_answer(self) -> None:
        """
        An answered request consists of its wait, its turn, and the clear, which comes after it.
        """
        span = request_span(RECORD, EVENTS)
        self.assertEqual((span.name, span.kind, span.error), ("POST /kiro/{task}", "server", None))
        self.assertEqual((span.start, span.end), (10, 16.5))
        self.assertEqual(
            outline(span),
            [("queue", 11, 13), ("invoke_agent kiro", 13, 16), ("clear", 16.25, 17)],
        )
        self.assertEqual(
            span.attributes,
            {
                "http.request.method": "POST",
                "http.route": "/kiro/{task}",
                "url.path": "/kiro/echo",
                "http.response.status_code": 200,
                "client.address": "192.0.2.7",
                "gen_ai.agent.name": "kiro",
                "kiroworkers.request.id": "r1",
                "kiroworkers.task": "echo",
                "kiroworkers.attempts": 1,
                "kiroworkers.credits": 0.5,
            },
        )
        turn = span.children[1]
        self.assertEqual(
            turn.attributes,
            {
                "gen_ai.operation.name": "invoke_agent",
                "gen_ai.provider.name": "kiro",
                "gen_ai.agent.name": "kiro",
                "gen_ai.output.type": "json",
                "gen_ai.request.model": "auto",
                "gen_ai.response.time_to_first_chunk": 1,
                "kiroworkers.worker": "worker1",
                "kiroworkers.attempt": 1,
            },
        )
        self.assertEqual(
            [(moment.name, moment.at) for moment in turn.events],
            [("submitted", 13.5), ("first_output", 14)],
        )

    def test_attempts(self) -> None:
        """
        Each prompt has a span of its own: a correction, and one to another worker.
        """
        span = request_span(
            evolve(RECORD, attempts=2, repairs=1),
            [
                event(0, "received"),
                event(1, "started", worker="worker1", agent="kiro", attempt=1),
                event(2, "answered"),
                event(2, "retry", reason="it says secret", where="same_conversation"),
                event(4, "answered"),
                event(4, "retry", reason="it says secret", where="new_conversation"),
                event(4, "queued", position=1, estimate=1.0),
                event(5, "started", worker="worker2", agent="kiro", attempt=2),
                event(6, "answered"),
                event(6, "ended"),
            ],
        )
        self.assertEqual(
            outline(span),
            [
                ("queue", 4, 5),
                ("invoke_agent kiro", 1, 2),
                ("invoke_agent kiro", 2, 4),
                ("invoke_agent kiro", 5, 6),
            ],
        )
        turns = span.children[1:]
        self.assertEqual(
            [turn.attributes.get("kiroworkers.repair") for turn in turns], [None, True, None]
        )
        self.assertEqual(
            [(moment.name, moment.attributes) for moment in span.events],
            [("retry", {"where": "same_conversation"}), ("retry", {"where": "new_conversation"})],
        )

    def test_failures(self) -> None:
        """
        A failure marks the request and the turn; the client's own mistakes mark nothing.
        """
        started = event(1, "started", worker="worker1", agent="kiro", attempt=1)
        failed = event(2, "failed", code="session_lost", reason="it ended")
        lost = evolve(RECORD, status=502, code="session_lost")
        span = request_span(lost, [event(0, "received"), started, failed, event(2, "ended")])
        self.assertEqual((span.error, span.children[0].error), ("session_lost", "session_lost"))
        self.assertEqual(span.attributes["error.type"], "session_lost")

        wrong = evolve(RECORD, status=400, code="invalid_input", attempts=None)
        self.assertIsNone(request_span(wrong, [event(0, "received"), event(1, "ended")]).error)

        cancelled = evolve(RECORD, status=499)
        events = [event(0, "received"), started, event(2, "cancelled"), event(2, "ended")]
        span = request_span(cancelled, events)
        self.assertEqual((span.error, span.children[0].error), (None, "cancelled"))

    def test_unfinished(self) -> None:
        """
        A wait and a turn that nothing ends last as long as the request.
        """
        span = request_span(
            RECORD,
            [
                event(0, "received"),
                event(1, "queued", position=1, estimate=1.0),
                event(9, "ended", status=503),
            ],
        )
        self.assertEqual(outline(span), [("queue", 1, 9)])

    def test_tools(self) -> None:
        """
        Tools are parts of their turn, without what may quote the client.
        """
        events = [
            event(0, "started", worker="worker1", agent="kiro", attempt=1),
            event(1, "tool_asked", question="Run rm secret?"),
            event(3, "tool_decided", allowed=False),
            event(4, "tool_used", title="cat secret", access="read", asked=False),
            event(5, "answered"),
            event(5, "ended"),
        ]
        turn = request_span(RECORD, events).children[0]
        self.assertEqual(outline(turn), [("approve_tool", 1, 3), ("execute_tool read", 4, 4)])
        self.assertEqual(turn.children[0].attributes, {"kiroworkers.tool.allowed": False})
        self.assertEqual(
            turn.children[1].attributes,
            {
                "gen_ai.operation.name": "execute_tool",
                "gen_ai.tool.name": "read",
                "kiroworkers.tool.access": "read",
                "kiroworkers.tool.asked": False,
            },
        )
        self.assertNotIn("secret", repr(turn))
        turn = request_span(RECORD, events, []).children[0]
        self.assertEqual([child.name for child in turn.children][1], "execute_tool cat secret")

    def test_content(self) -> None:
        """
        With content, a turn has the prompt and the answer as messages, each of bounded length.
        """
        exchange = Exchange("p" * (MAX_CONTENT + 1), "Ä")
        turn = request_span(RECORD, EVENTS, [exchange]).children[1]
        prompt = json.loads(str(turn.attributes["gen_ai.input.messages"]))
        answer = json.loads(str(turn.attributes["gen_ai.output.messages"]))
        content = "p" * MAX_CONTENT
        self.assertEqual(
            prompt, [{"role": "user", "parts": [{"type": "text", "content": content}]}]
        )
        self.assertEqual(
            answer,
            [
                {
                    "role": "assistant",
                    "parts": [{"type": "text", "content": "Ä"}],
                    "finish_reason": "stop",
                }
            ],
        )

    def test_job(self) -> None:
        """
        The execution of a job is no HTTP request.
        """
        record = evolve(RECORD, method="JOB", path="/jobs/j1")
        span = request_span(record, EVENTS[1:])
        self.assertEqual((span.name, span.kind), ("JOB echo", "consumer"))
        self.assertNotIn("http.request.method", span.attributes)
