"""
A POST to where a client said, but not to everywhere.
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

#: Seconds for all of one call.
_PATIENCE = 10.0


class TargetRefused(Exception):
    """
    The host is not called.
    """


class WebhookSender:
    """
    Posts to the hosts that may be called.  A name is resolved once, and what is
    connected to is one of the addresses that were looked at: by another answer,
    the name could not lead elsewhere.  Redirects are not followed.
    """

    def __init__(self, reactor: Any, hosts: CallbackHosts) -> None:
        self._reactor = reactor
        self._hosts = hosts

    def post(self, url: str, headers: Mapping[str, str], body: bytes, tries: int) -> Deferred[int]:
        """
        As `callbacks.Post`.  Each try takes another one of the host's addresses.
        """
        posted = Deferred.fromCoroutine(self._post(url, headers, body, tries))
        return posted.addTimeout(_PATIENCE, self._reactor)

    async def _post(self, url: str, headers: Mapping[str, str], body: bytes, tries: int) -> int:
        refusal = self._hosts.refuses(url)
        if refusal is not None:
            raise TargetRefused(refusal)
        uri = URI.fromBytes(url.encode("ascii"))
        host = uri.host.decode("ascii")
        if host.lower() != urlsplit(url).hostname:
            raise TargetRefused("the URL could be read in two ways")
        addresses = self._hosts.chosen(host, await self._resolved(host, uri.port))
        if not addresses:
            raise TargetRefused(f"{host} has no address, or one that is not public")
        way = _PinnedEndpoint(self._reactor, addresses[tries % len(addresses)])
        agent = Agent.usingEndpointFactory(self._reactor, way)
        said = Headers({"User-Agent": [f"kiroworkers/{__version__}"]})
        for name, value in headers.items():
            said.addRawHeader(name, value)
        sending = FileBodyProducer(
            BytesIO(body), Cooperator(scheduler=lambda step: self._reactor.callLater(0, step))
        )
        response: IResponse = await agent.request(b"POST", url.encode("ascii"), said, sending)
        # What else there is to say is of no interest.
        way.hang_up()
        status: int = response.code
        return status

    def _resolved(self, host: str, port: int) -> Deferred[Sequence[str]]:
        found: Deferred[Sequence[str]] = Deferred()
        self._reactor.nameResolver.resolveHostName(_Addresses(found), host, port)
        return found


@implementer(IAgentEndpointFactory, IStreamClientEndpoint)
class _PinnedEndpoint:
    """
    Leads to one IP address, whatever the URL says; TLS is with whom it says.
    """

    def __init__(self, reactor: Any, address: str) -> None:
        self._reactor = reactor
        self._address = address
        self._endpoint: Any = None
        self._connection: Any = None

    def endpointForURI(self, uri: URI) -> Any:
        # Not `HostnameEndpoint`: it would resolve once more.
        kind = TCP6ClientEndpoint if ":" in self._address else TCP4ClientEndpoint
        self._endpoint = kind(self._reactor, self._address, uri.port)
        if uri.scheme == b"https":
            # Not before: it takes a moment, and most servers call nobody.
            from twisted.internet.ssl import optionsForClientTLS

            tls = optionsForClientTLS(uri.host.decode("ascii"))
            self._endpoint = wrapClientTLS(tls, self._endpoint)
        return self

    def connect(self, protocolFactory: IProtocolFactory) -> Any:
        connecting = self._endpoint.connect(protocolFactory)
        return connecting.addCallback(self._connected)

    def hang_up(self) -> None:
        """
        Not by `loseConnection`: TLS would wait until the other side agrees to it.
        """
        self._connection.transport.abortConnection()

    def _connected(self, protocol: Any) -> Any:
        self._connection = protocol
        return protocol


@implementer(IResolutionReceiver)
class _Addresses:
    """
    Collects what a name resolves to.
    """

    def __init__(self, found: Deferred[Sequence[str]]) -> None:
        self._found = found
        self._addresses: list[str] = []

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        pass

    def addressResolved(self, address: IAddress) -> None:
        host: str = getattr(address, "host")  # noqa: B009 - IPv4 and IPv6 both have one.
        self._addresses.append(host)

    def resolutionComplete(self) -> None:
        if not self._found.called:
            self._found.callback(self._addresses)
