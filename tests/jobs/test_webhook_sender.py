"""
Tests for `kiroworkers.jobs.webhook_sender`, on a clock.
"""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet._resolver import HostResolution
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone, ConnectionRefusedError
from twisted.internet.interfaces import (
    IHostnameResolver,
    IHostResolution,
    IPullProducer,
    IResolutionReceiver,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import implementer

from kiroworkers import __version__
from kiroworkers.jobs.ssrf import CallbackHosts
from kiroworkers.jobs.webhook_sender import (
    HostUnreachable,
    InvalidResponse,
    TargetRefused,
    WebhookSender,
)

real: Any = reactor


@implementer(IHostnameResolver)
class StaticResolver:
    """
    Resolve every name to the same addresses when the test says so.

    Attributes:
        resolve: Resolves the last name; None if there was none.
    """

    def __init__(self, addresses: tuple[str, ...]) -> None:
        self.addresses = addresses
        self.resolve: Any = None

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: object = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        resolution = HostResolution(hostName)
        resolutionReceiver.resolutionBegan(resolution)

        def resolve() -> None:
            for address in self.addresses:
                kind = IPv6Address if ":" in address else IPv4Address
                resolutionReceiver.addressResolved(kind("TCP", address, portNumber))
            resolutionReceiver.resolutionComplete()

        self.resolve = resolve
        return resolution


class WebhookSenderTests(SynchronousTestCase):
    """
    Tests for `WebhookSender`.
    """

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()

    def begin(
        self, addresses: tuple[str, ...], listed: tuple[str, ...], tries: int, url: str
    ) -> Deferred[int]:
        """
        Begin a call whose host is not resolved yet.
        """
        self.resolver = StaticResolver(addresses)
        self.reactor.installNameResolver(self.resolver)
        poster = WebhookSender(self.reactor, CallbackHosts(listed))
        return poster.post(url, {"X-A": "b"}, b"{}", tries)

    def post(
        self,
        *addresses: str,
        listed: tuple[str, ...] = (),
        tries: int = 0,
        url: str = "http://x.example:81/a?b",
    ) -> Deferred[int]:
        """
        Begin a call whose host is resolved to `addresses`.
        """
        posted = self.begin(addresses, listed, tries, url)
        if self.resolver.resolve is not None:
            self.resolver.resolve()
        return posted

    def connected(self, **options: Any) -> tuple[Deferred[int], Any, StringTransport]:
        """
        Begin a call and connect it; return its result, its protocol and the transport.
        """
        posted = self.post("93.184.215.14", **options)
        *_, factory, _, _ = self.reactor.tcpClients[-1]
        protocol = factory.buildProtocol(None)
        assert protocol is not None
        transport = StringTransport()
        protocol.makeConnection(transport)
        return posted, protocol, transport

    def test_checked_address(self) -> None:
        """
        The connection goes to an address that was checked; the next attempt uses the next
        address.
        """
        self.post("93.184.215.14", "93.184.215.15")
        self.post("93.184.215.14", "93.184.215.15", tries=1)
        called = [(host, port) for host, port, *_ in self.reactor.tcpClients]
        self.assertEqual(called, [("93.184.215.14", 81), ("93.184.215.15", 81)])

    def test_private(self) -> None:
        """
        A name with a private address is not connected to, unless it is listed.
        """
        for addresses in [("127.0.0.1",), ("93.184.215.14", "::1"), ("::ffff:10.0.0.1",)]:
            self.failureResultOf(self.post(*addresses), TargetRefused)
        self.failureResultOf(self.post("10.0.0.1", listed=("y.example",)), TargetRefused)
        self.assertEqual(self.reactor.tcpClients, [])
        self.post("10.0.0.1", listed=("x.example",))
        self.assertEqual([host for host, *_ in self.reactor.tcpClients], ["10.0.0.1"])

    def test_request(self) -> None:
        """
        The request has the URL's host, path and query, and the body.
        """
        for url, target, host in [
            ("http://x.example:81/a?b", "/a?b", "x.example:81"),
            ("http://x.example", "/", "x.example"),
            ("http://x.example?a=b", "/?a=b", "x.example"),
        ]:
            _, _, transport = self.connected(url=url)
            self.assertEqual(
                transport.value().decode().split("\r\n"),
                [
                    f"POST {target} HTTP/1.1",
                    f"Host: {host}",
                    f"User-Agent: kiroworkers/{__version__}",
                    "X-A: b",
                    "Content-Length: 2",
                    "Connection: close",
                    "",
                    "{}",
                ],
            )

    def test_hangs_up(self) -> None:
        """
        The connection is closed after the response's headers, however much is to follow and
        however they are cut.
        """
        for lines in (
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nand so on",
            b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 100_000,
            b"HTTP/1.0 200\n\n",
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 \r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        ):
            for size in (1, 2, 3, 2**16):
                posted, protocol, transport = self.connected()
                for start in range(0, min(len(lines), 1000), size):
                    protocol.dataReceived(lines[start : start + size])
                self.assertEqual(self.successResultOf(posted), 200)
                self.assertTrue(transport.disconnected)

    def test_status(self) -> None:
        """
        The status is that of the first final response, or 101, after which no HTTP comes.
        """
        for status in (101, 204, 302, 404, 500):
            posted, protocol, _ = self.connected()
            protocol.dataReceived(b"HTTP/1.1 %d X\r\n\r\nHTTP/1.1 200 OK\r\n\r\n" % status)
            self.assertEqual(self.successResultOf(posted), status)

    def test_incomplete(self) -> None:
        """
        A response whose headers do not end acknowledges nothing.
        """
        posted, protocol, _ = self.connected()
        protocol.dataReceived(b"HTTP/1.1 200 OK\r\nA: b\r\n")
        self.assertNoResult(posted)
        protocol.connectionLost(Failure(ConnectionDone()))
        self.failureResultOf(posted, ConnectionDone)

    def test_not_http(self) -> None:
        """
        A call fails if the host speaks something else than HTTP/1.1.
        """
        for data in (
            b"SSH-2.0-OpenSSH\r\n\r\n",
            b"\r\n\r\n",
            b"HTTP/2 200\r\n\r\n",
            b"HTTP/1.1 20\r\n\r\n",
            b"HTTP/1.1 2000\r\n\r\n",
        ):
            posted, protocol, transport = self.connected()
            protocol.dataReceived(data)
            self.failureResultOf(posted, InvalidResponse)
            self.assertTrue(transport.disconnected)

    def test_endless(self) -> None:
        """
        A host that sends headers, interim responses or a line without end is given up after
        64 KiB, and no more of it is kept.
        """
        for start, endless in (
            (b"HTTP/1.1 200 OK\r\n", b"A: b\r\n"),
            (b"", b"HTTP/1.1 100 \r\n\r\n"),
            (b"HTTP/1.1 200 ", b"x"),
            (b"", b"\0"),
        ):
            for size in (100, 2**16):
                posted, protocol, transport = self.connected()
                protocol.dataReceived(start)
                received = 0
                while not posted.called:
                    data = (endless * size)[:size]
                    protocol.dataReceived(data)
                    received += len(data)
                self.assertLessEqual(received, 2**16 + size)
                self.failureResultOf(posted, InvalidResponse)
                self.assertTrue(transport.disconnected)
                for _ in range(100):
                    protocol.dataReceived(endless)
                self.assertEqual(len(protocol._wrappedProtocol._headers), 0)

    def test_timeout(self) -> None:
        """
        A call fails if the response takes too long, and its connection is aborted.
        """
        posted, protocol, transport = self.connected()
        for _ in range(79):
            self.reactor.advance(0.125)
            protocol.dataReceived(b"HTTP/1.1 100 \r\n\r\n")
        self.assertNoResult(posted)
        self.reactor.advance(0.125)
        failure = self.failureResultOf(posted, TimeoutError)
        self.assertEqual(str(failure.value), "there was no response within 10 seconds")
        self.assertTrue(transport.disconnected)
        protocol.connectionLost(Failure(ConnectionDone()))

    def test_connect_timeout(self) -> None:
        """
        The time for the response includes that for resolving the name and connecting.
        """
        posted = self.begin(("93.184.215.14",), (), 0, "http://x.example/")
        self.reactor.advance(4)
        self.resolver.resolve()
        self.reactor.advance(5.9)
        self.assertNoResult(posted)
        self.reactor.advance(0.1)
        self.failureResultOf(posted, HostUnreachable)

    def test_refused(self) -> None:
        """
        A host that refuses the connection is unreachable.
        """
        posted = self.post("93.184.215.14")
        *_, factory, _, _ = self.reactor.tcpClients[-1]
        connector: Any = None
        factory.clientConnectionFailed(connector, Failure(ConnectionRefusedError()))
        self.failureResultOf(posted, HostUnreachable)

    def test_slow_resolution(self) -> None:
        """
        A name that takes too long to resolve is not connected to.  The call lasts until the
        resolution ends, because it occupies a thread until then.
        """
        posted = self.begin(("93.184.215.14",), (), 0, "http://x.example/")
        self.reactor.advance(30)
        self.assertNoResult(posted)
        self.resolver.resolve()
        failure = self.failureResultOf(posted, HostUnreachable)
        self.assertEqual(str(failure.value), "x.example was not resolved within 10 seconds")
        self.assertEqual(self.reactor.tcpClients, [])

    def test_cancelled(self) -> None:
        """
        A call can be cancelled while its host is resolved.
        """
        posted = self.begin(("93.184.215.14",), (), 0, "http://x.example/")
        posted.cancel()
        self.failureResultOf(posted, CancelledError)
        self.resolver.resolve()
        self.assertEqual(self.reactor.tcpClients, [])


@implementer(IPullProducer)
class EndlessReceiver(Protocol):
    """
    Send headers as fast as they are read, until the connection is lost.

    Attributes:
        sent: The number of bytes that were sent.
        lost: Fires when the connection is lost.
    """

    def __init__(self) -> None:
        self.sent = 0
        self.lost: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        transport: Any = self.transport
        transport.write(b"HTTP/1.1 200 OK\r\n")
        transport.registerProducer(self, False)

    def resumeProducing(self) -> None:
        transport: Any = self.transport
        lines = b"A: b\r\n" * 5000
        transport.write(lines)
        self.sent += len(lines)

    def stopProducing(self) -> None:
        pass

    def connectionLost(self, reason: Any = None) -> None:
        self.lost.callback(None)


class SocketTests(TestCase):
    """
    Tests for calls over real connections.
    """

    timeout = 30

    async def test_endless(self) -> None:
        """
        A receiver that never ends its headers cannot send more than fits into the kernel.
        """
        receiver = EndlessReceiver()
        factory = Factory.forProtocol(lambda: receiver)
        port = real.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        url = f"http://127.0.0.1:{port.getHost().port}/"
        call = WebhookSender(real, CallbackHosts(["127.0.0.1"])).post(url, {}, b"{}", 0)
        await self.assertFailure(call, InvalidResponse)
        await receiver.lost
        self.assertLess(receiver.sent, 16 * 2**20)
