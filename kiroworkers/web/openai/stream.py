"""
Stream a chat completion as server-sent events: chunks, then ``[DONE]``.

Nothing is sent until there is something to say, so a request that fails before that still
gets its own HTTP status.
"""

from __future__ import annotations

from collections.abc import Mapping
from io import StringIO
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.web.iweb import IRequest

from kiroworkers.chat import ReplyReader
from kiroworkers.pool.progress import PartialText, Progress, Retrying
from kiroworkers.web.errors import with_request_id
from kiroworkers.web.events import EventWriter, event, json_event
from kiroworkers.web.openai.completion import Completion
from kiroworkers.web.recorded_request import record_of


class ChunkStream:
    """
    Send a reply to a client in chunks.

    Whoever creates a stream must close it.

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
        self._writer = EventWriter(
            clock, request, lambda text: json_event(completion.chunk({"content": text}))
        )
        self._record = record_of(request)
        self._completion = completion
        self._reader = ReplyReader() if incremental else None
        self._sent = StringIO()

    @property
    def started(self) -> bool:
        """
        Return whether anything was sent.
        """
        return self._writer.started

    def on_progress(self, progress: Progress) -> None:
        """
        Send what is new in the reply; this is an `OnProgress` callback.
        """
        match progress:
            case PartialText(text) if self._reader is not None:
                self._send_text(self._reader.feed(text))
            case Retrying() if self._reader is not None:
                self._reader = None if self._sent.tell() else ReplyReader()

    async def finish(self, content: str, usage: Mapping[str, Any] | None) -> bool:
        """
        Send the rest of the reply and the end of the stream.

        This returns when everything is on its way to the client.

        Args:
            content: The whole reply.
            usage: Token counts to send at the end; None to send none.

        Returns:
            False, with nothing sent, if the text sent so far is not the beginning of
            `content`.
        """
        sent = self._sent.getvalue()
        if not content.startswith(sent):
            return False
        self._send_text(content[len(sent) :])
        self._send_role()
        self._writer.write(json_event(self._completion.chunk({}, "stop")))
        if usage is not None:
            self._writer.write(json_event(self._completion.usage_chunk(usage)))
        self._writer.write(event("[DONE]"))
        await self._writer.drained()
        return True

    async def fail(self, body: Mapping[str, Any]) -> None:
        """
        Send the error `body` as the last event, and return when it is on its way.
        """
        error = body["error"]
        self._record.fail(error["code"], error["message"])
        self._writer.write(json_event({"error": with_request_id(error, self._record.id)}))
        await self._writer.drained()

    def close(self) -> None:
        """
        Stop sending keep-alive comments.
        """
        self._writer.close()

    def _send_text(self, text: str) -> None:
        if text:
            self._send_role()
            self._sent.write(text)
            self._writer.write_text(text)

    def _send_role(self) -> None:
        """
        Send the chunk that opens the message, unless text has already been sent.
        """
        if not self._sent.tell():
            chunk = self._completion.chunk({"role": "assistant", "content": ""})
            self._writer.write(json_event(chunk))
