"""
Tests for the metrics of requests.
"""

from __future__ import annotations

from typing import Any

from attrs import evolve
from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.request_record import RequestRecord
from kiroworkers.telemetry.metrics import Metrics
from kiroworkers.telemetry.observers import RequestObservers
from kiroworkers.telemetry.request_metrics import RequestMetrics

#: A request that was answered by the first worker.
ANSWERED = RequestRecord(method="POST", task="echo", agent="kiro", attempts=1, wait=0.0, status=200)


def values(metrics: Metrics) -> dict[str, float]:
    """
    Return the values on the page by name and labels, without those that are 0.
    """
    text, _ = metrics.collect()("")
    return {
        sample.name + (f"{{{','.join(sample.labels.values())}}}" if sample.labels else ""): (
            sample.value
        )
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
        if sample.value
    }


class RequestMetricsTests(SynchronousTestCase):
    """
    Tests for `RequestMetrics`.
    """

    def setUp(self) -> None:
        """
        Make metrics with a clock.
        """
        self.clock = Clock()
        self.counted = RequestMetrics()
        self.observers = RequestObservers(self.clock, [self.counted])
        self.metrics = Metrics([self.counted.collect], process=False)

    def record(self, **facts: Any) -> RequestRecord:
        """
        Return the record of a request that is observed.
        """
        return evolve(ANSWERED, on_event=self.observers, **facts)

    def test_answer(self) -> None:
        """
        A request that finds an idle worker is a warm hit, and each phase is measured.
        """
        record = self.record(total=3.0, turn=2.5, first_output=0.4, credits=0.25)
        record.report("received", method="POST", path="/kiro/echo")
        record.report("started", worker="worker1", agent="kiro", attempt=1)
        record.report("first_output")
        record.report("answered", characters=3, completion="complete", source="terminal")
        record.report("ended", status=200, total=3.0)
        record.report("cleared", worker="worker1", seconds=0.2)
        found = values(self.metrics)
        self.assertEqual(
            {name: value for name, value in found.items() if "_bucket" not in name},
            {
                "kiroworkers_requests_total{kiro,answered,echo}": 1,
                "kiroworkers_http_responses_total{200}": 1,
                "kiroworkers_request_duration_seconds_count{kiro,echo}": 1,
                "kiroworkers_request_duration_seconds_sum{kiro,echo}": 3,
                "kiroworkers_request_wait_seconds_count{kiro}": 1,
                "kiroworkers_turn_duration_seconds_count{kiro,echo}": 1,
                "kiroworkers_turn_duration_seconds_sum{kiro,echo}": 2.5,
                "kiroworkers_first_output_seconds_count{kiro,echo}": 1,
                "kiroworkers_first_output_seconds_sum{kiro,echo}": 0.4,
                "kiroworkers_turnaround_seconds_count{kiro}": 1,
                "kiroworkers_turnaround_seconds_sum{kiro}": 0.2,
                "kiroworkers_dispatches_total{kiro}": 1,
                "kiroworkers_warm_hits_total{kiro}": 1,
                "kiroworkers_credits_total{kiro}": 0.25,
            },
        )
        buckets = {
            name: value for name, value in found.items() if name.startswith("kiroworkers_turn_")
        }
        self.assertEqual(buckets.get("kiroworkers_turn_duration_seconds_bucket{kiro,2.5,echo}"), 1)
        self.assertNotIn("kiroworkers_turn_duration_seconds_bucket{kiro,1.0,echo}", buckets)

    def test_queued(self) -> None:
        """
        A request that had to wait is no warm hit, whichever worker is asked in the end.
        """
        record = self.record(attempts=None, wait=1.0)
        record.report("queued", position=1, estimate=2.0)
        record.attempts = 2
        record.report("started", worker="worker1", agent="kiro", attempt=1)
        record.report("retry", reason="the session ended", where="new_conversation")
        record.report("started", worker="worker2", agent="kiro", attempt=2)
        record.report("ended", status=200, total=3.0)
        found = values(self.metrics)
        self.assertEqual(found["kiroworkers_dispatches_total{kiro}"], 1)
        self.assertNotIn("kiroworkers_warm_hits_total{kiro}", found)
        self.assertEqual(found["kiroworkers_retries_total{kiro,new_conversation}"], 1)

    def test_retry_waits(self) -> None:
        """
        A request whose retry had to wait found an idle worker when it arrived.
        """
        record = self.record()
        record.report("started", worker="worker1", agent="kiro", attempt=1)
        record.report("queued", position=1, estimate=2.0)
        record.report("started", worker="worker2", agent="kiro", attempt=2)
        self.assertEqual(values(self.metrics)["kiroworkers_warm_hits_total{kiro}"], 1)

    def test_tools(self) -> None:
        """
        Questions, decisions and tools that were used without asking are counted.
        """
        record = self.record()
        record.report("started", worker="worker1", agent="kiro", attempt=1)
        for allowed in (True, False, False):
            record.report("tool_asked", question="May I?")
            record.report("tool_decided", allowed=allowed)
        record.report("tool_used", title="ls", access="read", asked=False)
        record.report("tool_used", title="ls", access="read", asked=True)
        found = values(self.metrics)
        self.assertEqual(found["kiroworkers_tool_questions_total{kiro}"], 3)
        self.assertEqual(found["kiroworkers_tool_decisions_total{kiro,denied}"], 2)
        self.assertEqual(found["kiroworkers_tool_decisions_total{kiro,allowed}"], 1)
        self.assertEqual(found["kiroworkers_tools_unasked_total{kiro}"], 1)

    def test_failure(self) -> None:
        """
        A rejected request is counted with its code, and is not measured.
        """
        rejected = {"status": 503, "code": "all_workers_busy", "wait": None, "attempts": None}
        self.record(**rejected).report("ended", status=503, total=9.0)
        found = values(self.metrics)
        self.assertEqual(found["kiroworkers_requests_total{kiro,rejected,echo}"], 1)
        self.assertEqual(found["kiroworkers_request_failures_total{kiro,all_workers_busy}"], 1)
        self.assertNotIn("kiroworkers_request_duration_seconds_count{kiro,echo}", found)

    def test_other_requests(self) -> None:
        """
        Of requests that no agent answers, only the response is counted.
        """
        health = self.record(task=None, agent=None, attempts=None)
        created = self.record(status=202, job="j1", attempts=None)
        rejection = {"status": 503, "code": "all_workers_busy", "wait": None, "attempts": None}
        put_off = self.record(method="JOB", **rejection)
        for record in (health, created, put_off):
            record.report("ended", status=record.status, total=0.1)
        self.assertEqual(
            values(self.metrics),
            {
                "kiroworkers_http_responses_total{200}": 1,
                "kiroworkers_http_responses_total{202}": 1,
            },
        )
