"""
Collect the events of each request, and have its spans exported after its end.

While a request is handled, its events are only kept.  Its spans are made in a thread, for a
second's worth of requests at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Protocol

from attrs import define, evolve, field, frozen
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from kiroworkers.clocks import WallClock
from kiroworkers.request_record import RequestEvent, RequestRecord
from kiroworkers.session.observer import SessionInfo
from kiroworkers.session.state import SessionState
from kiroworkers.telemetry import metric_families as families
from kiroworkers.telemetry.metrics import Samples
from kiroworkers.telemetry.spans import MAX_CONTENT, Exchange, Span, request_span

#: Seconds for which ended requests are collected before their spans are made.
_DELAY = 1.0

#: Seconds for which an ended request waits for the agent to forget its conversation.  A session
#: that ends instead does not tell.
_CLEAR_TIMEOUT = 15.0

#: The events that a request begins with.
_BEGINNINGS = ("received", "queued", "started")

#: The number of events that are kept of one request, and of requests whose events are kept.
_MAX_EVENTS, _MAX_REQUESTS = 500, 2000

#: The number of digits of the identifier of a trace.
_TRACE_ID_DIGITS = 32


@frozen
class Trace:
    """
    Hold what a request adds to its trace.

    Attributes:
        trace_id: The identifier of the trace, as 32 hexadecimal digits.
        parent_id: The identifier of the client's span, as 16 such digits; None without one.
        offset: The difference between seconds since the epoch and the times in `span`.
        span: The span of the request.
    """

    trace_id: str
    parent_id: str | None
    offset: float
    span: Span


class Exporter(Protocol):
    """
    Send traces to a collector.

    Attributes:
        dropped: The number of spans that could not be sent.
    """

    @property
    def dropped(self) -> int:
        """
        Return the number of spans that could not be sent.
        """

    def export(self, traces: Sequence[Trace], /) -> None:
        """
        Send `traces` soon.  It is called in a thread, and does not wait for the collector.
        """

    def close(self) -> Deferred[None]:
        """
        Send what is left, within a few seconds.
        """


def trace_id_of(record: RequestRecord) -> str:
    """
    Return the identifier of the trace that the request of `record` belongs to.

    Without a trace of the client, it is the identifier of the request, which the server makes in
    that form, or is derived from it if the client has chosen it.
    """
    if record.trace is not None:
        return record.trace.trace_id
    id = record.id
    if len(id) == _TRACE_ID_DIGITS and not id.strip("0123456789abcdef") and id.strip("0"):
        return id
    return sha256(id.encode()).hexdigest()[:_TRACE_ID_DIGITS]


@define(eq=False)
class _Pending:
    """
    Hold a request that has not been exported yet.

    Attributes:
        record: The facts about the request.
        offset: The difference between seconds since the epoch and the times of the events.
        events: What has happened.
        exchanges: What was asked and answered, if that may be exported.
        working: Whether a worker has not forgotten the request yet.
        ended: When the request ended; None until then.
    """

    record: RequestRecord
    offset: float
    events: list[RequestEvent] = field(factory=list)
    exchanges: list[Exchange] = field(factory=list)
    working: bool = False
    ended: float | None = None


class Tracing(Service):
    """
    Export the spans of requests that an agent was to answer, as a `RequestObserver`.

    Args:
        clock: Schedules the export.
        exporter: Sends the spans.
        run_in_thread: Runs a function in a thread.
        with_content: Whether spans have prompts and answers.
        wall_clock: Returns the seconds since the epoch.
    """

    def __init__(
        self,
        clock: IReactorTime,
        exporter: Exporter,
        run_in_thread: Callable[[Callable[[], None]], object],
        *,
        with_content: bool = False,
        wall_clock: WallClock = time.time,
    ) -> None:
        self._clock = clock
        self._exporter = exporter
        self._run_in_thread = run_in_thread
        self._with_content = with_content
        self._wall_clock = wall_clock
        # By the identity of the record; clients choose the identifiers of requests.
        self._pending: dict[int, _Pending] = {}
        self._timer: IDelayedCall | None = None
        self._dropped = 0

    def request_event(self, record: RequestRecord, event: RequestEvent) -> None:
        """
        Keep an event.
        """
        key = id(record)
        pending = self._pending.get(key)
        if pending is None:
            # A clear may come too late.
            if event.name not in _BEGINNINGS or not _is_traced(record):
                return
            if len(self._pending) >= _MAX_REQUESTS:
                # The oldest may never end, such as a job that was put off.
                del self._pending[next(iter(self._pending))]
                self._dropped += 1
            pending = _Pending(record, self._wall_clock() - event.at)
            self._pending[key] = pending
        if len(pending.events) < _MAX_EVENTS or event.name in ("ended", "cleared"):
            pending.events.append(event)
        match event.name:
            case "started":
                pending.working = True
            case "cleared":
                pending.working = False
            case "ended" if record.task is None:
                del self._pending[key]
            case "ended":
                pending.ended = event.at
                if self._timer is None:
                    self._timer = self._clock.callLater(_DELAY, self._flush)

    def observe(self, info: SessionInfo) -> _Reader | None:
        """
        Return the observer of a session, which reads prompts and answers; None if they stay out.
        """
        return _Reader(self) if self._with_content else None

    def add_prompt(self, record: RequestRecord, prompt: str) -> None:
        """
        Note what an agent is asked in a turn of the request of `record`.
        """
        pending = self._pending.get(id(record))
        if pending is not None:
            pending.exchanges.append(Exchange(prompt[:MAX_CONTENT]))

    def add_reply(self, record: RequestRecord, text: str) -> None:
        """
        Note what the agent answered last in a turn of the request of `record`.
        """
        pending = self._pending.get(id(record))
        if pending is not None and pending.exchanges:
            last = pending.exchanges[-1]
            pending.exchanges[-1] = evolve(last, reply=text[:MAX_CONTENT])

    def collect(self, samples: Samples) -> None:
        """
        Add the number of dropped spans to `samples`, as a source of metrics.
        """
        samples.add(families.SPANS_DROPPED, self._dropped + self._exporter.dropped)

    def stopService(self) -> Deferred[None]:
        """
        Export what has ended, and stop.
        """
        super().stopService()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._export(self._take(everything=True))
        return self._exporter.close()

    def _flush(self) -> None:
        """
        Export the requests that are complete.
        """
        self._timer = None
        complete = self._take(everything=False)
        if any(pending.ended is not None for pending in self._pending.values()):
            self._timer = self._clock.callLater(_DELAY, self._flush)
        if complete:
            self._run_in_thread(lambda: self._export(complete))

    def _export(self, complete: Sequence[_Pending]) -> None:
        """
        Export what requests add to their traces.
        """
        self._exporter.export([_trace(pending, self._with_content) for pending in complete])

    def _take(self, *, everything: bool) -> list[_Pending]:
        """
        Remove the requests that are complete, and return them.

        Args:
            everything: Whether not to wait for those whose conversations are being cleared.
        """
        now = self._clock.seconds()
        complete = [
            (key, pending)
            for key, pending in self._pending.items()
            if pending.ended is not None
            and (everything or not pending.working or now - pending.ended >= _CLEAR_TIMEOUT)
        ]
        for key, _ in complete:
            del self._pending[key]
        return [pending for _, pending in complete]


def _is_traced(record: RequestRecord) -> bool:
    return record.trace is None or record.trace.sampled


def _trace(pending: _Pending, with_content: bool) -> Trace:
    record = pending.record
    exchanges = pending.exchanges if with_content else None
    return Trace(
        trace_id_of(record),
        None if record.trace is None else record.trace.parent_id,
        pending.offset,
        request_span(record, pending.events, exchanges),
    )


class _Reader:
    """
    Read the prompts and answers of one session, as its `SessionObserver`.
    """

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing
        self._record: RequestRecord | None = None

    def asked(self, record: RequestRecord | None, prompt: str) -> None:
        """
        Note a prompt.
        """
        self._record = record
        if record is not None:
            self._tracing.add_prompt(record, prompt)

    def replied(self, text: str) -> None:
        """
        Note the answer to the last prompt.
        """
        if self._record is not None:
            self._tracing.add_reply(self._record, text)

    def output(self, data: bytes) -> None:
        """
        Ignore output, which is not yet an answer.
        """

    def stderr(self, data: bytes) -> None:
        """
        Ignore what is no part of an answer.
        """

    def typed(self, data: bytes) -> None:
        """
        Ignore input, which was a prompt before.
        """

    def state_changed(self, old: SessionState, new: SessionState, reason: str) -> None:
        """
        Ignore a change of the state, which the events of the request tell.
        """
