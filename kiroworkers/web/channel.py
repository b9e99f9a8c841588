"""
Receive requests one at a time, and bound the time and the size of each.

No worker is used before a request has been received as a whole, so a client that sends
slowly or without end cannot occupy one.

A connection has one request in progress.  What a client sends meanwhile (pipelining, RFC
9112, section 9.3.2) is kept unparsed, up to `MAX_BUFFER` bytes and the piece that exceeded
it, at most 64 KiB; then the server reads no more from the connection.  The next request is
parsed in a later turn of the event loop, and not while the client leaves more than 64 KiB
of responses unread.  So a connection never holds more than its buffer, one body, 64 KiB of
responses and one response more, and each connection with waiting requests has one of them
served in each turn.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any, Protocol

from twisted.internet.interfaces import IDelayedCall, IHalfCloseableProtocol
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.http import NO_BODY_CODES, HTTPChannel
from twisted.web.http_headers import Headers
from zope.interface import implementer

from kiroworkers.errors import ErrorCode
from kiroworkers.web.addresses import host_of
from kiroworkers.web.errors import HttpError, body_length, raw_error_response
from kiroworkers.web.framing import framing_problem, header_list
from kiroworkers.web.headers import cors_headers
from kiroworkers.web.limits import RequestLimits
from kiroworkers.web.recorded_request import RecordedRequest

#: Bytes that are kept of the requests after the one in progress before the server stops to
#: read from the connection.
MAX_BUFFER = 16 * 1024

#: Bytes of a chunked body that are decoded in one turn of the event loop at most, and the
#: lines among them.  A chunk has two lines besides its data, and of the smallest chunks, so
#: many take a quarter of a millisecond.  All connections have a turn before one has another.
_MAX_CHUNKED = 16 * 1024
_MAX_LINES = re.compile(rb"(?:[^\n]*+\n){128}")

#: The maximum number of digits of a Content-Length that is read as a number.
_MAX_LENGTH_DIGITS = 18

#: Seconds that a client has to read its last response before the connection is aborted.
_LINGER_TIMEOUT = 5

#: Seconds until the first ping of a client that closed its side of the connection, and the
#: longest time between two pings.
_FIRST_PING = 1
_PING_INTERVAL = 15

#: What a request may begin with; a TLS client begins with another byte.  An empty line may
#: precede it (RFC 9112, section 2.2).
_REQUEST_START = re.compile(rb"[!-~\r]")


class LimitedSite(Protocol):
    """
    Define what a `Channel` reads from the site that it belongs to.

    Attributes:
        limits: The limits on each request.
        timeOut: Seconds that a connection may be idle between requests.
    """

    limits: RequestLimits
    timeOut: Any

    def incomplete_request(self, channel: Channel) -> RecordedRequest:
        """
        Return the request that `channel` receives; an empty one if there is only noise.
        """

    def rejection_delay(self, request: RecordedRequest) -> float:
        """
        Return the seconds after which to reject `request`, which is incomplete.
        """


class Upgraded(Protocol):
    """
    Define what a connection belongs to after a request has changed its protocol.
    """

    def data_received(self, data: bytes) -> None:
        """
        Read what the client sent.
        """

    def read_closed(self) -> None:
        """
        Take note that the client sends nothing more.
        """


@implementer(IHalfCloseableProtocol)
class Channel(HTTPChannel):
    """
    Receive requests, and reject malformed, oversized and slow ones with a JSON error.
    """

    site: LimitedSite

    # `paused` is true while what is in the buffer may not be parsed: from the end of a request
    # until its response is written, and then until a later turn of the event loop.

    _timer: IDelayedCall | None = None
    _parse_call: IDelayedCall | None = None
    _ping_call: IDelayedCall | None = None
    _rejected = False
    _rejection_sent = False
    _lost = False
    _half_closed = False
    _upgraded: Upgraded | None = None

    def dataReceived(self, data: bytes) -> None:
        """
        Parse data, and start the timer if it begins a request.

        While another request is in progress, keep the data for later.
        """
        if self._upgraded is not None:
            self._upgraded.data_received(data)
            return
        if self._rejected:
            return
        if not self._handlingRequest:
            self._start_receive_timer()
        super().dataReceived(data)
        if not self.paused:
            self._check_incomplete_request()
        elif len(self._buffer) > MAX_BUFFER:
            self._networkProducer.pauseProducing()

    def lineReceived(self, line: bytes) -> None:
        """
        Parse a line of a request's head, unless the request was rejected.
        """
        if self._rejected:
            return
        if line[:1] in (b" ", b"\t"):
            # RFC 9112, sections 2.2 and 5.2.
            self._reject_malformed("A header line begins with a space or a tab")
            return
        super().lineReceived(line)

    def rawDataReceived(self, data: bytes) -> None:
        """
        Parse a piece of a body, unless the request was rejected.

        Chunks may be tiny, so the rest of a chunked body has to wait for its turn.
        """
        if self._rejected:
            return
        if self.length is None:
            lines = _MAX_LINES.match(data, 0, _MAX_CHUNKED)
            end = _MAX_CHUNKED if lines is None else lines.end()
            if end < len(data):
                data, self._buffer = data[:end], data[end:]
                self.paused = True
        super().rawDataReceived(data)
        self._continue()

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
        Reject a request whose headers rule out an answer, or receive the body.
        """
        # Checked before a client that sent "Expect: 100-continue" is told to continue.
        headers = self.requests[-1].requestHeaders
        problem = framing_problem(self._version, headers)
        if problem is not None:
            self._reject_malformed(problem)
        elif {*header_list(headers, b"expect")} - {b"100-continue"}:
            # RFC 9110, section 10.1.1.
            self.reject(HttpError(ErrorCode.EXPECTATION_FAILED, "Expect can only be 100-continue"))
        elif self.length is not None and self.length > self.site.limits.max_body:
            self.reject_body()
        else:
            super().allHeadersReceived()

    def checkPersistence(self, request: Any, version: bytes) -> bool:
        """
        Return whether the connection stays open after `request` (RFC 9112, section 9.3).
        """
        if b"close" in header_list(request.requestHeaders, b"connection"):
            request.responseHeaders.setRawHeaders(b"Connection", [b"close"])
            return False
        # `writeHeaders` decides for HTTP/1.0.
        return version == b"HTTP/1.1"

    def writeHeaders(self, version: bytes, code: bytes, reason: bytes, headers: Headers) -> None:
        """
        Write the head of a response, and keep an HTTP/1.0 connection if its client wants to.
        """
        # Without a length, only the end of the connection ends the body.
        sized = headers.hasHeader(b"content-length") or int(code) in NO_BODY_CODES
        if version == b"HTTP/1.0" and sized and not self._half_closed:
            options = header_list(self.requests[0].requestHeaders, b"connection")
            if b"keep-alive" in options and b"close" not in options:
                headers.setRawHeaders(b"Connection", [b"keep-alive"])
                self.persistent = True
        super().writeHeaders(version, code, reason, headers)

    def _finishRequestBody(self, data: bytes) -> None:
        # `data` is the beginning of the next request.
        self._buffer = data + self._buffer
        self.allContentReceived()

    def allContentReceived(self) -> None:
        """
        Stop the timer, and process the request; parse no other until it is answered.
        """
        if self._rejected:
            return
        self._stop_timer()
        # Twisted pauses this timeout now, and resumes it when the response ends.
        self.setTimeout(self.site.timeOut)
        self.paused = True
        if self._half_closed:
            self._start_pings()
        super().allContentReceived()

    def requestDone(self, request: Any) -> None:
        """
        Close the connection, or continue with the next request.
        """
        self._stop_pings()
        super().requestDone(request)
        self._continue()

    def resumeProducing(self) -> None:
        """
        Continue with the next request: the client has read what was written.
        """
        super().resumeProducing()
        self._continue()

    def _continue(self) -> None:
        """
        Schedule the parsing of what is in the buffer, if it may be parsed now.
        """
        if not self.paused or self._handlingRequest or self._rejected or self._is_closing():
            return
        if self._buffer:
            self._start_receive_timer()
            if len(self._buffer) > MAX_BUFFER:
                self._networkProducer.pauseProducing()
        if self._waitingForTransport:
            return
        if self._buffer:
            if self._parse_call is None:
                self._parse_call = self.callLater(0, self._parse)
        elif self._half_closed:
            self.loseConnection()
        else:
            self.paused = False

    def _parse(self) -> None:
        """
        Parse what is in the buffer.
        """
        self._parse_call = None
        if self._waitingForTransport or self._is_closing():
            return
        self.paused = False
        # The rest of the request may not have been received.
        self._networkProducer.resumeProducing()
        self.dataReceived(b"")

    def _is_closing(self) -> bool:
        transport: Any = self.transport
        return bool(transport.disconnecting)

    def _check_incomplete_request(self) -> None:
        """
        Reject a request that can no longer become a valid one.
        """
        if self._half_closed:
            if self.requests or self._buffer:
                self._reject_malformed("The request ended before it was complete")
            else:
                self.loseConnection()
        elif self.line_mode and b"\n" in self._buffer:
            # The parser leaves no CR LF in the buffer.
            self._reject_malformed("Lines must end with CR LF")
        elif self._buffer and not self.requests and not _REQUEST_START.match(self._buffer):
            self._reject_malformed("Not a valid HTTP/1.1 request")

    def readConnectionLost(self) -> None:
        """
        Answer what was received as a whole: the client sends no more (RFC 9112, section 9.6).

        Most clients that close their side have closed the connection, which only shows when
        something is written: ping the client while a request is in progress.
        """
        if self._half_closed or self._is_closing():
            # Twisted reads again whenever it resumes the transport, and once more after it
            # has begun to close the connection.
            return
        self._half_closed = True
        if self._upgraded is not None:
            self._upgraded.read_closed()
        elif self._rejected:
            if self._rejection_sent:
                # The client has read the error, or does not want to.
                assert self.transport is not None, "the channel is connected"
                self.transport.loseConnection()
        elif self._handlingRequest:
            if not self._buffer:
                self.persistent = False
                self.requests[0].responseHeaders.setRawHeaders(b"Connection", [b"close"])
            self._start_pings()
        elif not self.paused:
            self._check_incomplete_request()

    def upgrade(self, head: bytes, protocol: Upgraded) -> None:
        """
        Change the connection's protocol, as the request in progress has asked for.

        That request stays in progress.  The connection is closed when it ends.

        Args:
            head: The head of the response, which is the last that is HTTP.
            protocol: Gets all that the client sends after the request.
        """
        self._stop_pings()
        self.persistent = False
        self._upgraded = protocol
        self.write(head)
        data, self._buffer = self._buffer, b""
        self.resume_reading()
        if data:
            protocol.data_received(data)
        if self._half_closed:
            protocol.read_closed()

    def pause_reading(self) -> None:
        """
        Read no more from the client for now.
        """
        self._networkProducer.pauseProducing()

    def resume_reading(self) -> None:
        """
        Read from the client again.
        """
        self._networkProducer.resumeProducing()

    def writeConnectionLost(self) -> None:
        """
        Ignore the end of the server's side, which only `reject` closes.
        """

    def _start_pings(self) -> None:
        self._stop_pings()
        self._ping_call = self.callLater(_FIRST_PING, partial(self._ping, _FIRST_PING))

    def _ping(self, delay: float) -> None:
        """
        Write something that has no meaning to the client, and do it again after a while.

        A client that has closed the connection answers with a reset, so that the next
        ping fails and the request is cancelled.
        """
        delay = min(2 * delay, _PING_INTERVAL)
        self._ping_call = self.callLater(delay, partial(self._ping, delay))
        if not self._waitingForTransport:
            # Otherwise what waits is a ping itself, and may be the first half of an event.
            self.requests[0].ping()

    def _stop_pings(self) -> None:
        call, self._ping_call = self._ping_call, None
        if call is not None:
            call.cancel()

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
        Stop the timers, and cancel the request.
        """
        self._lost = True
        self._stop_timer()
        self._stop_pings()
        call, self._parse_call = self._parse_call, None
        if call is not None:
            call.cancel()
        super().connectionLost(reason)

    def reject(self, error: HttpError) -> None:
        """
        Send `error`, however much of a request was received, and read no more.
        """
        if self._rejected:
            return
        self._rejected = True
        self.paused, self._buffer = True, b""
        self._stop_timer()
        self.setTimeout(None)
        assert self.transport is not None, "the channel is connected"
        headers = self.requests[-1].requestHeaders if self.requests else None
        origin = (headers.getRawHeaders(b"origin", [b""])[0] if headers else b"").decode("latin-1")
        request = self.site.incomplete_request(self)
        self._log.info(
            "{client}: rejected an incomplete request: {code} (request {requestId})",
            client=host_of(self.transport.getPeer()),
            code=error.code,
            requestId=request.record.id,
        )
        response = raw_error_response(
            error, request.record.id, cors_headers(origin, self.site.limits.cors_origins)
        )
        request.log_rejected(error.code, body_length(response))
        delay = self.site.rejection_delay(request)
        if delay:
            self._timer = self.callLater(delay, lambda: self._send_rejection(response))
        else:
            self._send_rejection(response)

    def _send_rejection(self, response: bytes) -> None:
        assert self.transport is not None, "the channel is connected"
        self._timer = None
        self._rejection_sent = True
        self.transport.write(response)
        if self.isSecure() or self._half_closed:
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

    def _reject_malformed(self, reason: str) -> None:
        self.reject(HttpError(ErrorCode.BAD_REQUEST, reason))

    def _respondToBadRequestAndDisconnect(self) -> None:
        # Twisted calls this for every request that it cannot parse.
        if (
            self._receivedHeaderSize > self.totalHeadersSize
            or self._receivedHeaderCount > self.maxHeaders
        ):
            self.reject(self._head_too_large())
        else:
            self._reject_malformed("Not a valid HTTP/1.1 request")

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
