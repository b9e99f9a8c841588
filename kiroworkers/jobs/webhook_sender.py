"""
Post webhooks to the hosts that may be called.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn
from urllib.parse import urlsplit

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint, wrapClientTLS
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import (
    IAddress,
    IHostResolution,
    IResolutionReceiver,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import URI
from zope.interface import implementer

from kiroworkers import __version__
from kiroworkers.jobs.ssrf import CallbackHosts

#: Seconds for a whole call: resolving, connecting, sending and the response's headers.
_TIMEOUT = 10.0

#: The maximum size of the headers of all responses to a call, the interim ones included.
_MAX_HEADERS = 64 * 1024

#: RFC 9112, section 4.  A lone LF counts as the end of a line, as section 2.2 allows.
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-9][0-9]{2})(?: [^\r\n]*)?\r?\n")
_END_OF_HEADERS = re.compile(rb"\n\r?\n")

#: The status with which a server changes to another protocol.
_SWITCHING_PROTOCOLS = 101


class TargetRefused(Exception):
    """
    Raised when a webhook's host must not be called.
    """


class HostUnreachable(Exception):
    """
    Raised when a webhook's host cannot be connected to, whatever the rest of the URL is.
    """


class InvalidResponse(Exception):
    """
    Raised when a host sends something other than an HTTP/1.1 response, or an endless one.
    """


class WebhookSender:
    """
    Post to the hosts that may be called.

    A host name is resolved once, and the connection goes to one of the addresses that
    were checked, so that a second DNS answer cannot lead it elsewhere (DNS rebinding).
    Redirects are not followed.

    Args:
        reactor: Resolves names and connects.
        hosts: Decides which hosts and addresses may be called.
    """

    def __init__(self, reactor: Any, hosts: CallbackHosts) -> None:
        self._reactor = reactor
        self._hosts = hosts

    def post(self, url: str, headers: Mapping[str, str], body: bytes, tries: int) -> Deferred[int]:
        """
        Post `body` to `url`; this is a `webhooks.Post`.

        Args:
            url: The URL to post to.
            headers: The headers of the request, besides the usual ones.
            body: The body of the request.
            tries: The number of earlier attempts.  Each attempt uses the next one of the
                host's addresses.

        Returns:
            A Deferred that fires with the status of the response.  It fails with
            `TargetRefused` if the host must not be called, with `HostUnreachable`, and, if
            there is no response within ten seconds or an invalid one, with another
            exception.  Only the resolution of a name may take longer: it cannot be
            interrupted, and occupies a thread until it ends.
        """
        return Deferred.fromCoroutine(self._post(url, headers, body, tries))

    async def _post(self, url: str, headers: Mapping[str, str], body: bytes, tries: int) -> int:
        problem = self._hosts.url_problem(url)
        if problem is not None:
            raise TargetRefused(problem)
        uri = URI.fromBytes(url.encode("ascii"))
        host = uri.host.decode("ascii")
        if host.lower() != urlsplit(url).hostname:
            raise TargetRefused("the URL is ambiguous: its host can be read in two ways")
        deadline = self._reactor.seconds() + _TIMEOUT
        addresses = await self._resolve(host, uri.port)
        left = deadline - self._reactor.seconds()
        if left <= 0:
            raise HostUnreachable(f"{host} was not resolved within {_TIMEOUT:g} seconds")
        allowed = self._hosts.allowed_addresses(host, addresses)
        if not allowed:
            raise TargetRefused(f"{host} has no address, or has one that is not public")
        endpoint = self._endpoint(uri, allowed[tries % len(allowed)])
        connecting = endpoint.connect(Factory.forProtocol(_Exchange))
        try:
            exchange: Any = await connecting.addTimeout(left, self._reactor, _on_timeout)
        except (ConnectError, OSError) as error:
            raise HostUnreachable(str(error)) from None
        sent: Deferred[int] = exchange.send(_request(uri, headers, body))
        left = max(0.0, deadline - self._reactor.seconds())
        return await sent.addTimeout(left, self._reactor, _on_timeout)

    def _resolve(self, host: str, port: int) -> Deferred[Sequence[str]]:
        resolved: Deferred[Sequence[str]] = Deferred()
        self._reactor.nameResolver.resolveHostName(_AddressCollector(resolved), host, port)
        return resolved

    def _endpoint(self, uri: URI, address: str) -> IStreamClientEndpoint:
        """
        Return an endpoint that connects to `address`, whatever the host resolves to.

        TLS still verifies the certificate against the host.
        """
        # `HostnameEndpoint` would resolve the name a second time.
        endpoint_class = TCP6ClientEndpoint if ":" in address else TCP4ClientEndpoint
        endpoint: IStreamClientEndpoint = endpoint_class(self._reactor, address, uri.port)
        if uri.scheme == b"https":
            # Imported here because it is slow, and most servers send no webhooks.
            from twisted.internet.ssl import optionsForClientTLS

            endpoint = wrapClientTLS(optionsForClientTLS(uri.host.decode("ascii")), endpoint)
        return endpoint


def _request(uri: URI, headers: Mapping[str, str], body: bytes) -> bytes:
    """
    Return a POST request.
    """
    target: bytes = uri.originForm
    all_headers = {
        # RFC 9112, section 3.2: the authority of the URL, which has no user information.
        "Host": uri.netloc.decode("ascii"),
        "User-Agent": f"kiroworkers/{__version__}",
        **headers,
        "Content-Length": str(len(body)),
        "Connection": "close",
    }
    lines = [f"{name}: {value}" for name, value in all_headers.items()]
    head = "\r\n".join((*lines, "", "")).encode("ascii")
    slash = b"" if target.startswith(b"/") else b"/"
    return b"POST " + slash + target + b" HTTP/1.1\r\n" + head + body


def _on_timeout(result: object, timeout: float) -> NoReturn:
    raise TimeoutError(f"there was no response within {_TIMEOUT:g} seconds")


class _Exchange(Protocol):
    """
    Send one request, and read the status of its response and nothing else.

    Twisted's own HTTP client has no limit on what it keeps of a response's headers.
    """

    def __init__(self) -> None:
        self._headers = bytearray()
        self._received = 0
        self._status: Deferred[int] = Deferred(lambda _: self._abort())

    def send(self, request: bytes) -> Deferred[int]:
        """
        Send `request`, and abort the connection after the response's headers.

        Returns:
            A Deferred that fires with the status of the response.  It fails with
            `InvalidResponse`, and with the reason if the connection is lost before.
        """
        assert self.transport is not None, "it is connected"
        self.transport.write(request)
        return self._status

    def dataReceived(self, data: bytes) -> None:
        """
        Read headers until those of the final response have ended.
        """
        if self._status.called:
            return
        # The end of the headers may have begun in earlier data.
        start = max(0, len(self._headers) - len(b"\n\r"))
        self._headers += data
        self._received += len(data)
        while (end := _END_OF_HEADERS.search(self._headers, start)) is not None:
            line = _STATUS_LINE.match(self._headers)
            if line is None:
                self._end(InvalidResponse("the response is not HTTP"))
                return
            status = int(line[1])
            if status == _SWITCHING_PROTOCOLS or status >= 200:
                self._end(status)
                return
            del self._headers[: end.end()]
            start = 0
        if self._received > _MAX_HEADERS:
            self._end(InvalidResponse(f"the headers are larger than {_MAX_HEADERS} bytes"))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        Fail unless the status is known.
        """
        if not self._status.called:
            self._status.errback(reason)

    def _end(self, result: int | Exception) -> None:
        self._headers.clear()
        if isinstance(result, int):
            self._status.callback(result)
        else:
            self._status.errback(result)
        self._abort()

    def _abort(self) -> None:
        # With `loseConnection`, TLS would wait until the other side closes as well.
        transport: Any = self.transport
        transport.abortConnection()


@implementer(IResolutionReceiver)
class _AddressCollector:
    """
    Collect the addresses that a host name resolves to.
    """

    def __init__(self, resolved: Deferred[Sequence[str]]) -> None:
        self._resolved = resolved
        self._addresses: list[str] = []

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        pass

    def addressResolved(self, address: IAddress) -> None:
        host: str = getattr(address, "host")  # noqa: B009 - IPv4 and IPv6 both have one.
        self._addresses.append(host)

    def resolutionComplete(self) -> None:
        if not self._resolved.called:
            self._resolved.callback(self._addresses)
