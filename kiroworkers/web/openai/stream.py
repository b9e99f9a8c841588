"""
A chat completion as it comes: server-sent events without names, whose data are
chunks, and at last ``[DONE]``.

Nothing is sent before there is something to say, so that a request that is refused
meanwhile has a status of its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.web.iweb import IRequest

from kiroworkers.chat import ReplyReader
from kiroworkers.pool.progress import PartialText, Progress, Retrying
from kiroworkers.web.openai.completion import Completion

#: Seconds without a chunk until a comment is sent: proxies end what is silent.
_KEEP_ALIVE = 15.0


class ChunkStream:
    """
    Tells the client of `request` the reply.  Whoever makes one closes it.

    Attributes:
        begun: was anything sent?

    Args:
        piecewise: is the reply given out as it is said?  What was given out is
            never taken back: where an agent is asked again, the next answer must begin
            with it, or the stream fails.
    """

    def __init__(
        self, clock: IReactorTime, request: IRequest, completion: Completion, piecewise: bool
    ) -> None:
        self.begun = False
        self._clock = clock
        self._request = request
        self._completion = completion
        self._reader = ReplyReader() if piecewise else None
        self._given = ""
        self._alive = clock.callLater(_KEEP_ALIVE, self._say_alive)

    def on_progress(self, progress: Progress) -> None:
        """
        As `sessions.progress.Watch`.
        """
        match progress:
            case PartialText(text) if self._reader is not None:
                self._give(self._reader.feed(text))
            case Retrying() if self._reader is not None:
                self._reader = None if self._given else ReplyReader()

    def finish(self, content: str, usage: Mapping[str, Any] | None) -> bool:
        """
        Send what is left of `content`, and the end.  False, and nothing is sent, when
        what was sent is not its beginning.
        """
        if not content.startswith(self._given):
            return False
        self._give(content[len(self._given) :])
        self._begin()
        self._send(self._completion.piece({}, "stop"))
        if usage is not None:
            self._send(self._completion.ending(usage))
        self._write(b"data: [DONE]\n\n")
        return True

    def fail(self, body: Mapping[str, Any]) -> None:
        """
        Send an error's `body` as the last event.
        """
        self._send(body)

    def close(self) -> None:
        """
        Send no more.
        """
        if self._alive.active():
            self._alive.cancel()

    def _give(self, text: str) -> None:
        if text:
            self._begin()
            self._given += text
            self._send(self._completion.piece({"content": text}))

    def _begin(self) -> None:
        if not self._given:
            self._send(self._completion.piece({"role": "assistant", "content": ""}))

    def _send(self, data: Mapping[str, Any]) -> None:
        self._write(b"data: " + json.dumps(data, separators=(",", ":")).encode() + b"\n\n")

    def _write(self, data: bytes) -> None:
        if not self.begun:
            self.begun = True
            self._request.setResponseCode(200)
            self._request.setHeader(b"content-type", b"text/event-stream")
            self._request.setHeader(b"cache-control", b"no-store")
            # Proxies that collect responses (nginx) pass this one on.
            self._request.setHeader(b"x-accel-buffering", b"no")
        self._request.write(data)
        if self._alive.active():
            self._alive.reset(_KEEP_ALIVE)

    def _say_alive(self) -> None:
        self._write(b": alive\n\n")
        self._alive = self._clock.callLater(_KEEP_ALIVE, self._say_alive)
