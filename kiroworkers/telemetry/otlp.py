"""
Send traces to a collector with OpenTelemetry's SDK.

This module needs ``kiroworkers[otel]``, so it is imported only where traces are exported.  The
SDK reads the variables ``OTEL_*`` itself.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from threading import Lock, Thread
from typing import Any
from urllib.parse import urlsplit

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.environment_variables import OTEL_BSP_MAX_QUEUE_SIZE
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
)
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from kiroworkers import __version__
from kiroworkers.telemetry.spans import Span
from kiroworkers.telemetry.tracing import Trace

#: Where a collector takes traces, below its URL.
_PATH = "/v1/traces"

#: The number of spans that wait for the collector, unless a variable says otherwise; the SDK's
#: own default.
_MAX_QUEUE = 2048

#: Seconds that the end of the server may take because of a collector.
_CLOSE_TIMEOUT = 5.0

_NANOSECONDS = 1_000_000_000

_KINDS = {
    "server": SpanKind.SERVER,
    "consumer": SpanKind.CONSUMER,
    "internal": SpanKind.INTERNAL,
}


class OtlpExporter:
    """
    Send traces by OTLP over HTTP, in a thread of the SDK.

    Args:
        reactor: Calls back when everything was sent.
        endpoint: The URL of the collector, such as ``http://127.0.0.1:4318``.
        environment: The variables that the SDK reads.
    """

    def __init__(self, reactor: Any, endpoint: str, environment: Mapping[str, str]) -> None:
        self._reactor = reactor
        # Its failures are reported by `_Watched`, once.
        logger = logging.getLogger("opentelemetry")
        logger.addHandler(logging.NullHandler())
        logger.propagate = False
        url = endpoint.rstrip("/")
        # The URL may have a password.
        collector = urlsplit(url).netloc.rpartition("@")[2]
        self._sender = _Watched(
            OTLPSpanExporter(url if url.endswith(_PATH) else url + _PATH), collector
        )
        self._ids = _TraceIds()
        attributes = {"service.name": "kiroworkers", "service.version": __version__}
        self._provider = TracerProvider(
            resource=Resource.create(attributes).merge(OTELResourceDetector().detect()),
            id_generator=self._ids,
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(BatchSpanProcessor(self._sender))
        self._tracer = self._provider.get_tracer("kiroworkers", __version__)
        self._max_queue = _max_queue(environment)
        # Batches are made in several threads.
        self._lock = Lock()
        self._made = 0
        self._overflown = 0

    @property
    def dropped(self) -> int:
        """
        Return the number of spans that could not be sent.
        """
        return self._overflown + self._sender.failed

    def export(self, traces: Sequence[Trace], /) -> None:
        """
        Make the spans of `traces`, which are sent soon; drop those for which there is no space.
        """
        with self._lock:
            for item in traces:
                number = _count(item.span)
                if self._made - self._sender.done + number > self._max_queue:
                    self._overflown += number
                else:
                    self._make(item.span, item, self._parent_of(item))

    def close(self) -> Deferred[None]:
        """
        Send what is left; give up after a few seconds.
        """
        closed: Deferred[None] = Deferred()

        def close() -> None:
            self._provider.shutdown()
            self._reactor.callFromThread(finish)

        def finish() -> None:
            if timer.active():
                timer.cancel()
                closed.callback(None)

        timer = self._reactor.callLater(_CLOSE_TIMEOUT, closed.callback, None)
        # Not one of the reactor's threads, which the reactor waits for.
        Thread(target=close, name="close traces", daemon=True).start()
        return closed

    def _parent_of(self, item: Trace) -> Context:
        self._ids.trace_id = int(item.trace_id, 16)
        if item.parent_id is None:
            return Context()
        parent = SpanContext(
            self._ids.trace_id,
            int(item.parent_id, 16),
            is_remote=True,
            trace_flags=TraceFlags(TraceFlags.SAMPLED),
        )
        return trace.set_span_in_context(NonRecordingSpan(parent), Context())

    def _make(self, described: Span, item: Trace, context: Context) -> None:
        def nanoseconds(at: float) -> int:
            return int((at + item.offset) * _NANOSECONDS)

        span = self._tracer.start_span(
            described.name,
            context,
            _KINDS[described.kind],
            described.attributes,
            start_time=nanoseconds(described.start),
        )
        if span.is_recording():
            # Otherwise the sampler has decided against it.
            self._made += 1
        for event in described.events:
            span.add_event(event.name, event.attributes, nanoseconds(event.at))
        if described.error is not None:
            span.set_status(Status(StatusCode.ERROR, described.error))
        inner = trace.set_span_in_context(span, Context())
        for child in described.children:
            self._make(child, item, inner)
        span.end(nanoseconds(described.end))


class _TraceIds(RandomIdGenerator):
    """
    Give traces the identifiers of their requests.

    Attributes:
        trace_id: The identifier of the next trace.
    """

    trace_id = 0

    def generate_trace_id(self) -> int:
        """
        Return the identifier of the next trace.
        """
        return self.trace_id


class _Watched(SpanExporter):
    """
    Count the spans that are sent, and log when the collector begins to fail and when it works.

    Attributes:
        done: The number of spans that were sent or given up.
        failed: The number of spans that were given up.

    Args:
        exporter: Sends the spans.
        collector: The host and the port of the collector, for the log.
    """

    _log = Logger()

    def __init__(self, exporter: SpanExporter, collector: str) -> None:
        self._exporter = exporter
        self._collector = collector
        self._is_failing = False
        self.done = self.failed = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """
        Send `spans`.
        """
        result = SpanExportResult.FAILURE
        try:
            result = self._exporter.export(spans)
        except Exception:
            self._log.failure("internal error while sending traces")
        self.done += len(spans)
        failed = result is not SpanExportResult.SUCCESS
        if failed:
            self.failed += len(spans)
        if failed and not self._is_failing:
            self._log.warn(
                "traces cannot be sent to {collector}; spans are dropped until they can",
                collector=self._collector,
            )
        elif self._is_failing and not failed:
            self._log.info(
                "traces are sent to {collector} again; {n} span(s) were dropped so far",
                collector=self._collector,
                n=self.failed,
            )
        self._is_failing = failed
        return result

    def shutdown(self) -> None:
        """
        Stop sending.
        """
        self._exporter.shutdown()


def _count(span: Span) -> int:
    return 1 + sum(map(_count, span.children))


def _max_queue(environment: Mapping[str, str]) -> int:
    """
    Return how many spans may wait for the collector, so that the SDK need not drop any.
    """
    value = environment.get(OTEL_BSP_MAX_QUEUE_SIZE, "")
    return int(value) if value.isdecimal() and int(value) else _MAX_QUEUE
