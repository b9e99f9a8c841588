"""
Stream the reply to a conversation as server-sent events, in the format of any API.

Nothing is sent until there is something to say, so a request that fails before that still
gets its own HTTP status.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from io import StringIO
from typing import Any, Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.web.iweb import IRequest

from kiroworkers.chat import ChatReply, ReplyReader
from kiroworkers.pool.progress import PartialText, Progress, Retrying
from kiroworkers.web.errors import with_request_id
from kiroworkers.web.events import EventWriter
from kiroworkers.web.recorded_request import record_of


class ReplyWriter(Protocol):
    """
    Describe what writes a reply in the format of an API.
    """

    def whole(self, reply: ChatReply) -> Mapping[str, Any]:
        """
        Return the body of a response that is not a stream.
        """

    def opening(self) -> Iterable[bytes]:
        """
        Return the events that come before the first text.
        """

    def text(self, text: str) -> bytes:
        """
        Return the event that adds `text` to the reply.
        """

    def closing(self, reply: ChatReply) -> Iterable[bytes]:
        """
        Return the events after the last text of `reply`.
        """

    def error(self, status: int, body: Mapping[str, Any]) -> bytes:
        """
        Return the event that ends the stream of a request that failed.

        Args:
            status: HTTP status of the failure.
            body: The error as other paths send it, with ``error``, ``code`` and ``requestId``.
        """


class ReplyStream:
    """
    Send a reply to a client in pieces.

    The caller must call `close` when the request ends, however it ends.

    Args:
        clock: Times the keep-alive comments.
        request: The request to respond to.
        writer: Makes the events.
        incremental: Whether to send the reply while the agent produces it.  Text that was
            sent cannot be taken back: if the agent is asked again, its next answer must begin
            with that text, or the stream fails.
    """

    def __init__(
        self, clock: IReactorTime, request: IRequest, writer: ReplyWriter, incremental: bool
    ) -> None:
        self._events = EventWriter(clock, request, writer.text)
        self._record = record_of(request)
        self._writer = writer
        self._reader = ReplyReader() if incremental else None
        self._sent = StringIO()

    @property
    def started(self) -> bool:
        """
        Return whether anything was sent.
        """
        return self._events.started

    def on_progress(self, progress: Progress) -> None:
        """
        Send what is new in the reply; this is an `OnProgress` callback.
        """
        match progress:
            case PartialText(text) if self._reader is not None:
                self._send_text(self._reader.feed(text))
            case Retrying() if self._reader is not None:
                self._reader = None if self._sent.tell() else ReplyReader()

    async def finish(self, reply: ChatReply) -> bool:
        """
        Send the rest of `reply` and the end of the stream.

        This returns when everything is on its way to the client.

        Returns:
            False, with nothing sent, if the text sent so far is not the beginning of the reply.
        """
        sent = self._sent.getvalue()
        if not reply.content.startswith(sent):
            return False
        self._send_text(reply.content[len(sent) :])
        self._open()
        # Text becomes events only when it is sent, and a writer may number its events.  Each may
        # have the whole text, so one at a time is made.
        await self._events.drained()
        for event in self._writer.closing(reply):
            self._events.write(event)
            await self._events.drained()
        return True

    async def fail(self, status: int, body: Mapping[str, Any]) -> None:
        """
        Send the error `body` as the last event, and return when it is on its way.

        Args:
            status: HTTP status of the failure.
            body: The error, with ``error`` and ``code``.
        """
        self._record.fail(body["code"], body["error"])
        await self._events.drained()
        self._events.write(self._writer.error(status, with_request_id(body, self._record.id)))
        await self._events.drained()

    def close(self) -> None:
        """
        Stop sending keep-alive comments.
        """
        self._events.close()

    def _send_text(self, text: str) -> None:
        if text:
            self._open()
            self._sent.write(text)
            self._events.write_text(text)

    def _open(self) -> None:
        """
        Send the events that come before the text, unless text has already been sent.
        """
        if not self._sent.tell():
            for event in self._writer.opening():
                self._events.write(event)
