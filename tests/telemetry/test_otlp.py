"""
Tests for sending traces to a collector.
"""

from __future__ import annotations

import os
import socket
import sys
from typing import Any

from twisted.internet import reactor
from twisted.internet.threads import deferToThread
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from kiroworkers.errors import CannotStart, InvalidSetting
from kiroworkers.server import new_tracing
from kiroworkers.settings import Settings
from kiroworkers.telemetry.otlp import OtlpExporter
from kiroworkers.telemetry.spans import Span, SpanEvent
from kiroworkers.telemetry.tracing import Trace
from tests.otlp_receiver import OtlpReceiver

#: A request that began at the epoch's billionth second.
TRACE = Trace(
    "a" * 32,
    "b" * 16,
    1e9,
    Span(
        "POST /kiro/{task}",
        0.0,
        3.0,
        {"http.response.status_code": 502},
        kind="server",
        error="session_lost",
        events=[SpanEvent("retry", 1.5, {"where": "new_conversation"})],
        children=[Span("queue", 0.5, 1.0), Span("clear", 3.0, 3.25)],
    ),
)


def attributes(item: Any) -> dict[str, Any]:
    """
    Return the attributes of a received span, event or resource.
    """
    return {
        pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in item.attributes
    }


class OtlpExporterTests(TestCase):
    """
    Tests for `OtlpExporter`.
    """

    async def test_spans(self) -> None:
        """
        A collector gets each span with its identity, its times and its facts.
        """
        receiver = OtlpReceiver()
        self.addCleanup(receiver.close)
        self.patch_environment("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
        exporter = OtlpExporter(reactor, receiver.url + "/", os.environ)
        await deferToThread(exporter.export, [TRACE])
        await exporter.close()
        received = receiver.next().resource_spans[0]
        resource = attributes(received.resource)
        self.assertEqual(resource["service.name"], "kiroworkers")
        self.assertEqual(resource["deployment.environment.name"], "test")
        self.assertIn("service.version", resource)
        spans = {span.name: span for span in received.scope_spans[0].spans}
        self.assertEqual({*spans}, {"POST /kiro/{task}", "queue", "clear"})
        request = spans["POST /kiro/{task}"]
        self.assertEqual(request.trace_id.hex(), "a" * 32)
        self.assertEqual(request.parent_span_id.hex(), "b" * 16)
        self.assertEqual(request.kind, request.SPAN_KIND_SERVER)
        self.assertEqual(attributes(request), {"http.response.status_code": 502})
        self.assertEqual(request.start_time_unix_nano, 10**18)
        self.assertEqual(request.end_time_unix_nano, 10**18 + 3 * 10**9)
        self.assertEqual(request.status.message, "session_lost")
        self.assertEqual(request.status.code, request.status.STATUS_CODE_ERROR)
        (event,) = request.events
        self.assertEqual((event.name, event.time_unix_nano), ("retry", 10**18 + 15 * 10**8))
        for name in ("queue", "clear"):
            self.assertEqual(spans[name].parent_span_id, request.span_id)
            self.assertEqual(spans[name].trace_id, request.trace_id)
        self.assertEqual(exporter.dropped, 0)

    async def test_root(self) -> None:
        """
        A request without a client's trace begins one, which has the request's identifier.
        """
        receiver = OtlpReceiver()
        self.addCleanup(receiver.close)
        exporter = OtlpExporter(reactor, receiver.url, os.environ)
        span = Span("POST /kiro/{task}", 0.0, 3.0)
        await deferToThread(exporter.export, [Trace("c" * 32, None, 1e9, span)])
        await exporter.close()
        (sent,) = receiver.next().resource_spans[0].scope_spans[0].spans
        self.assertEqual((sent.trace_id.hex(), sent.parent_span_id), ("c" * 32, b""))

    async def test_sampler(self) -> None:
        """
        The SDK's variables decide which traces are sampled.
        """
        receiver = OtlpReceiver()
        self.addCleanup(receiver.close)
        self.patch_environment("OTEL_TRACES_SAMPLER", "always_off")
        exporter = OtlpExporter(reactor, receiver.url, os.environ)
        await deferToThread(exporter.export, [TRACE] * 5000)
        await exporter.close()
        self.assertTrue(receiver.is_empty())
        self.assertEqual(exporter.dropped, 0)

    async def test_dead_collector(self) -> None:
        """
        Spans for a collector that is away are dropped and counted; the log says so once.
        """
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            port = unused.getsockname()[1]
        events: list[LogEvent] = []

        @implementer(ILogObserver)
        def observe(event: LogEvent) -> None:
            events.append(event)

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        self.patch_environment("OTEL_EXPORTER_OTLP_TIMEOUT", "0.1")
        self.patch_environment("OTEL_BSP_MAX_QUEUE_SIZE", "10")
        self.patch_environment("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "3")
        exporter = OtlpExporter(reactor, f"http://ann:secret@127.0.0.1:{port}", os.environ)
        await deferToThread(exporter.export, [TRACE] * 100)
        await exporter.close()
        self.assertEqual(exporter.dropped, 300)
        lines = [str(formatEvent(event)) for event in events]
        self.assertEqual(
            [line for line in lines if "traces" in line],
            [f"traces cannot be sent to 127.0.0.1:{port}; spans are dropped until they can"],
        )

    def test_without_the_extra(self) -> None:
        """
        A server that is to export traces without OpenTelemetry does not start, and says why.
        """
        modules: dict[str, Any] = sys.modules
        for name in ("kiroworkers.telemetry.otlp", "opentelemetry.sdk.trace"):
            self.addCleanup(modules.__setitem__, name, modules.pop(name))
        # What Python does with a module that is not there.
        modules["opentelemetry.sdk.trace"] = None
        settings = Settings(otlp_endpoint="http://127.0.0.1:4318")
        with self.assertRaisesRegex(CannotStart, r"pip install 'kiroworkers\[otel\]'"):
            new_tracing(reactor, settings)
        self.assertIsNone(new_tracing(reactor, Settings()))

    def test_not_a_url(self) -> None:
        """
        The address of a collector must be a URL.
        """
        with self.assertRaisesRegex(InvalidSetting, "must begin with http:// or https://"):
            new_tracing(reactor, Settings(otlp_endpoint="127.0.0.1:4318"))

    def patch_environment(self, name: str, value: str) -> None:
        """
        Set a variable until the end of the test.
        """
        before = os.environ.get(name)
        os.environ[name] = value
        if before is None:
            self.addCleanup(os.environ.pop, name)
        else:
            self.addCleanup(os.environ.__setitem__, name, before)
