"""
Stream the progress of a request and its answer as server-sent events.

Each event has a name and one line of JSON.  A comment is sent from time to time to keep
a silent connection open.  The format is defined in the WHATWG HTML standard, section
"Server-sent events".

A client that does not read its stream costs a bounded amount of memory, see `EventWriter`.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from sys import getsizeof
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.logger import Logger
from twisted.web.iweb import IRequest
from zope.interface import implementer

from kiroworkers.pool.progress import (
    AgentNotice,
    PartialText,
    Progress,
    Queued,
    Retrying,
    Started,
)
from kiroworkers.web.addresses import host_of
from kiroworkers.web.errors import with_request_id
from kiroworkers.web.recorded_request import record_of

#: Seconds for which pieces of text are collected into one event.
_FLUSH_INTERVAL = 0.1

#: Seconds without an event until a comment is sent: proxies close silent connections.
_KEEP_ALIVE_INTERVAL = 15.0

#: The bytes of a request's progress that may wait for its client to read, besides those
#: that the kernel holds.
MAX_UNREAD = 1024 * 1024

#: Seconds without reading after which a client is dropped for which more than that waits.
_STALL_TIMEOUT = 3.0

#: Seconds without reading after which a client is dropped that has not read the end of its
#: stream.  The kernel may hold megabytes for a client, and says nothing until a third of
#: them has been read.
_END_TIMEOUT = 30.0

#: Seconds between two looks at a client that does not read.
_CHECK_INTERVAL = 1.0

#: The bytes of an event, or the characters of a text, that are written at a time.
_PIECE_SIZE = 64 * 1024

#: The code in the access log of a stream that was dropped because it was not read.
_NOT_READ = "not_read"

_TYPE = b"text/event-stream"


def wants_events(request: IRequest) -> bool:
    """
    Return whether the client accepts a stream of events.
    """
    accepted = (request.getHeader(b"accept") or b"").lower().split(b",")
    return any(media_range.partition(b";")[0].strip() == _TYPE for media_range in accepted)


def event(data: str, name: str | None = None) -> bytes:
    """
    Return an event as it is sent.

    Args:
        data: The data of the event, without line breaks.
        name: The name of the event; None for an event without one.
    """
    lines = f"data: {data}" if name is None else f"event: {name}\ndata: {data}"
    return f"{lines}\n\n".encode()


def json_event(data: Mapping[str, Any], name: str | None = None) -> bytes:
    """
    Return an event whose data is JSON, as it is sent.
    """
    return event(json.dumps(data, separators=(",", ":")), name)


@implementer(IPushProducer)
class EventWriter:
    """
    Write server-sent events as the response to a request, and comments in between.

    The response begins with the first event or comment: a request that fails earlier still
    gets a status of its own.  The caller must call `close` when the request ends, however it
    ends.

    While the client does not read, events wait here, and pieces of text become one event.
    A client that reads slowly gets all of them.  A client that reads less than a piece
    (64 KiB) in three seconds while more than `MAX_UNREAD` bytes wait is dropped: its
    connection is aborted, which cancels the request.  So is one that reads less than a
    piece of the end of the stream in half a minute.

    Attributes:
        started: Whether the response has begun.

    Args:
        clock: Times the comments, and how long a client does not read.
        request: The request to respond to.
        text_event: Returns the event that sends a text.
    """

    _log = Logger()

    def __init__(
        self, clock: IReactorTime, request: IRequest, text_event: Callable[[str], bytes]
    ) -> None:
        self.started = False
        self._clock = clock
        # `IRequest` does not have all that is used here.
        self._request: Any = request
        self._text_event = text_event
        # Parts of events, and texts that are still to become events.
        self._unsent: deque[bytes | str] = deque()
        self._unsent_size = 0
        self._paused = False
        self._dropped = False
        self._drained: Deferred[None] | None = None
        # When the client last read something, as far as is known, or began not to.
        self._read_at = 0.0
        self._check_timer: IDelayedCall | None = None
        self._keep_alive_timer = clock.callLater(_KEEP_ALIVE_INTERVAL, self._keep_alive)

    def write(self, event: bytes) -> None:
        """
        Write an event, after any text that was written before.
        """
        self._add([event[start : start + _PIECE_SIZE] for start in _starts(event)])

    def write_text(self, text: str) -> None:
        """
        Write an event that sends `text`, or several if it is large.

        Texts that still wait become one event, unless they are large.
        """
        self._add([text[start : start + _PIECE_SIZE] for start in _starts(text)])

    @property
    def lagging(self) -> bool:
        """
        Return whether something waits because the client does not read as fast as it comes.
        """
        return bool(self._unsent)

    def write_comment(self, text: str) -> None:
        """
        Write a comment, which clients ignore.
        """
        self.write(f": {text}\n\n".encode())

    def drained(self) -> Deferred[None]:
        """
        Return a Deferred that fires when everything that was written is on its way.

        A client that reads less than a piece (64 KiB) in half a minute is dropped.
        """
        if not self._unsent:
            return succeed(None)
        self._drained = Deferred()
        return self._drained

    def close(self) -> None:
        """
        Write nothing more, and stop the timers.
        """
        for timer in (self._keep_alive_timer, self._check_timer):
            if timer is not None and timer.active():
                timer.cancel()
        # The channel is gone if the client has hung up.
        if self.started and self._request.channel is not None:
            self._request.unregisterProducer()

    def pauseProducing(self) -> None:
        """
        Let events wait, because the client does not read.
        """
        if not self._paused:
            self._paused = True
            self._read_at = self._clock.seconds()
        if self._check_timer is None:
            self._check_timer = self._clock.callLater(_CHECK_INTERVAL, self._check)

    def resumeProducing(self) -> None:
        """
        Go on, because the client has read what it was sent.
        """
        self._paused = False
        self._send()
        if self._drained is not None and not self._unsent:
            drained, self._drained = self._drained, None
            drained.callback(None)

    def stopProducing(self) -> None:
        """
        Send nothing more, because the connection is lost.
        """
        self._discard()

    def _add(self, pieces: Sequence[bytes | str]) -> None:
        if not self._dropped:
            self._unsent.extend(pieces)
            self._unsent_size += sum(map(getsizeof, pieces))
            self._send()

    def _send(self) -> None:
        while self._unsent and not self._paused:
            if not self.started:
                self._begin()
            self._request.write(self._next_piece())
            if self._keep_alive_timer.active():
                self._keep_alive_timer.reset(_KEEP_ALIVE_INTERVAL)

    def _next_piece(self) -> bytes:
        piece = self._take()
        if isinstance(piece, bytes):
            return piece
        texts, room = [piece], _PIECE_SIZE - len(piece)
        while self._unsent and isinstance(text := self._unsent[0], str) and len(text) <= room:
            texts.append(text)
            room -= len(text)
            self._take()
        return self._text_event("".join(texts))

    def _take(self) -> bytes | str:
        piece = self._unsent.popleft()
        self._unsent_size -= getsizeof(piece)
        return piece

    def _begin(self) -> None:
        self.started = True
        self._request.setResponseCode(200)
        self._request.setHeader(b"content-type", _TYPE)
        self._request.setHeader(b"cache-control", b"no-store")
        # Proxies that buffer responses (nginx) do not buffer one with this header.
        self._request.setHeader(b"x-accel-buffering", b"no")
        self._request.registerProducer(self, True)

    def _keep_alive(self) -> None:
        self._keep_alive_timer = self._clock.callLater(_KEEP_ALIVE_INTERVAL, self._keep_alive)
        if not self._paused:
            self.write_comment("alive")

    def _check(self) -> None:
        """
        Drop the client if it does not read, and look again later if it may begin to.
        """
        self._check_timer = None
        if not self._paused or self._dropped:
            return
        seconds = self._clock.seconds() - self._read_at
        if self._drained is not None:
            stalled = seconds >= _END_TIMEOUT
        else:
            stalled = self._unsent_size > MAX_UNREAD and seconds >= _STALL_TIMEOUT
        if stalled:
            self._drop(seconds)
        else:
            self._check_timer = self._clock.callLater(_CHECK_INTERVAL, self._check)

    def _drop(self, seconds: float) -> None:
        record_of(self._request).fail(_NOT_READ, "The client does not read its stream")
        self._log.warn(
            "{client}: dropped a stream of {path!r}: {size} bytes wait, and the client has read "
            "less than {piece} in {seconds:g} seconds (request {requestId})",
            requestId=record_of(self._request).id,
            client=host_of(self._request.getClientAddress()),
            path=self._request.path,
            size=self._unsent_size,
            piece=_PIECE_SIZE,
            seconds=seconds,
        )
        self._discard()
        self._request.transport.abortConnection()

    def _discard(self) -> None:
        self._dropped = True
        self._unsent.clear()
        self._unsent_size = 0


def _starts(data: bytes | str) -> range:
    """
    Return where the pieces of `data` start.

    If the transport were given a large event at once, it would not be known whether the
    client reads any of it.
    """
    return range(0, len(data), _PIECE_SIZE)


class EventStream:
    """
    Write the events of a request to a task.  The response begins at once.

    The caller must call `close` when the request ends, however it ends.
    """

    def __init__(self, clock: IReactorTime, request: IRequest) -> None:
        self._clock = clock
        self._record = record_of(request)
        self._writer = EventWriter(clock, request, lambda text: json_event({"text": text}, "text"))
        self._text: list[str] = []
        self._text_length = 0
        self._flush_timer: IDelayedCall | None = None
        self._writer.write_comment("kiroworkers")

    def on_progress(self, progress: Progress) -> None:
        """
        Send `progress` as an event; this is an `OnProgress` callback.

        Pieces of text that come within a tenth of a second become one event, unless they are
        large.
        """
        match progress:
            case Queued(position, seconds):
                self._send("queued", {"position": position, "estimate": round(seconds, 1)})
            case Started(worker, attempt):
                self._send("started", {"worker": worker, "attempt": attempt})
            case Retrying(reason, where):
                self._send("retry", {"reason": reason, "where": where})
            case AgentNotice(kind, detail):
                self._send("notice", {"kind": kind, "detail": detail})
            case PartialText(text):
                self._text.append(text)
                self._text_length += len(text)
                if self._text_length > _PIECE_SIZE:
                    self._flush()
                elif self._flush_timer is None:
                    self._flush_timer = self._clock.callLater(_FLUSH_INTERVAL, self._flush)

    def send_headers(self, headers: Mapping[str, str]) -> None:
        """
        Send the headers of an answer as an event, because those of the response are already sent.

        Args:
            headers: The headers that describe the answer.
        """
        self._send("headers", headers)

    def end(self, name: str, data: Mapping[str, Any]) -> Deferred[None]:
        """
        Send the last event, `name` with `data`, after any text that was collected before.

        Returns:
            A Deferred that fires with None when everything is on its way to the client.
        """
        if name == "error":
            self._record.fail(data["code"], data["error"])
            data = with_request_id(data, self._record.id)
        self._send(name, data)
        return self._writer.drained()

    def close(self) -> None:
        """
        Send nothing more, and stop the timers.
        """
        self._cancel_flush()
        self._writer.close()

    def _send(self, name: str, data: Mapping[str, Any]) -> None:
        self._flush()
        self._writer.write(json_event(data, name))

    def _flush(self) -> None:
        self._cancel_flush()
        if self._text:
            text = "".join(self._text)
            self._text.clear()
            self._text_length = 0
            self._writer.write_text(text)

    def _cancel_flush(self) -> None:
        if self._flush_timer is not None and self._flush_timer.active():
            self._flush_timer.cancel()
        self._flush_timer = None
