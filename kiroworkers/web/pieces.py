"""
Send a large response in pieces, so that a client that does not read it costs little memory.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer, IReactorTime
from twisted.web.iweb import IRequest
from zope.interface import implementer

#: The bytes that are written at a time.  The transport keeps about two pieces.
_PIECE_SIZE = 64 * 1024

#: Seconds that a client has to read all pieces but the last.
_TIMEOUT = 120.0


async def send_in_pieces(clock: IReactorTime, request: IRequest, content: bytes) -> None:
    """
    Write `content` to the response to `request`, as fast as its client reads.

    The connection of a client that reads too slowly is aborted, which cancels the request.

    Args:
        clock: Measures how long the client reads.
        request: The request, whose response has all its headers.
        content: The body of the response, or its rest.
    """
    # `IRequest` does not have all that is used here.
    channel_request: Any = request
    writer = _PieceWriter(channel_request, content)
    deadline = clock.callLater(_TIMEOUT, channel_request.transport.abortConnection)
    channel_request.registerProducer(writer, True)
    try:
        writer.resumeProducing()
        await writer.written
    finally:
        if deadline.active():
            deadline.cancel()
        # The channel is gone if the client has hung up.
        if channel_request.channel is not None:
            channel_request.unregisterProducer()


@implementer(IPushProducer)
class _PieceWriter:
    """
    Write the pieces of a response while the transport takes them.

    Attributes:
        written: Fires when the last piece is written.
    """

    def __init__(self, request: Any, content: bytes) -> None:
        self._request = request
        self._content = content
        self._position = 0
        self._paused = False
        self.written: Deferred[None] = Deferred()

    def resumeProducing(self) -> None:
        """
        Write pieces until the transport has enough.
        """
        self._paused = False
        while not self._paused and self._position < len(self._content):
            start, self._position = self._position, self._position + _PIECE_SIZE
            self._request.write(self._content[start : self._position])
        if self._position >= len(self._content) and not self.written.called:
            self.written.callback(None)

    def pauseProducing(self) -> None:
        """
        Write nothing for now, because the client does not read.
        """
        self._paused = True

    def stopProducing(self) -> None:
        """
        Write nothing more, because the connection is lost.
        """
        self._paused = True


async def send_file_in_pieces(
    clock: IReactorTime,
    request: IRequest,
    read: Callable[[int, int], Awaitable[bytes]],
    size: int,
) -> None:
    """
    Write `size` bytes of a file to the response to `request`, as fast as its client reads.

    The connection of a client that reads nothing for too long is aborted, which cancels the
    request.  It is aborted as well if the file turns out to be shorter.

    Args:
        clock: Measures how long the client reads nothing.
        request: The request, whose response has all its headers.
        read: Reads bytes of the file, given how many and from where.
        size: The size of the file.
    """
    # `IRequest` does not have all that is used here.
    channel_request: Any = request
    backpressure = _Backpressure()
    channel_request.registerProducer(backpressure, True)
    try:
        position = 0
        while position < size:
            deadline = clock.callLater(_TIMEOUT, channel_request.transport.abortConnection)
            try:
                await backpressure.released()
            finally:
                if deadline.active():
                    deadline.cancel()
            data = await read(min(_PIECE_SIZE, size - position), position)
            if not data:
                channel_request.transport.abortConnection()
                return
            position += len(data)
            channel_request.write(data)
    finally:
        # The channel is gone if the client has hung up.
        if channel_request.channel is not None:
            channel_request.unregisterProducer()


@implementer(IPushProducer)
class _Backpressure:
    """
    Make whoever writes wait while the client does not read.
    """

    def __init__(self) -> None:
        self._paused = False
        self._waiting: Deferred[None] | None = None

    async def released(self) -> None:
        """
        Return when the transport takes more.
        """
        if self._paused:
            self._waiting = Deferred()
            await self._waiting

    def resumeProducing(self) -> None:
        """
        Let the writer go on.
        """
        self._paused = False
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.called:
            waiting.callback(None)

    def pauseProducing(self) -> None:
        """
        Make the writer wait, because the client does not read.
        """
        self._paused = True

    def stopProducing(self) -> None:
        """
        Make the writer wait, because the connection is lost; its request is cancelled.
        """
        self._paused = True
