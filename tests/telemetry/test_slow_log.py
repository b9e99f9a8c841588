"""
Tests for `kiroworkers.telemetry.slow_log`.
"""

from __future__ import annotations

import json

from twisted.internet.task import Clock
from twisted.logger import LogEvent
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.request_record import EventName, RequestEvent, RequestRecord
from kiroworkers.telemetry.log_format import json_line, text_lines
from kiroworkers.telemetry.slow_log import SlowLog


class SlowLogTests(SynchronousTestCase):
    """
    Tests for `SlowLog`, with a threshold of 5 seconds.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.events: list[LogEvent] = []
        self.screen = "Thinking\n> \x1b[31m"
        self.log = SlowLog(
            self.clock, 5.0, lambda worker: f"{worker}: {self.screen}", self.events.append
        )
        self.record = RequestRecord("id1", method="POST", path="/kiro/x", task="x")

    def report(self, name: EventName, **data: str | int | float | bool | None) -> None:
        """
        Report an event of the request, as the server does.
        """
        if name == "ended":
            self.record.total = self.clock.seconds()
            self.record.ended = 1e9
        self.log.request_event(self.record, RequestEvent(name, self.clock.seconds(), data))

    def answer(self, seconds: float) -> None:
        """
        Have a worker answer in this time.
        """
        self.report("received", method="POST", path="/kiro/x")
        self.record.worker, self.record.attempts = "worker1", 1
        self.report("started", worker="worker1", agent=None, attempt=1)
        self.clock.advance(seconds)
        self.report("answered", characters=5)
        self.record.status = 200
        self.report("ended", status=200, total=self.clock.seconds() + 0.00001)

    def test_fast(self) -> None:
        """
        A request that is fast enough is not described, even if clearing takes long.
        """
        self.answer(5.0)
        self.clock.advance(10)
        self.report("cleared", worker="worker1", seconds=10.0)
        self.report("interrupted", worker="worker1")
        self.assertEqual((self.events, self.log._requests), ([], {}))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_slow(self) -> None:
        """
        A slow request is described with its phases and what the agent showed at its end.
        """
        self.answer(6.5)
        self.assertEqual(self.events, [])
        self.screen = "another request"
        self.clock.advance(0.25)
        self.report("cleared", worker="worker1", seconds=0.25)
        [event] = self.events
        self.assertEqual(
            text_lines(event).partition("] ")[2],
            "request id1 took 6.500 s: POST /kiro/x, answered\n"
            "\t    0.000 s  received method=POST path=/kiro/x\n"
            "\t    0.000 s  started worker=worker1 attempt=1\n"
            "\t    6.500 s  answered characters=5\n"
            "\t    6.500 s  ended status=200 total=6.5\n"
            "\t    6.750 s  cleared worker=worker1 seconds=0.25\n"
            "\tworker1: Thinking\n"
            "\t> \\x1b[31m\n",
        )
        value = json.loads(json_line(event))
        self.assertEqual((value["requestId"], value["worker"]), ("id1", "worker1"))
        self.assertEqual(value["screen"], "worker1: Thinking\n> \x1b[31m")
        self.assertEqual((self.log._requests, self.clock.getDelayedCalls()), ({}, []))

    def test_forged(self) -> None:
        """
        No text of an agent looks like another event.
        """
        self.report("received", method="POST", path="/kiro/x")
        self.report("tool_asked", question="ls\n    1.000 s  answered characters=5\x1b[2J")
        self.answer(6.5)
        self.report("cleared", worker="worker1", seconds=0.25)
        [event] = self.events
        lines = event["events"].split("\n")
        self.assertEqual(len(lines), 7)
        question = r"question=ls\n    1.000 s  answered characters=5\x1b[2J"
        self.assertEqual(lines[1], f"    0.000 s  tool_asked {question}")

    def test_never_cleared(self) -> None:
        """
        A request whose worker does not get ready again is described after a while.
        """
        self.answer(6.5)
        self.clock.advance(10)
        self.assertEqual(len(self.events), 1)
        self.report("cleared", worker="worker1", seconds=20.0)
        self.assertEqual(len(self.events), 1)

    def test_stop(self) -> None:
        """
        When the server stops, it describes the requests that have ended.
        """
        self.answer(6.5)
        self.log.close()
        self.assertEqual(len(self.events), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_without_worker(self) -> None:
        """
        A request that waited in vain is described at once, without a screen.
        """
        self.report("received")
        self.report("queued", position=3, estimate=1.0)
        self.clock.advance(9)
        self.report("failed", code="queue_timeout")
        self.record.status, self.record.code = 503, "queue_timeout"
        self.report("ended", status=503)
        [event] = self.events
        self.assertNotIn("screen", event)
        self.assertIn("9.000 s: POST /kiro/x, rejected", text_lines(event))

    def test_other_requests(self) -> None:
        """
        A request that is not for an agent, such as one that waits for a job, is not slow.
        """
        self.record.task = None
        self.report("received")
        self.clock.advance(100)
        self.report("ended", status=200)
        self.assertEqual((self.events, self.log._requests), ([], {}))

    def test_many_events(self) -> None:
        """
        The events that are kept of a request are bounded, and the others are counted.
        """
        self.report("received")
        for number in range(500):
            self.report("notice", kind="retry", detail=str(number))
        self.clock.advance(6)
        self.report("ended", status=500)
        [event] = self.events
        self.assertEqual(event["events"].count("notice"), 99)
        self.assertTrue(event["events"].endswith("and 401 more event(s)"))
