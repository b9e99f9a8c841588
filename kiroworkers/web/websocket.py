"""
Send messages over a WebSocket that a request has asked for.

The request stays in progress until the WebSocket ends: its connection counts towards the
limits, and its line in the access log has the duration and the bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.web.iweb import IRequest
from wsproto.frame_protocol import CloseReason
from zope.interface import implementer

from kiroworkers.web.frames import Frames, accept_handshake, ping_frame
from kiroworkers.web.recorded_request import record_of

#: Seconds between two pings, which also keep proxies from closing the connection.
PING_INTERVAL = 20.0

#: Seconds after which a client is dropped from which nothing came: neither an answer to a ping
#: nor anything else.
DEAD_AFTER = 60.0

#: Seconds that a client has to answer when the server closes the WebSocket.
_CLOSE_TIMEOUT = 2.0

#: Bytes from a client that are read in one turn of the event loop at most: a few milliseconds, of
#: the smallest frames.
_MAX_READ = 2048

#: The code in the access log of a WebSocket whose client was gone or did not read.
_NOT_READ = "not_read"


@implementer(IPushProducer)
class WebSocket:
    """
    Send messages to one client.  What it sends is read, but has no effect.

    The sender must send nothing while `paused` is true: nothing is buffered here, and the
    transport holds about 64 KiB and one message.

    Attributes:
        paused: Whether the client does not read what was sent.
        on_resume: Called when the client has read what was sent.

    Args:
        clock: Times the pings.
        request: The request that asks for the WebSocket.  It is authorized.
        is_allowed: Asked before each ping whether the client may still have the WebSocket.

    Raises:
        HttpError: The request is no valid handshake.
    """

    def __init__(
        self,
        clock: IReactorTime,
        request: IRequest,
        is_allowed: Callable[[], bool] = lambda: True,
    ) -> None:
        # `IRequest` does not have all that is used here.
        twisted_request: Any = request
        accept = accept_handshake(
            request.method, twisted_request.clientproto, request.requestHeaders
        )
        self.paused = False
        self.on_resume: Callable[[], None] = lambda: None
        self._clock = clock
        self._is_allowed = is_allowed
        self._request = twisted_request
        self._channel = twisted_request.channel
        self._frames = Frames()
        self._unread = b""
        self._read_call: IDelayedCall | None = None
        self._closing = False
        self._ended = False
        self._closed: Deferred[None] = Deferred()
        self._heard_at = clock.seconds()
        self._timer = clock.callLater(PING_INTERVAL, self._ping)
        self._channel.upgrade(self._head(accept), self)
        twisted_request.registerProducer(self, True)

    def _head(self, accept: bytes) -> bytes:
        """
        Return the head of the response, which is not written by Twisted's request.
        """
        request = self._request
        request.setResponseCode(101)
        request.startedWriting = 1
        id = request.responseHeaders.getRawHeaders(b"x-request-id", [])
        lines = [
            b"HTTP/1.1 101 Switching Protocols",
            b"Upgrade: websocket",
            b"Connection: Upgrade",
            b"Sec-WebSocket-Accept: " + accept,
            *(b"X-Request-ID: " + value for value in id),
        ]
        return b"\r\n".join((*lines, b"", b""))

    async def wait_until_closed(self) -> None:
        """
        Return when the WebSocket has ended; it is cancelled if the connection is lost.
        """
        try:
            await self._closed
        finally:
            self._end()

    def send(self, frame: bytes) -> None:
        """
        Send a frame, unless the WebSocket is being closed.
        """
        if not self._closing:
            self._write(frame)

    def close(self, code: CloseReason, reason: str) -> None:
        """
        Close the WebSocket: tell the client why, and wait a moment for its answer.
        """
        if not self._closing:
            self._closing = True
            self._write(self._frames.close(code, reason))
            self._timer.reset(_CLOSE_TIMEOUT)

    def close_now(self, code: CloseReason, reason: str) -> None:
        """
        Close the WebSocket without waiting for the client.
        """
        self.close(code, reason)
        self._finish()

    # Called by the channel.

    def data_received(self, data: bytes) -> None:
        """
        Read what the client sent, as much as is read at a time.
        """
        if self._ended:
            return
        self._heard_at = self._clock.seconds()
        self._unread += data
        if self._read_call is None:
            self._read()

    def read_closed(self) -> None:
        """
        Take note that the client sends nothing more, and so has ended the WebSocket.
        """
        self._finish()

    def _read(self) -> None:
        self._read_call = None
        data, self._unread = self._unread[:_MAX_READ], self._unread[_MAX_READ:]
        answer = self._frames.receive(data)
        # A client that does not read gets no answers either, or they would fill the memory.
        if answer and (not self.paused or self._frames.closed):
            self._write(answer)
        if self._frames.closed:
            self._unread = b""
            self._finish()
        elif self._unread:
            self._channel.pause_reading()
            self._read_call = self._clock.callLater(0, self._read)
        else:
            self._channel.resume_reading()

    # Called by the transport.

    def pauseProducing(self) -> None:
        """
        Send nothing for now, because the client does not read.
        """
        self.paused = True

    def resumeProducing(self) -> None:
        """
        Go on, because the client has read what was sent.
        """
        self.paused = False
        self.on_resume()

    def stopProducing(self) -> None:
        """
        Send nothing more, because the connection is lost.
        """
        self._closing = True

    def _write(self, data: bytes) -> None:
        if not self._ended:
            self._request.sentLength += len(data)
            self._channel.write(data)

    def _ping(self) -> None:
        """
        Ping the client, or drop it if it has not answered for a while.
        """
        if self._closing:
            self._finish()
        elif self._clock.seconds() - self._heard_at >= DEAD_AFTER:
            record_of(self._request).code = _NOT_READ
            self._request.transport.abortConnection()
        elif not self._is_allowed():
            self._timer = self._clock.callLater(_CLOSE_TIMEOUT, self._ping)
            self.close(CloseReason.POLICY_VIOLATION, "no longer allowed")
        else:
            self._timer = self._clock.callLater(PING_INTERVAL, self._ping)
            if not self.paused:
                self._write(ping_frame())

    def _finish(self) -> None:
        """
        End the WebSocket, which lets the request end and closes the connection.
        """
        if not self._closed.called:
            self._closing = True
            self._closed.callback(None)

    def _end(self) -> None:
        self._ended = self._closing = True
        self._unread = b""
        for call in (self._timer, self._read_call):
            if call is not None and call.active():
                call.cancel()
        # The channel is gone if the connection is lost.
        if self._request.channel is not None:
            self._request.unregisterProducer()
