"""
Tests for `kiroworkers.web.connection_limits`.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.web.connection_limits import ConnectionLimiter
from kiroworkers.web.proxies import TrustedProxies


class LimitTests(SynchronousTestCase):
    """
    Tests for how many connections there may be.
    """

    def connect(self, connections: ConnectionLimiter, address: Any) -> tuple[Any, StringTransport]:
        transport = StringTransport(peerAddress=address)
        protocol = connections.buildProtocol(address)
        protocol.makeConnection(transport)
        return protocol, transport

    def refused(self, transport: StringTransport) -> bool:
        output = transport.value()
        self.assertEqual(transport.disconnecting, bool(output))
        if output:
            self.assertTrue(output.startswith(b"HTTP/1.1 503 Service Unavailable\r\n"))
            self.assertIn(b"\r\nRetry-After: 5\r\n", output)
            self.assertIn(b'"code":"too_many_connections","retryAfter":5', output)
        return bool(output)

    def test_limit(self) -> None:
        """
        A connection over the limit gets 503 and is closed; one that ends makes space.
        """
        connections = ConnectionLimiter(Factory.forProtocol(Protocol), 2, 0)
        address = IPv4Address("TCP", "192.0.2.1", 1)
        first, _ = self.connect(connections, address)
        self.assertFalse(self.refused(self.connect(connections, address)[1]))
        self.assertTrue(self.refused(self.connect(connections, UNIXAddress(None))[1]))
        first.connectionLost(Failure(ConnectionDone()))
        self.assertFalse(self.refused(self.connect(connections, address)[1]))

    def test_limit_per_address(self) -> None:
        """
        The limit per address applies to an IPv4 address and an IPv6 network, but not to
        this machine.
        """
        connections = ConnectionLimiter(Factory.forProtocol(Protocol), 100, 1)
        for address, refused in [
            (IPv4Address("TCP", "192.0.2.1", 1), False),
            (IPv4Address("TCP", "192.0.2.1", 2), True),
            (IPv6Address("TCP", "::ffff:192.0.2.1", 3), True),
            (IPv4Address("TCP", "192.0.2.2", 1), False),
            (IPv6Address("TCP", "2001:db8::1", 1), False),
            (IPv6Address("TCP", "2001:db8::2", 1), True),
            (IPv4Address("TCP", "127.0.0.1", 1), False),
            (IPv4Address("TCP", "127.0.0.1", 2), False),
            (UNIXAddress(None), False),
            (UNIXAddress(None), False),
        ]:
            _, transport = self.connect(connections, address)
            self.assertEqual(self.refused(transport), refused, address)
        for protocol in list(connections.protocols):
            protocol.connectionLost(Failure(ConnectionDone()))
        _, transport = self.connect(connections, IPv4Address("TCP", "192.0.2.1", 1))
        self.assertFalse(self.refused(transport))

    def test_trusted_proxy(self) -> None:
        """
        The limit per address does not apply to a trusted proxy, which has many clients.
        """
        proxies = TrustedProxies(("192.0.2.0/24",))
        connections = ConnectionLimiter(Factory.forProtocol(Protocol), 100, 1, proxies)
        for _ in range(3):
            _, transport = self.connect(connections, IPv4Address("TCP", "192.0.2.1", 1))
            self.assertFalse(self.refused(transport))

    def test_reported(self) -> None:
        """
        Each connection that is refused is reported, with the identifier in its response.
        """
        reported: list[tuple[str, str, str]] = []
        connections = ConnectionLimiter(
            Factory.forProtocol(Protocol),
            100,
            1,
            on_rejected=lambda host, code, sent, id: reported.append((host, code.value, id)),
        )
        for _ in range(2):
            _, transport = self.connect(connections, IPv4Address("TCP", "192.0.2.1", 1))
        [(host, code, id)] = reported
        self.assertEqual((host, code), ("192.0.2.1", "too_many_connections"))
        self.assertIn(f"\r\nX-Request-ID: {id}\r\n".encode(), transport.value())
        self.assertIn(f'"requestId":"{id}"'.encode(), transport.value())
