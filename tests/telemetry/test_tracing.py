"""
Tests for the collection of traces.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.request_record import RequestRecord
from kiroworkers.session.observer import SessionInfo
from kiroworkers.telemetry.metrics import Metrics
from kiroworkers.telemetry.observers import RequestObservers
from kiroworkers.telemetry.tracing import Trace, Tracing, trace_id_of
from kiroworkers.trace_context import TraceContext

#: The identifier of a request, as the server makes it.
ID = "0123456789abcdef0123456789abcdef"


@define
class MemoryExporter:
    """
    Keep traces in memory.
    """

    traces: list[Trace] = field(factory=list)
    dropped: int = 0
    closed: bool = False

    def export(self, traces: Sequence[Trace], /) -> None:
        """
        Keep `traces`.
        """
        self.traces += traces

    def close(self) -> Deferred[None]:
        """
        Note that nothing follows.
        """
        self.closed = True
        return succeed(None)


class TraceIdTests(SynchronousTestCase):
    """
    Tests for `trace_id_of`.
    """

    def test_ids(self) -> None:
        """
        The trace is the client's, or has the request's identifier if that has the right form.
        """
        trace = TraceContext("a" * 32, "b" * 16)
        self.assertEqual(trace_id_of(RequestRecord(id="mine", trace=trace)), "a" * 32)
        self.assertEqual(trace_id_of(RequestRecord(id=ID)), ID)
        for id in ("mine", "0" * 32, ID.upper()):
            derived = trace_id_of(RequestRecord(id=id))
            self.assertRegex(derived, "^[0-9a-f]{32}$")
            self.assertNotEqual(int(derived, 16), 0)
            self.assertEqual(derived, trace_id_of(RequestRecord(id=id)))


class TracingTests(SynchronousTestCase):
    """
    Tests for `Tracing`.
    """

    def setUp(self) -> None:
        """
        Collect traces in memory.
        """
        self.clock = Clock()
        self.clock.advance(100)
        self.exporter = MemoryExporter()
        self.tracing = self.new_tracing()

    def new_tracing(self, *, with_content: bool = False) -> Tracing:
        """
        Return a new collection of traces.
        """
        tracing = Tracing(
            self.clock,
            self.exporter,
            lambda call: call(),
            with_content=with_content,
            wall_clock=lambda: 1e9 + self.clock.seconds(),
        )
        self.observers = RequestObservers(self.clock, [tracing])
        return tracing

    def record(self, trace: TraceContext | None = None, task: str | None = "echo") -> RequestRecord:
        """
        Return the record of a request that is observed.
        """
        return RequestRecord(
            id=ID, trace=trace, on_event=self.observers, method="POST", task=task, status=200
        )

    def run_request(self, record: RequestRecord) -> None:
        """
        Let a worker answer a request in 3 s.
        """
        record.report("received", method="POST", path="/kiro/echo")
        record.report("started", worker="worker1", agent="kiro", attempt=1)
        self.clock.advance(3)
        record.report("answered", characters=2, completion="complete", source="terminal")
        record.report("ended", status=200, total=3.0)

    def test_after_clear(self) -> None:
        """
        A request is exported when its worker has forgotten it, with the time of day.
        """
        record = self.record(TraceContext("a" * 32, "b" * 16))
        self.run_request(record)
        self.clock.pump([1, 1, 1])
        self.assertEqual(self.exporter.traces, [])
        record.report("cleared", worker="worker1", seconds=3.0)
        self.clock.advance(1)
        (trace,) = self.exporter.traces
        self.assertEqual((trace.trace_id, trace.parent_id), ("a" * 32, "b" * 16))
        self.assertEqual(trace.span.start + trace.offset, 1e9 + 100)
        self.assertEqual(
            [child.name for child in trace.span.children], ["invoke_agent kiro", "clear"]
        )
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_never_cleared(self) -> None:
        """
        A request whose session ends instead is exported a little later, and nothing is kept.
        """
        record = self.record()
        self.run_request(record)
        self.clock.pump([1] * 16)
        self.assertEqual([trace.parent_id for trace in self.exporter.traces], [None])
        record.report("cleared", worker="worker1", seconds=20.0)
        self.clock.advance(60)
        self.assertEqual(len(self.exporter.traces), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_not_traced(self) -> None:
        """
        What the client does not sample, and what no agent answers, is not exported.
        """
        unsampled = self.record(TraceContext("a" * 32, "b" * 16, sampled=False))
        for record in (unsampled, self.record(task=None)):
            self.run_request(record)
            record.report("cleared", worker="worker1", seconds=0.1)
        self.clock.pump([1] * 20)
        self.assertEqual(self.exporter.traces, [])

    def test_bounded(self) -> None:
        """
        Of too many requests that never end, the oldest are forgotten, and counted.
        """
        records = [self.record() for _ in range(2001)]
        for record in records:
            record.report("received", method="POST", path="/kiro/echo")
        page, _ = Metrics([self.tracing.collect], process=False).collect()("")
        self.assertIn(b"\nkiroworkers_spans_dropped_total 1.0\n", page)
        for record in records:
            record.report("ended", status=503, total=0.0)
        self.clock.advance(1)
        self.assertEqual(len(self.exporter.traces), 2000)

    def test_events_are_bounded(self) -> None:
        """
        Of a request with very many events, the end is still known.
        """
        record = self.record()
        record.report("started", worker="worker1", agent="kiro", attempt=1)
        for _ in range(1000):
            record.report("notice", kind="warning", detail="")
        self.clock.advance(3)
        record.report("ended", status=200, total=3.0)
        record.report("cleared", worker="worker1", seconds=0.1)
        self.clock.advance(1)
        (trace,) = self.exporter.traces
        self.assertEqual(trace.span.end - trace.span.start, 3)
        self.assertLess(len(trace.span.events), 500)

    def test_content(self) -> None:
        """
        Prompts and answers are exported only if that is wanted.
        """
        info = SessionInfo("worker1", "kiro", None)
        self.assertIsNone(self.tracing.observe(info))
        tracing = self.new_tracing(with_content=True)
        reader = tracing.observe(info)
        assert reader is not None
        record = self.record()
        record.report("received", method="POST", path="/kiro/echo")
        record.report("started", worker="worker1", agent="kiro", attempt=1)
        reader.asked(record, "Say hello.")
        reader.replied("hello")
        record.report("answered", characters=5, completion="complete", source="terminal")
        # A question of the server's own.
        reader.asked(None, "Are you there?")
        reader.replied("yes")
        record.report("ended", status=200, total=3.0)
        record.report("cleared", worker="worker1", seconds=0.1)
        self.clock.advance(1)
        (trace,) = self.exporter.traces
        attributes = trace.span.children[0].attributes
        self.assertIn("Say hello.", str(attributes["gen_ai.input.messages"]))
        self.assertIn('"hello"', str(attributes["gen_ai.output.messages"]))
        self.assertNotIn("there", repr(trace))

    def test_stop(self) -> None:
        """
        At its end, the server exports what has ended, and waits for the exporter.
        """
        self.tracing.startService()
        self.run_request(self.record())
        self.successResultOf(self.tracing.stopService())
        self.assertEqual((len(self.exporter.traces), self.exporter.closed), (1, True))
        self.assertEqual(self.clock.getDelayedCalls(), [])
