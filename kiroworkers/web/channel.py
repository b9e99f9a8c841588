"""
A connection before there is a request: how long one may take to come and how
large it may be.  No worker is asked before a request is there as a whole, so
who sends slowly, or without end, holds none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel

from kiroworkers.web.addresses import host_of
from kiroworkers.web.errors import HttpError, whole_response
from kiroworkers.web.headers import cors_headers

if TYPE_CHECKING:
    from kiroworkers.web.site import ApiSite

#: Of the length of a body that could be.
_DIGITS = 18

#: Seconds that a client has to take its last response before it is cut off.
_LINGER = 5


class Channel(HTTPChannel):
    """
    Refuses in JSON what is no request, is too large or comes too slowly.
    """

    site: ApiSite

    _alarm: IDelayedCall | None = None
    _refused = False
    _lost = False

    def dataReceived(self, data: bytes) -> None:
        if not self._refused:
            if not self._handlingRequest:
                self._expect_rest()
            super().dataReceived(data)

    def lineReceived(self, line: bytes) -> None:
        if not self._refused:
            super().lineReceived(line)
            if self.requests and not (self._handlingRequest or self._refused):
                # Begun behind another request, in what came with it.
                self._expect_rest()

    def rawDataReceived(self, data: bytes) -> None:
        if not self._refused:
            super().rawDataReceived(data)

    def lineLengthExceeded(self, line: bytes) -> None:
        self.refuse(self._too_large_a_head())

    def headerReceived(self, line: bytes) -> bool:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length" and len(value.strip()) > _DIGITS:
            # Python makes no number of thousands of digits, and Twisted does not expect that.
            self.refuse_body()
            return False
        received: bool = super().headerReceived(line)
        return received

    def allHeadersReceived(self) -> None:
        # Before a client that asks whether it may send is told to go on.
        if self.length is not None and self.length > self.site.rules.max_body:
            self.refuse_body()
            return
        super().allHeadersReceived()

    def allContentReceived(self) -> None:
        if not self._refused:
            self._silence_alarm()
            # Twisted stops this one now, and has it go on with the response's end.
            self.setTimeout(self.site.timeOut)
            super().allContentReceived()

    def requestDone(self, request: Any) -> None:
        if self._dataBuffer and self.persistent:
            # The next request has begun to come.
            self._expect_rest()
        super().requestDone(request)

    def loseConnection(self) -> None:
        super().loseConnection()
        if self._alarm is None and not self._lost:
            # Twisted would wait for ever for a client that does not read.
            self._alarm = self.callLater(self.site.timeOut, self._cut)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._lost = True
        self._silence_alarm()
        super().connectionLost(reason)

    def refuse(self, refusal: HttpError) -> None:
        """
        Answer at once, whatever has come of a request, and read no more.
        """
        if self._refused:
            return
        self._refused = True
        self._silence_alarm()
        self.setTimeout(None)
        assert self.transport is not None, "there is a client"
        self._log.info(
            "{client}: refused before there was a request: {code}",
            client=host_of(self.transport.getPeer()),
            code=refusal.code,
        )
        headers = self.requests[-1].requestHeaders if self.requests else None
        origin = (headers.getRawHeaders(b"origin", [b""])[0] if headers else b"").decode("latin-1")
        self.transport.write(
            whole_response(refusal, cors_headers(origin, self.site.rules.cors_origins))
        )
        if self.isSecure():
            self.loseConnection()
            return
        # Who is still sending when a connection closes may lose what was said to it.
        getattr(self.transport, "loseWriteConnection", self.transport.loseConnection)()
        self._alarm = self.callLater(_LINGER, self._cut)

    def refuse_body(self) -> None:
        """
        Refuse a body that is too large.
        """
        most = self.site.rules.max_body
        self.refuse(HttpError(413, "too_large", f"The body is larger than {most} bytes"))

    def _respondToBadRequestAndDisconnect(self) -> None:
        # Twisted's one word for all that it does not understand.
        if (
            self._receivedHeaderSize > self.totalHeadersSize
            or self._receivedHeaderCount > self.maxHeaders
        ):
            self.refuse(self._too_large_a_head())
        else:
            self.refuse(HttpError(400, "bad_request", "This is no request of HTTP/1.1"))

    def _too_large_a_head(self) -> HttpError:
        if not self.requests:
            return HttpError(414, "path_too_long", "The path is too long")
        return HttpError(431, "headers_too_large", "The headers are too large, or too many")

    def _expect_rest(self) -> None:
        """
        From now on the rest of a request has to come, however lively the client.
        """
        if self._alarm is None:
            self.setTimeout(None)
            self._alarm = self.callLater(self.site.rules.receive_timeout, self._give_up)

    def _give_up(self) -> None:
        self._alarm = None
        limit = self.site.rules.receive_timeout
        self.refuse(
            HttpError(408, "too_slow", f"The request did not come within {limit:g} seconds")
        )

    def _cut(self) -> None:
        self._alarm = None
        transport: Any = self.transport
        transport.abortConnection()

    def _silence_alarm(self) -> None:
        alarm, self._alarm = self._alarm, None
        if alarm is not None:
            alarm.cancel()
