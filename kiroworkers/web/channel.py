"""
Bound the time and the size of a request while it is received.

No worker is used before a request has been received as a whole, so a client that sends
slowly or without end cannot occupy one.
"""

from __future__ import annotations

from typing import Any, Protocol

from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel

from kiroworkers.errors import ErrorCode
from kiroworkers.web.addresses import host_of
from kiroworkers.web.errors import HttpError, raw_error_response
from kiroworkers.web.headers import cors_headers
from kiroworkers.web.limits import RequestLimits

#: The maximum number of digits of a Content-Length that is read as a number.
_MAX_LENGTH_DIGITS = 18

#: Seconds that a client has to read its last response before the connection is aborted.
_LINGER_TIMEOUT = 5


class LimitedSite(Protocol):
    """
    Define what a `Channel` reads from the site that it belongs to.

    Attributes:
        limits: The limits on each request.
        timeOut: Seconds that a connection may be idle between requests.
    """

    limits: RequestLimits
    timeOut: Any


class Channel(HTTPChannel):
    """
    Receive requests, and reject malformed, oversized and slow ones with a JSON error.
    """

    site: LimitedSite

    _timer: IDelayedCall | None = None
    _rejected = False
    _lost = False

    def dataReceived(self, data: bytes) -> None:
        """
        Parse data, and start the timer if it begins a request.
        """
        if not self._rejected:
            if not self._handlingRequest:
                self._start_receive_timer()
            super().dataReceived(data)

    def lineReceived(self, line: bytes) -> None:
        """
        Parse a line, and start the timer if it begins a request.
        """
        if not self._rejected:
            super().lineReceived(line)
            if self.requests and not (self._handlingRequest or self._rejected):
                # This request began in the same data as the end of the one before.
                self._start_receive_timer()

    def rawDataReceived(self, data: bytes) -> None:
        """
        Parse a piece of a body, unless the request was rejected.
        """
        if not self._rejected:
            super().rawDataReceived(data)

    def lineLengthExceeded(self, line: bytes) -> None:
        """
        Reject a request whose first line or header is too long.
        """
        self.reject(self._head_too_large())

    def headerReceived(self, line: bytes) -> bool:
        """
        Parse a header, and return whether it was accepted.
        """
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length" and len(value.strip()) > _MAX_LENGTH_DIGITS:
            # Python refuses to parse thousands of digits, which Twisted does not expect.
            self.reject_body()
            return False
        received: bool = super().headerReceived(line)
        return received

    def allHeadersReceived(self) -> None:
        """
        Reject a request that announces too large a body, or receive the body.
        """
        # Checked before a client that sent "Expect: 100-continue" is told to continue.
        if self.length is not None and self.length > self.site.limits.max_body:
            self.reject_body()
            return
        super().allHeadersReceived()

    def allContentReceived(self) -> None:
        """
        Stop the timer, and process the request.
        """
        if not self._rejected:
            self._stop_timer()
            # Twisted pauses this timeout now, and resumes it when the response ends.
            self.setTimeout(self.site.timeOut)
            super().allContentReceived()

    def requestDone(self, request: Any) -> None:
        """
        Continue with the next request, and start its timer if it has begun.
        """
        if self._dataBuffer and self.persistent:
            # The first bytes of the next request are here.
            self._start_receive_timer()
        super().requestDone(request)

    def loseConnection(self) -> None:
        """
        Close the connection, and abort it if the client does not read its response.
        """
        super().loseConnection()
        if self._timer is None and not self._lost:
            # Twisted would wait forever for a client that does not read.
            self._timer = self.callLater(self.site.timeOut, self._abort)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        Stop the timer, and cancel the request.
        """
        self._lost = True
        self._stop_timer()
        super().connectionLost(reason)

    def reject(self, error: HttpError) -> None:
        """
        Send `error` at once, however much of a request was received, and read no more.
        """
        if self._rejected:
            return
        self._rejected = True
        self._stop_timer()
        self.setTimeout(None)
        assert self.transport is not None, "the channel is connected"
        self._log.info(
            "{client}: rejected an incomplete request: {code}",
            client=host_of(self.transport.getPeer()),
            code=error.code,
        )
        headers = self.requests[-1].requestHeaders if self.requests else None
        origin = (headers.getRawHeaders(b"origin", [b""])[0] if headers else b"").decode("latin-1")
        self.transport.write(
            raw_error_response(error, cors_headers(origin, self.site.limits.cors_origins))
        )
        if self.isSecure():
            self.loseConnection()
            return
        # A client that is still sending when the connection closes may lose the response.
        getattr(self.transport, "loseWriteConnection", self.transport.loseConnection)()
        self._timer = self.callLater(_LINGER_TIMEOUT, self._abort)

    def reject_body(self) -> None:
        """
        Reject a request whose body is too large.
        """
        limit = self.site.limits.max_body
        self.reject(HttpError(ErrorCode.TOO_LARGE, f"The body is larger than {limit} bytes"))

    def _respondToBadRequestAndDisconnect(self) -> None:
        # Twisted calls this for every request that it cannot parse.
        if (
            self._receivedHeaderSize > self.totalHeadersSize
            or self._receivedHeaderCount > self.maxHeaders
        ):
            self.reject(self._head_too_large())
        else:
            self.reject(HttpError(ErrorCode.BAD_REQUEST, "Not a valid HTTP/1.1 request"))

    def _head_too_large(self) -> HttpError:
        if not self.requests:
            return HttpError(ErrorCode.PATH_TOO_LONG, "The path is too long")
        return HttpError(ErrorCode.HEADERS_TOO_LARGE, "The headers are too large or too many")

    def _start_receive_timer(self) -> None:
        """
        Reject the request unless the rest of it is received in time.

        Further data does not restart the timer.
        """
        if self._timer is None:
            self.setTimeout(None)
            self._timer = self.callLater(self.site.limits.receive_timeout, self._reject_slow)

    def _reject_slow(self) -> None:
        self._timer = None
        limit = self.site.limits.receive_timeout
        self.reject(
            HttpError(ErrorCode.TOO_SLOW, f"The request was not received within {limit:g} seconds")
        )

    def _abort(self) -> None:
        self._timer = None
        transport: Any = self.transport
        transport.abortConnection()

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
