"""
An answer as it comes: server-sent events.

Each has a name and one line of JSON; between them a comment says from time to time
that the connection is alive.  Source of the form: WHATWG HTML, "Server-sent events".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.web.iweb import IRequest

from kiroworkers.pool.progress import PartialText, Progress, Queued, Retrying, Started

#: Seconds for which pieces of text are put together.
_COALESCED = 0.1

#: Seconds without an event until a comment is sent: proxies end what is silent.
_KEEP_ALIVE = 15.0

_TYPE = b"text/event-stream"


def wants_events(request: IRequest) -> bool:
    """
    Does the client ask for a stream?
    """
    accepted = (request.getHeader(b"accept") or b"").lower().split(b",")
    return any(each.partition(b";")[0].strip() == _TYPE for each in accepted)


class EventStream:
    """
    Tells the client of `request` what becomes of it.  Whoever makes one closes it.
    """

    def __init__(self, clock: IReactorTime, request: IRequest) -> None:
        self._clock = clock
        self._request = request
        self._text: list[str] = []
        self._flushing: IDelayedCall | None = None
        request.setResponseCode(200)
        request.setHeader(b"content-type", _TYPE)
        request.setHeader(b"cache-control", b"no-store")
        # Proxies that collect responses (nginx) pass this one on.
        request.setHeader(b"x-accel-buffering", b"no")
        self._alive = clock.callLater(_KEEP_ALIVE, self._say_alive)
        request.write(b": kiroworkers\n\n")

    def on_progress(self, progress: Progress) -> None:
        """
        As `sessions.progress.Watch`.
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
                if self._flushing is None:
                    self._flushing = self._clock.callLater(_COALESCED, self._flush)

    def send(self, name: str, data: Mapping[str, Any]) -> None:
        """
        Send the event `name`, after the text that came before.
        """
        self._flush()
        self._write(name, data)

    def close(self) -> None:
        """
        Send no more.
        """
        for timer in (self._flushing, self._alive):
            if timer is not None and timer.active():
                timer.cancel()

    def _flush(self) -> None:
        if self._flushing is not None and self._flushing.active():
            self._flushing.cancel()
        self._flushing = None
        if self._text:
            text = "".join(self._text)
            self._text.clear()
            self._write("text", {"text": text})

    def _write(self, name: str, data: Mapping[str, Any]) -> None:
        line = json.dumps(data, separators=(",", ":"))
        self._request.write(f"event: {name}\ndata: {line}\n\n".encode())
        self._alive.reset(_KEEP_ALIVE)

    def _say_alive(self) -> None:
        self._request.write(b": alive\n\n")
        self._alive = self._clock.callLater(_KEEP_ALIVE, self._say_alive)
