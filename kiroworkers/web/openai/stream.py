"""
A chat completion as a stream: server-sent events whose data are chunks, then ``[DONE]``.

Nothing is sent before there is something to say, so a request that fails earlier still
gets an HTTP status of its own.
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

#: Seconds of silence after which a comment is sent; proxies close silent connections.
_KEEP_ALIVE_INTERVAL = 15.0


class ChunkStream:
    """
    Send a reply to a client in chunks.

    Whoever creates a stream must close it.

    Attributes:
        started: Whether anything was sent.

    Args:
        clock: Times the keep-alive comments.
        request: The request to respond to.
        completion: Makes the chunks.
        incremental: Whether to send the reply while the agent produces it.  Text that was
            sent cannot be taken back: if the agent is asked again, its next answer must begin
            with that text, or the stream fails.
    """

    def __init__(
        self, clock: IReactorTime, request: IRequest, completion: Completion, incremental: bool
    ) -> None:
        self.started = False
        self._clock = clock
        self._request = request
        self._completion = completion
        self._reader = ReplyReader() if incremental else None
        self._sent = ""
        self._keep_alive = clock.callLater(_KEEP_ALIVE_INTERVAL, self._send_keep_alive)

    def on_progress(self, progress: Progress) -> None:
        """
        Send what is new of the reply, as the `OnProgress` callback of the request.
        """
        match progress:
            case PartialText(text) if self._reader is not None:
                self._send_text(self._reader.feed(text))
            case Retrying() if self._reader is not None:
                self._reader = None if self._sent else ReplyReader()

    def finish(self, content: str, usage: Mapping[str, Any] | None) -> bool:
        """
        Send the rest of the reply and the end of the stream.

        Args:
            content: The whole reply.
            usage: Token counts to send at the end; None to send none.

        Returns:
            False if the text that was sent is not the beginning of `content`; nothing is sent
            then.
        """
        if not content.startswith(self._sent):
            return False
        self._send_text(content[len(self._sent) :])
        self._send_role()
        self._send(self._completion.chunk({}, "stop"))
        if usage is not None:
            self._send(self._completion.usage_chunk(usage))
        self._write(b"data: [DONE]\n\n")
        return True

    def fail(self, body: Mapping[str, Any]) -> None:
        """
        Send the error `body` as the last event.
        """
        self._send(body)

    def close(self) -> None:
        """
        Stop sending keep-alive comments.
        """
        if self._keep_alive.active():
            self._keep_alive.cancel()

    def _send_text(self, text: str) -> None:
        if text:
            self._send_role()
            self._sent += text
            self._send(self._completion.chunk({"content": text}))

    def _send_role(self) -> None:
        """
        Send the chunk that opens the message, unless text has followed it already.
        """
        if not self._sent:
            self._send(self._completion.chunk({"role": "assistant", "content": ""}))

    def _send(self, data: Mapping[str, Any]) -> None:
        self._write(b"data: " + json.dumps(data, separators=(",", ":")).encode() + b"\n\n")

    def _write(self, data: bytes) -> None:
        if not self.started:
            self.started = True
            self._request.setResponseCode(200)
            self._request.setHeader(b"content-type", b"text/event-stream")
            self._request.setHeader(b"cache-control", b"no-store")
            # Keeps nginx from buffering the response.
            self._request.setHeader(b"x-accel-buffering", b"no")
        self._request.write(data)
        if self._keep_alive.active():
            self._keep_alive.reset(_KEEP_ALIVE_INTERVAL)

    def _send_keep_alive(self) -> None:
        self._write(b": alive\n\n")
        self._keep_alive = self._clock.callLater(_KEEP_ALIVE_INTERVAL, self._send_keep_alive)
