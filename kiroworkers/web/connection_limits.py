"""
Limit how many connections clients may have, and close them cleanly at shutdown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import (
    IAddress,
    IHalfCloseableProtocol,
    IProtocolFactory,
    IReactorTime,
)
from twisted.internet.protocol import Protocol
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from zope.interface import implementer

from kiroworkers.errors import ErrorCode
from kiroworkers.web.addresses import host_of, is_local, rate_key
from kiroworkers.web.errors import HttpError, body_length, raw_error_response
from kiroworkers.web.proxies import NO_PROXIES, TrustedProxies
from kiroworkers.web.request_ids import new_request_id

#: Seconds that clients have to read their last responses when the server stops.
_CLOSE_TIMEOUT = 2.0


@implementer(IHalfCloseableProtocol)
class _CountedConnection(ProtocolWrapper):
    """
    Tell the protocol of a connection when the client has closed its side.
    """

    def readConnectionLost(self) -> None:
        protocol: Any = IHalfCloseableProtocol(self.wrappedProtocol, None)
        if protocol is None:
            self.loseConnection()
        else:
            protocol.readConnectionLost()

    def writeConnectionLost(self) -> None:
        protocol: Any = IHalfCloseableProtocol(self.wrappedProtocol, None)
        if protocol is not None:
            protocol.writeConnectionLost()


class ConnectionLimiter(WrappingFactory):
    """
    Pass connections on to a factory, up to a limit, and keep track of the open ones.

    Attributes:
        max_connections: The maximum number of open connections.

    Args:
        factory: Builds the protocol of each accepted connection.
        max_connections: The maximum number of open connections.
        max_per_address: The maximum number of open connections of one IPv4 address or one
            /64 network of IPv6; 0 for no limit.  It does not apply to clients on this
            machine, because one of them may be a proxy.
        trusted_proxies: Proxies, to which `max_per_address` does not apply either.
        on_rejected: Called with the address of each connection over a limit, the code of the
            error that it is answered with, the size of the body in bytes, and the identifier
            in the response.
    """

    noisy = False
    protocol = _CountedConnection

    def __init__(
        self,
        factory: IProtocolFactory,
        max_connections: int,
        max_per_address: int,
        trusted_proxies: TrustedProxies = NO_PROXIES,
        on_rejected: Callable[[str, ErrorCode, int, str], None] | None = None,
    ) -> None:
        super().__init__(factory)
        self.max_connections = max_connections
        self._max_per_address = max_per_address
        self._trusted_proxies = trusted_proxies
        self._on_rejected = on_rejected
        self._per_address: Counter[str] = Counter()
        self._closed: Deferred[None] | None = None

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """
        Return a protocol for a new connection: one that answers 503 if it is over a limit.
        """
        host = host_of(addr)
        message = self._rejection(host)
        if message is None:
            return super().buildProtocol(addr)
        error = HttpError(ErrorCode.TOO_MANY_CONNECTIONS, message)
        id = new_request_id()
        response = raw_error_response(error, id)
        if self._on_rejected is not None:
            self._on_rejected(host, error.code, body_length(response), id)
        return _RejectedConnection(response)

    def registerProtocol(self, connection: ProtocolWrapper) -> None:
        """
        Count `connection`, which has been opened.
        """
        super().registerProtocol(connection)
        self._per_address[rate_key(host_of(connection.getPeer()))] += 1

    def close(self, clock: IReactorTime) -> Deferred[None]:
        """
        Close every connection as soon as everything written to it has been sent.

        After two seconds, abort the connections that are still open.

        Returns:
            A Deferred that fires with None when all connections are closed.
        """
        if not self.protocols:
            return succeed(None)
        closed: Deferred[None] = Deferred()
        self._closed = closed
        timer = clock.callLater(_CLOSE_TIMEOUT, self._abort_all)
        for connection in list(self.protocols):
            connection.loseConnection()

        def stop_timer(_: None) -> None:
            if timer.active():
                timer.cancel()

        return closed.addCallback(stop_timer)

    def unregisterProtocol(self, connection: ProtocolWrapper) -> None:
        """
        Stop counting `connection`, which has been closed.
        """
        super().unregisterProtocol(connection)
        key = rate_key(host_of(connection.getPeer()))
        self._per_address[key] -= 1
        if not self._per_address[key]:
            del self._per_address[key]
        if self._closed is not None and not self.protocols:
            closed, self._closed = self._closed, None
            closed.callback(None)

    def _rejection(self, host: str) -> str | None:
        """
        Return which limit another connection from `host` would exceed, or None.
        """
        key = rate_key(host)
        if len(self.protocols) >= self.max_connections:
            return f"All {self.max_connections} connections are in use"
        is_limited = not (is_local(host) or host in self._trusted_proxies)
        if is_limited and 0 < self._max_per_address <= self._per_address[key]:
            return f"All {self._max_per_address} connections of {key} are in use"
        return None

    def _abort_all(self) -> None:
        for connection in list(self.protocols):
            connection.abortConnection()


class _RejectedConnection(Protocol):
    """
    Answer a connection over the limit with 503, and close it.
    """

    def __init__(self, response: bytes) -> None:
        self._response = response

    def connectionMade(self) -> None:
        assert self.transport is not None, "it has just been connected"
        self.transport.write(self._response)
        self.transport.loseConnection()
