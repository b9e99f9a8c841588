"""
Tests for `kiroworkers.web.recorded_request`.
"""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest

from kiroworkers.errors import ErrorCode
from kiroworkers.request_record import RequestRecord
from kiroworkers.web.addresses import host_of
from kiroworkers.web.proxies import TrustedProxies
from kiroworkers.web.recorded_request import AccessLog, record_of
from tests.records import logged_records
from tests.web.test_site import LIMITS, SiteTestCase


class RecordTestCase(SiteTestCase):
    """
    Base of tests that read the access log.
    """

    def setUp(self) -> None:
        self.records = logged_records(self)
        self.open()

    def hang_up(self) -> None:
        self.channel.connectionLost(Failure(ConnectionDone()))

    def logged(self) -> RequestRecord:
        """
        Let everything happen that may still happen, and return the only record in the log.
        """
        self.clock.advance(0.1)
        self.clock.advance(100)
        [record] = self.records
        return record


class EndTests(RecordTestCase):
    """
    Tests that each request leaves one line, however it ends.
    """

    def test_answered(self) -> None:
        """
        The record has what the request and its response say.
        """
        self.send(
            b"GET /a?secret HTTP/1.1\r\nHost: localhost\r\nReferer: http://b/?c\r\n"
            b"User-Agent: d\r\n\r\n"
        )
        record = self.logged()
        self.assertEqual((record.method, record.path, record.protocol), ("GET", "/a", "HTTP/1.1"))
        self.assertEqual((record.status, record.sent, record.aborted), (200, 3, False))
        self.assertEqual((record.referrer, record.user_agent), ("http://b/", "d"))
        self.assertEqual((record.host, record.user, record.total), ("192.168.1.1", None, 0.0))

    def test_delayed(self) -> None:
        """
        A line is written shortly after its response, and not before.
        """
        self.send(b"GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.assertEqual((self.status(), self.records), (200, []))
        self.clock.advance(0.1)
        self.assertEqual(len(self.records), 1)

    def test_every_request(self) -> None:
        """
        Every request of a connection has a line, in order.
        """
        for path in (b"a", b"b", b"c"):
            self.send(b"GET /" + path + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.clock.advance(0.1)
        self.hang_up()
        self.assertEqual([record.path for record in self.records], ["/a", "/b", "/c"])

    def test_shutdown(self) -> None:
        """
        A request that was answered just before the server stops is logged, once.
        """
        self.send(b"GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.site.stopFactory()
        self.assertEqual(len(self.records), 1)
        self.assertEqual(self.logged().path, "/a")

    def test_hung_up(self) -> None:
        """
        A request whose client hangs up before the response begins has the status 499.
        """
        self.send(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.clock.advance(3)
        self.hang_up()
        record = self.logged()
        self.assertEqual((record.status, record.path, record.aborted), (499, "/slow", True))
        self.assertEqual((record.total, record.sent), (3.0, 0))

    def test_hung_up_later(self) -> None:
        """
        A request whose client hangs up within the response has the status that was sent.
        """
        self.send(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.resource.waiting[0].write(b"some")
        self.hang_up()
        record = self.logged()
        self.assertEqual((record.status, record.sent, record.aborted), (200, 4, True))

    def test_completed_by_handler(self) -> None:
        """
        What the handler learns when it is cancelled is in the line.
        """
        self.send(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
        [request] = self.resource.waiting

        def cancelled(_: Failure) -> None:
            record_of(request).turn = 1.5

        request.notifyFinish().addErrback(cancelled)
        self.hang_up()
        self.assertEqual(self.logged().turn, 1.5)

    def test_incomplete(self) -> None:
        """
        A request that is received in part has a line if its first line was received.
        """
        self.send(b"POST /kiro/a?b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n1")
        self.hang_up()
        record = self.logged()
        self.assertEqual((record.method, record.path, record.status), ("POST", "/kiro/a", 499))

    def test_nothing_sent(self) -> None:
        """
        A connection on which nothing was sent has no line.
        """
        self.hang_up()
        self.clock.advance(1)
        self.assertEqual(self.records, [])

    def test_rejected(self) -> None:
        """
        A request that is rejected while it is received has one line, with the reason.
        """
        begin = b"POST /a HTTP/1.1\r\nHost: localhost\r\n"
        for sent, code, method in [
            (b"nonsense\r\n\r\n", "bad_request", None),
            (b"GET /" + b"a" * 17000, "path_too_long", None),
            (begin + b"nonsense\r\n\r\n", "bad_request", "POST"),
            (begin + b"X: " + b"a" * 17000 + b"\r\n", "headers_too_large", "POST"),
            (begin + b"Content-Length: 101\r\n\r\n", "too_large", "POST"),
            (begin, "too_slow", "POST"),
            (b"GET /a HTTP", "too_slow", None),
        ]:
            self.open()
            self.records.clear()
            self.send(sent)
            self.clock.advance(10)
            self.hang_up()
            record = self.logged()
            self.assertEqual((record.code, record.method), (code, method), sent[:40])
            self.assertIn(record.status, (400, 408, 413, 414, 431))
            self.assertEqual((record.host, record.aborted), ("192.168.1.1", False))
            self.assertEqual(record.sent, len(self.transport.value().partition(b"\r\n\r\n")[2]))

    def test_refused(self) -> None:
        """
        A request that is refused before it is routed has the code of the failure.
        """
        self.send(b"GET /a HTTP/1.1\r\nHost: evil.example\r\n\r\n")
        record = self.logged()
        self.assertEqual((record.status, record.code), (403, "wrong_host"))

    def test_response_headers(self) -> None:
        """
        The agent and whether a response was sent again are read from the response.
        """
        self.send(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
        [request] = self.resource.waiting
        request.setHeader(b"x-kiroworkers-agent", b"kiro")
        request.setHeader(b"idempotency-replayed", b"true")
        request.finish()
        record = self.logged()
        self.assertEqual((record.agent, record.replayed), ("kiro", True))


class ClientAddressTests(RecordTestCase):
    """
    Tests for the address of the client.
    """

    def address(self, peer: Any, *headers: str) -> Any:
        """
        Return the client's address of a request from `peer`.
        """
        self.site.limits = evolve(LIMITS, trusted_proxies=TrustedProxies(("127.0.0.1/32", "unix")))
        self.transport = StringTransport(peerAddress=peer)
        self.channel = self.site.buildProtocol(None)
        self.channel.makeConnection(self.transport)
        head = "\r\n".join(("GET /slow HTTP/1.1", "Host: localhost", *headers, "", ""))
        self.send(head.encode("latin-1"))
        request: IRequest = self.resource.waiting.pop()
        return request.getClientAddress()

    def test_direct(self) -> None:
        """
        A client that is no proxy cannot give itself another address.
        """
        peer = IPv4Address("TCP", "192.0.2.1", 4711)
        self.assertEqual(self.address(peer, "X-Forwarded-For: 198.51.100.1"), peer)
        self.assertEqual(self.address(peer, "Forwarded: for=198.51.100.1"), peer)

    def test_proxy(self) -> None:
        """
        The client of a trusted proxy is the one that its header names.
        """
        proxy = IPv4Address("TCP", "127.0.0.1", 4711)
        for peer in (proxy, UNIXAddress(None), IPv6Address("TCP", "::ffff:127.0.0.1", 1)):
            self.assertEqual(
                self.address(peer, "X-Forwarded-For: 192.0.2.1"), IPv4Address("TCP", "192.0.2.1", 0)
            )
        self.assertEqual(
            self.address(proxy, 'Forwarded: for="[2001:db8::1]"'),
            IPv6Address("TCP", "2001:db8::1", 0),
        )
        self.assertEqual(self.address(proxy), proxy)

    def test_headers_of_proxies(self) -> None:
        """
        What a proxy says of the scheme and the host is not believed.
        """
        proxy = IPv4Address("TCP", "127.0.0.1", 4711)
        headers = ("X-Forwarded-Proto: https", "X-Forwarded-Host: evil.example", "X-Real-IP: ::1")
        self.assertEqual(self.address(proxy, *headers), proxy)

    def test_logged(self) -> None:
        """
        The log has the address of the client, also of a request that is rejected.
        """
        proxy = IPv4Address("TCP", "127.0.0.1", 4711)
        self.address(proxy, "X-Forwarded-For: 192.0.2.1")
        self.hang_up()
        self.assertEqual(self.records.pop().host, "192.0.2.1")
        self.connect()
        self.channel = self.site.buildProtocol(None)
        self.channel.makeConnection(StringTransport(peerAddress=proxy))
        self.send(
            b"POST /a HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 192.0.2.1\r\n"
            b"Content-Length: 101\r\n\r\n"
        )
        self.assertEqual(self.records.pop().host, "192.0.2.1")


class AccessLogTests(RecordTestCase):
    """
    Tests for `AccessLog`.
    """

    def test_rejected_connection(self) -> None:
        """
        A connection that is rejected has a line, with the wall clock's time.
        """
        log = AccessLog(Clock(), wall_clock=lambda: 1e9)
        log.write_rejected(
            host_of(IPv4Address("TCP", "192.0.2.1", 1)), ErrorCode.TOO_MANY_CONNECTIONS, 9, "7f"
        )
        [record] = self.records
        self.assertEqual((record.host, record.status, record.ended), ("192.0.2.1", 503, 1e9))
        self.assertEqual((record.code, record.sent), ("too_many_connections", 9))
        self.assertEqual(record.id, "7f")
