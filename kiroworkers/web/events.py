"""
Stream the progress of a request and its answer as server-sent events.

Each event has a name and one line of JSON.  A comment is sent from time to time to keep
a silent connection open.  The format is defined in the WHATWG HTML standard, section
"Server-sent events".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.web.iweb import IRequest

from kiroworkers.pool.progress import PartialText, Progress, Queued, Retrying, Started

#: Seconds for which pieces of text are collected into one event.
_FLUSH_INTERVAL = 0.1

#: Seconds without an event until a comment is sent: proxies close silent connections.
_KEEP_ALIVE_INTERVAL = 15.0

_TYPE = b"text/event-stream"


def wants_events(request: IRequest) -> bool:
    """
    Return whether the client accepts a stream of events.
    """
    accepted = (request.getHeader(b"accept") or b"").lower().split(b",")
    return any(media_range.partition(b";")[0].strip() == _TYPE for media_range in accepted)


class EventWriter:
    """
    Write server-sent events as the response to a request, and comments in between.

    The response begins with the first event or comment: a request that fails earlier still
    gets a status of its own.  The caller must call `close` when the request ends, however it
    ends.

    Attributes:
        started: Whether the response has begun.

    Args:
        clock: Times the comments.
        request: The request to respond to.
    """

    def __init__(self, clock: IReactorTime, request: IRequest) -> None:
        self.started = False
        self._clock = clock
        self._request = request
        self._keep_alive_timer = clock.callLater(_KEEP_ALIVE_INTERVAL, self._keep_alive)

    def write(self, data: str, name: str | None = None) -> None:
        """
        Write an event.

        Args:
            data: The data of the event, without line breaks.
            name: The name of the event; None for an event without one.
        """
        self._write(f"data: {data}" if name is None else f"event: {name}\ndata: {data}")

    def write_json(self, data: Mapping[str, Any], name: str | None = None) -> None:
        """
        Write an event whose data is JSON.
        """
        self.write(json.dumps(data, separators=(",", ":")), name)

    def write_comment(self, text: str) -> None:
        """
        Write a comment, which clients ignore.
        """
        self._write(f": {text}")

    def close(self) -> None:
        """
        Write no more comments.
        """
        if self._keep_alive_timer.active():
            self._keep_alive_timer.cancel()

    def _write(self, lines: str) -> None:
        if not self.started:
            self.started = True
            self._request.setResponseCode(200)
            self._request.setHeader(b"content-type", _TYPE)
            self._request.setHeader(b"cache-control", b"no-store")
            # Proxies that buffer responses (nginx) do not buffer one with this header.
            self._request.setHeader(b"x-accel-buffering", b"no")
        self._request.write(f"{lines}\n\n".encode())
        if self._keep_alive_timer.active():
            self._keep_alive_timer.reset(_KEEP_ALIVE_INTERVAL)

    def _keep_alive(self) -> None:
        self.write_comment("alive")
        self._keep_alive_timer = self._clock.callLater(_KEEP_ALIVE_INTERVAL, self._keep_alive)


class EventStream:
    """
    Write the events of a request to a task.  The response begins at once.

    The caller must call `close` when the request ends, however it ends.
    """

    def __init__(self, clock: IReactorTime, request: IRequest) -> None:
        self._clock = clock
        self._writer = EventWriter(clock, request)
        self._text: list[str] = []
        self._flush_timer: IDelayedCall | None = None
        self._writer.write_comment("kiroworkers")

    def on_progress(self, progress: Progress) -> None:
        """
        Send `progress` as an event; this is an `OnProgress` callback.

        Pieces of text that come within a tenth of a second become one event.
        """
        match progress:
            case Queued(position, seconds):
                self.send("queued", {"position": position, "estimate": round(seconds, 1)})
            case Started(worker, attempt):
                self.send("started", {"worker": worker, "attempt": attempt})
            case Retrying(reason, where):
                self.send("retry", {"reason": reason, "where": where})
            case PartialText(text):
                self._text.append(text)
                if self._flush_timer is None:
                    self._flush_timer = self._clock.callLater(_FLUSH_INTERVAL, self._flush)

    def send(self, name: str, data: Mapping[str, Any]) -> None:
        """
        Send the event `name` with `data`, after any text that was collected before.
        """
        self._flush()
        self._writer.write_json(data, name)

    def close(self) -> None:
        """
        Send nothing more, and stop the timers.
        """
        self._cancel_flush()
        self._writer.close()

    def _flush(self) -> None:
        self._cancel_flush()
        if self._text:
            text = "".join(self._text)
            self._text.clear()
            self._writer.write_json({"text": text}, "text")

    def _cancel_flush(self) -> None:
        if self._flush_timer is not None and self._flush_timer.active():
            self._flush_timer.cancel()
        self._flush_timer = None
