"""
Post webhooks to the hosts that may be called.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint, wrapClientTLS
from twisted.internet.interfaces import (
    IAddress,
    IHostResolution,
    IProtocolFactory,
    IResolutionReceiver,
    IStreamClientEndpoint,
)
from twisted.internet.task import Cooperator
from twisted.web.client import URI, Agent, FileBodyProducer
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory, IResponse
from zope.interface import implementer

from kiroworkers import __version__
from kiroworkers.jobs.ssrf import CallbackHosts

#: Seconds for a whole call: resolving, connecting, sending and the response's headers.
_TIMEOUT = 10.0


class TargetRefused(Exception):
    """
    Raised when a webhook's host must not be called.
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
            `TargetRefused` if the host must not be called, and with a timeout after ten
            seconds.
        """
        posted = Deferred.fromCoroutine(self._post(url, headers, body, tries))
        return posted.addTimeout(_TIMEOUT, self._reactor)

    async def _post(self, url: str, headers: Mapping[str, str], body: bytes, tries: int) -> int:
        problem = self._hosts.url_problem(url)
        if problem is not None:
            raise TargetRefused(problem)
        uri = URI.fromBytes(url.encode("ascii"))
        host = uri.host.decode("ascii")
        if host.lower() != urlsplit(url).hostname:
            raise TargetRefused("the URL is ambiguous: its host can be read in two ways")
        addresses = self._hosts.allowed_addresses(host, await self._resolve(host, uri.port))
        if not addresses:
            raise TargetRefused(f"{host} has no address, or has one that is not public")
        endpoint = _PinnedEndpoint(self._reactor, addresses[tries % len(addresses)])
        agent = Agent.usingEndpointFactory(self._reactor, endpoint)
        request_headers = Headers({"User-Agent": [f"kiroworkers/{__version__}"]})
        for name, value in headers.items():
            request_headers.addRawHeader(name, value)
        producer = FileBodyProducer(
            BytesIO(body), Cooperator(scheduler=lambda step: self._reactor.callLater(0, step))
        )
        response: IResponse = await agent.request(
            b"POST", url.encode("ascii"), request_headers, producer
        )
        # The body of the response is of no interest.
        endpoint.abort()
        status: int = response.code
        return status

    def _resolve(self, host: str, port: int) -> Deferred[Sequence[str]]:
        resolved: Deferred[Sequence[str]] = Deferred()
        self._reactor.nameResolver.resolveHostName(_AddressCollector(resolved), host, port)
        return resolved


@implementer(IAgentEndpointFactory, IStreamClientEndpoint)
class _PinnedEndpoint:
    """
    Connect to one IP address, whatever the host of the URL resolves to.

    TLS still verifies the certificate against the host of the URL.
    """

    def __init__(self, reactor: Any, address: str) -> None:
        self._reactor = reactor
        self._address = address
        self._endpoint: Any = None
        self._protocol: Any = None

    def endpointForURI(self, uri: URI) -> Any:
        # `HostnameEndpoint` would resolve the name a second time.
        endpoint_class = TCP6ClientEndpoint if ":" in self._address else TCP4ClientEndpoint
        self._endpoint = endpoint_class(self._reactor, self._address, uri.port)
        if uri.scheme == b"https":
            # Imported here because it is slow, and most servers send no webhooks.
            from twisted.internet.ssl import optionsForClientTLS

            tls = optionsForClientTLS(uri.host.decode("ascii"))
            self._endpoint = wrapClientTLS(tls, self._endpoint)
        return self

    def connect(self, protocolFactory: IProtocolFactory) -> Any:
        connecting = self._endpoint.connect(protocolFactory)
        return connecting.addCallback(self._on_connected)

    def abort(self) -> None:
        """
        Abort the connection.

        With `loseConnection`, TLS would wait until the other side closes as well.
        """
        self._protocol.transport.abortConnection()

    def _on_connected(self, protocol: Any) -> Any:
        self._protocol = protocol
        return protocol


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
