"""
Describe the requests that took long: what happened when, and what the agent showed last.

A description shows what the agent's terminal showed, or the last messages of its protocol, so
it may quote the request.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import LogEvent, Logger, LogLevel, globalLogPublisher

from kiroworkers.clean_text import clean_text
from kiroworkers.clocks import WallClock
from kiroworkers.request_record import RequestEvent, RequestRecord
from kiroworkers.telemetry.access_log import request_fields
from kiroworkers.telemetry.log_format import bounded_end

#: The largest number of events that are kept for a request; later ones are only counted.
_MAX_EVENTS = 100

#: The longest part of a screen that is logged, in characters.
_MAX_SCREEN = 16 * 1024

#: Seconds after the end of a request in which its worker may report that it is ready again.
_CLEARING_TIME = 10.0

#: The events at which the screen is read: afterwards it may show something else.
_ENDS = ("answered", "failed", "cancelled", "interrupted")


@define
class _Slow:
    """
    Collect what happens to a request.

    Attributes:
        began: When its first event happened.
        events: Its events.
        left_out: The number of further events.
        screen: What the agent showed last; None if that was not read.
        timer: Describes the request, although its worker has not reported that it is ready.
    """

    began: float
    events: list[RequestEvent] = field(factory=list)
    left_out: int = 0
    screen: str | None = None
    timer: IDelayedCall | None = None


class SlowLog:
    """
    Observe requests, and describe those that take longer than a threshold.

    Args:
        clock: Schedules calls.
        threshold: The threshold in seconds.
        last_screen: Returns the text that a worker's agent shows; empty if that is unknown.
        write: Takes the log event that describes a request; by default, it goes to the log.
        wall_clock: Returns the current time in seconds since the epoch.
    """

    def __init__(
        self,
        clock: IReactorTime,
        threshold: float,
        last_screen: Callable[[str], str],
        write: Callable[[LogEvent], None] = globalLogPublisher,
        wall_clock: WallClock = time.time,
    ) -> None:
        self._clock = clock
        self._threshold = threshold
        self._last_screen = last_screen
        self._write = write
        self._wall_clock = wall_clock
        self._requests: dict[RequestRecord, _Slow] = {}

    def request_event(self, record: RequestRecord, event: RequestEvent) -> None:
        """
        Note `event`, and describe the request if it is over and was slow.
        """
        slow = self._requests.get(record)
        if slow is None:
            if event.name != "received":
                return  # It was rejected before, was not slow, or is described already.
            slow = self._requests[record] = _Slow(event.at)
        if len(slow.events) < _MAX_EVENTS or event.name in ("ended", "cleared"):
            slow.events.append(event)
        else:
            slow.left_out += 1
        took = event.at - slow.began
        if event.name == "ended" and record.total is not None:
            took = record.total  # The event comes a moment later.
        is_slow = took > self._threshold
        if is_slow and event.name in _ENDS and record.worker is not None:
            slow.screen = self._last_screen(record.worker)
        match event.name:
            case "ended" if not is_slow or record.task is None:
                # Without a task, no agent was asked: it may have waited for a job.
                del self._requests[record]
            case "ended" if record.attempts and not _has(slow, "cleared"):
                slow.timer = self._clock.callLater(_CLEARING_TIME, self._describe, record)
            case "ended":
                self._describe(record)
            case "cleared" if slow.timer is not None:
                slow.timer.cancel()
                self._describe(record)

    def close(self) -> None:
        """
        Describe the slow requests whose workers are not ready again.
        """
        for record, slow in [*self._requests.items()]:
            if slow.timer is not None:
                slow.timer.cancel()
                self._describe(record)

    def _describe(self, record: RequestRecord) -> None:
        slow = self._requests.pop(record)
        fields = request_fields(record)
        events = sorted(slow.events, key=lambda event: event.at)
        lines = [_phase(event, slow.began) for event in events]
        if slow.left_out:
            lines.append(f"and {slow.left_out} more event(s)")
        event: LogEvent = {
            "log_time": self._wall_clock(),
            "log_level": LogLevel.warn,
            "log_namespace": "kiroworkers.slow_log",
            "log_logger": _log,
            "log_format": "request {requestId} took {took:.3f} s: {method} {path}, {outcome}",
            **fields,
            "method": record.method or "-",
            "path": record.path or "-",
            "outcome": record.outcome,
            "took": record.total if record.total is not None else slow.events[-1].at - slow.began,
            "log_blocks": ("events", "screen") if slow.screen else ("events",),
            "events": "\n".join(lines),
        }
        if slow.screen:
            event["screen"] = bounded_end(slow.screen, _MAX_SCREEN)
        self._write(event)


_log = Logger("kiroworkers.slow_log")


def _has(slow: _Slow, name: str) -> bool:
    return any(event.name == name for event in slow.events)


def _phase(event: RequestEvent, began: float) -> str:
    """
    Return a line about an event: when it happened, and its facts.
    """
    # A text of several lines would look like other events.
    facts = "".join(
        f" {name}={round(value, 3) if isinstance(value, float) else clean_text(str(value))}"
        for name, value in event.data.items()
        if value is not None
    )
    return f"{event.at - began:9.3f} s  {event.name}{facts}"
