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


class EventStream:
    """
    Write events to the client of a request, beginning with the response's headers.

    The caller must call `close` when the request ends, however it ends.
    """

    def __init__(self, clock: IReactorTime, request: IRequest) -> None:
        self._clock = clock
        self._request = request
        self._text: list[str] = []
        self._flush_timer: IDelayedCall | None = None
        request.setResponseCode(200)
        request.setHeader(b"content-type", _TYPE)
        request.setHeader(b"cache-control", b"no-store")
        # Proxies that buffer responses (nginx) do not buffer one with this header.
        request.setHeader(b"x-accel-buffering", b"no")
        self._keep_alive_timer = clock.callLater(_KEEP_ALIVE_INTERVAL, self._keep_alive)
        request.write(b": kiroworkers\n\n")

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
            case Retrying(reason):
                self.send("retry", {"reason": reason})
            case PartialText(text):
                self._text.append(text)
                if self._flush_timer is None:
                    self._flush_timer = self._clock.callLater(_FLUSH_INTERVAL, self._flush)

    def send(self, name: str, data: Mapping[str, Any]) -> None:
        """
        Send the event `name` with `data`, after any text that was collected before.
        """
        self._flush()
        self._write(name, data)

    def close(self) -> None:
        """
        Send nothing more, and stop the timers.
        """
        for timer in (self._flush_timer, self._keep_alive_timer):
            if timer is not None and timer.active():
                timer.cancel()

    def _flush(self) -> None:
        if self._flush_timer is not None and self._flush_timer.active():
            self._flush_timer.cancel()
        self._flush_timer = None
        if self._text:
            text = "".join(self._text)
            self._text.clear()
            self._write("text", {"text": text})

    def _write(self, name: str, data: Mapping[str, Any]) -> None:
        line = json.dumps(data, separators=(",", ":"))
        self._request.write(f"event: {name}\ndata: {line}\n\n".encode())
        self._keep_alive_timer.reset(_KEEP_ALIVE_INTERVAL)

    def _keep_alive(self) -> None:
        self._request.write(b": alive\n\n")
        self._keep_alive_timer = self._clock.callLater(_KEEP_ALIVE_INTERVAL, self._keep_alive)
