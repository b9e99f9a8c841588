"""
Tests for `kiroworkers.web.site` and `channel`.
"""

from __future__ import annotations

import json
from typing import Any

from attrs import evolve
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from kiroworkers.web.limits import RequestLimits
from kiroworkers.web.site import ApiSite

LIMITS = RequestLimits(max_body=100, receive_timeout=10)


class FakeResource(Resource):
    """
    Answer at once, except for ``/slow``, which the test answers.
    """

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[Any] = []
        self.seen = 0

    def render(self, request: Any) -> Any:
        self.seen += 1
        if request.path == b"/slow":
            self.waiting.append(request)
            return NOT_DONE_YET
        return b"yes"


class SiteTestCase(SynchronousTestCase):
    """
    Base of tests with a site and one client in memory.
    """

    def open(self, limits: RequestLimits = LIMITS) -> None:
        self.clock = Clock()
        self.resource = FakeResource()
        self.site = ApiSite(self.clock, self.resource, limits)
        self.connect()

    def connect(self) -> None:
        self.transport = StringTransport()
        self.channel = self.site.buildProtocol(None)
        self.channel.makeConnection(self.transport)

    def send(self, data: bytes) -> None:
        self.channel.dataReceived(data)

    def status(self) -> int:
        """
        Return the status of the first response, or 0 if there is none yet.
        """
        output = self.transport.value().removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
        return int(output.split()[1]) if output else 0

    def code(self) -> tuple[int, str]:
        """
        Return the status and the code of an error.
        """
        head, _, body = self.transport.value().partition(b"\r\n\r\n")
        self.assertIn(b"X-Content-Type-Options: nosniff", head)
        return self.status(), json.loads(body)["code"]

    def request(self, *headers: str, method: str = "GET") -> int:
        """
        Send a request on a new connection, and return the status of its response.
        """
        self.connect()
        self.send("\r\n".join((f"{method} / HTTP/1.1", *headers, "", "")).encode("latin-1"))
        return self.status()


class HostTests(SiteTestCase):
    """
    Tests for the Host header.
    """

    def test_defaults(self) -> None:
        """
        By default the names of this machine and the address of the connection are accepted.
        """
        self.open()
        reached = self.transport.getHost().host
        for host in ("localhost", "127.0.0.1:1", "[::1]", "LOCALHOST.:80", f"{reached}:80"):
            self.assertEqual(self.request(f"Host: {host}"), 200, host)
        for host in ("evil.example", "localhost.evil.example", "192.0.2.9", "[", ""):
            self.assertEqual(self.request(f"Host: {host}"), 403, host)
            self.assertEqual(self.code(), (403, "wrong_host"))
            self.assertEqual(self.request(f"Host: {host}", method="OPTIONS"), 403, host)

    def test_allowed(self) -> None:
        """
        Configured names are accepted, and no others.
        """
        self.open(evolve(LIMITS, hosts=("kiro.example", "fe80::1")))
        hosts = ["Kiro.Example:8080", "[fe80::1]", "localhost", "a.kiro.example"]
        statuses = [self.request(f"Host: {host}") for host in hosts]
        self.assertEqual(statuses, [200, 200, 200, 403])

    def test_any(self) -> None:
        """
        If any name is accepted, it still has to be valid.
        """
        self.open(evolve(LIMITS, any_host=True))
        self.assertEqual(self.request("Host: whatever"), 200)
        self.assertEqual(self.request("Host: \xff"), 400)

    def test_missing(self) -> None:
        """
        A request must have one Host header, but one of HTTP/1.0 may have none.
        """
        self.open()
        self.assertEqual(self.request(), 400)
        self.assertEqual(self.code(), (400, "bad_host"))
        self.assertEqual(self.request("Host: localhost", "Host: localhost"), 400)
        self.connect()
        self.send(b"GET / HTTP/1.0\r\n\r\n")
        self.assertEqual(self.status(), 200)


class OriginTests(SiteTestCase):
    """
    Tests for the Origin header.
    """

    def test_rejected(self) -> None:
        """
        A page of an origin that is not allowed cannot change anything, and its browser
        does not let it read responses.
        """
        self.open(evolve(LIMITS, cors_origins=("https://app.example",)))
        for origin in ("https://evil.example", "null", "http://localhost:3000", "\xff", "http://["):
            headers = ("Host: localhost", f"Origin: {origin}")
            for method in ("POST", "PUT", "DELETE", "PATCH"):
                self.assertEqual(self.request(*headers, method=method), 403, origin)
                self.assertEqual(self.code(), (403, "wrong_origin"))
            self.assertEqual(self.request(*headers), 200)
            self.assertNotIn(b"Access-Control", self.transport.value())
        self.assertEqual(self.resource.seen, 5)

    def test_allowed(self) -> None:
        """
        Pages of allowed origins and of the server itself may send POST, and so may clients
        without an origin.
        """
        self.open(evolve(LIMITS, cors_origins=("https://app.example", "loopback")))
        for headers in (
            ["Origin: https://app.example"],
            ["Origin: http://127.0.0.1:3000"],
            ["Origin: http://localhost"],
            [],
        ):
            self.assertEqual(self.request("Host: localhost", *headers, method="POST"), 200)
        self.open()
        own = ("Host: localhost:8080", "Origin: http://localhost:8080")
        self.assertEqual(self.request(*own, method="POST"), 200)
        self.open(evolve(LIMITS, cors_origins=("*",)))
        self.assertEqual(self.request("Host: localhost", "Origin: null", method="POST"), 200)

    def test_headers(self) -> None:
        """
        A page of an allowed origin may send all headers, such as the ten of OpenAI's
        client, and may read whether to retry.
        """
        self.open(evolve(LIMITS, cors_origins=("loopback",)))
        preflight = (
            "Access-Control-Request-Method: POST",
            "Access-Control-Request-Headers: authorization,x-stainless-lang",
        )
        origin = "Origin: http://localhost:3000"
        self.assertEqual(self.request("Host: localhost", origin, *preflight, method="OPTIONS"), 204)
        output = self.transport.value()
        # The star does not cover it.
        self.assertIn(b"\r\nAccess-Control-Allow-Headers: Authorization, *\r\n", output)
        self.assertIn(b"X-Should-Retry", output)


class SlowRequestTests(SiteTestCase):
    """
    Tests for requests that are received slowly.
    """

    def test_head(self) -> None:
        """
        The time for a request is not extended by sending more headers.
        """
        self.open()
        self.send(b"GET / HTTP/1.1\r\n")
        for _ in range(9):
            self.clock.advance(1)
            self.send(b"X: y\r\n")
        self.assertEqual(self.status(), 0)
        self.clock.advance(1)
        self.assertEqual(self.code(), (408, "too_slow"))
        self.assertTrue(self.transport.disconnecting)
        self.assertEqual(self.resource.seen, 0)

    def test_body(self) -> None:
        """
        The time for a request includes its body.
        """
        for head in (b"Content-Length: 50\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n"):
            self.open()
            self.send(b"POST / HTTP/1.1\r\nHost: localhost\r\n" + head)
            self.clock.advance(9)
            self.send(b"5\r\nabcde\r\n")
            self.clock.advance(1)
            self.assertEqual(self.code(), (408, "too_slow"))
            self.assertEqual(self.resource.seen, 0)

    def test_slow_response(self) -> None:
        """
        A response may take longer than the time for a request.
        """
        self.open()
        self.send(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.clock.advance(1000)
        self.assertEqual((self.status(), self.transport.disconnecting), (0, False))
        self.resource.waiting.pop().finish()
        self.assertEqual(self.status(), 200)

    def test_next_request(self) -> None:
        """
        The time for a request begins with its first byte or with the response before it,
        and an idle connection is closed without a response.
        """
        whole = b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n"
        self.open()
        self.send(whole + whole[:10])
        self.clock.advance(100)
        self.resource.waiting.pop().finish()
        self.clock.advance(9)
        self.send(whole[10:])
        self.clock.advance(100)
        self.resource.waiting.pop().finish()
        self.transport.clear()
        self.clock.advance(59)
        self.assertFalse(self.transport.disconnecting)
        self.clock.advance(1)
        self.assertEqual((self.transport.value(), self.transport.disconnecting), (b"", True))

    def test_pipelined(self) -> None:
        """
        The time also applies to a request that began in the data of the one before.
        """
        self.open()
        self.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\nGET / HTTP/1.1\r\n")
        self.assertEqual(self.status(), 200)
        self.transport.clear()
        self.clock.advance(10)
        self.assertEqual(self.code(), (408, "too_slow"))

    def test_client_does_not_read(self) -> None:
        """
        The connection of a client that does not read its last response is aborted.
        """
        self.open()
        self.send(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        self.assertTrue(self.transport.disconnecting)
        self.clock.advance(60)
        self.assertTrue(self.transport.disconnected)

    def test_client_disconnects(self) -> None:
        """
        No timer is left when a client disconnects.
        """
        for sent in (b"", b"GET / HTTP", b"POST / HTTP/1.1\r\nContent-Length: 101\r\n\r\n"):
            self.open()
            self.send(sent)
            self.channel.connectionLost(Failure(ConnectionDone()))
            self.assertEqual(self.clock.getDelayedCalls(), [])


class LargeRequestTests(SiteTestCase):
    """
    Tests for requests that are too large.
    """

    def test_head(self) -> None:
        """
        A path or headers that are too large, and malformed ones, are rejected.
        """
        begin = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
        for sent, code in [
            (b"GET /" + b"a" * 17000, (414, "path_too_long")),
            (b"GET /" + b"a" * 16380 + b" HTTP/1.1\r\n", (414, "path_too_long")),
            (begin + b"X: " + b"a" * 17000, (431, "headers_too_large")),
            (begin + b"X: " + b"a" * 9000 + b"\r\nY: " + b"a" * 9000, (431, "headers_too_large")),
            (begin + b"X: y\r\n" * 501 + b"\r\n", (431, "headers_too_large")),
            (b"nonsense\r\n\r\n", (400, "bad_request")),
            (begin + b"nonsense\r\n\r\n", (400, "bad_request")),
            (begin + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\nx", (400, "bad_request")),
        ]:
            self.open()
            self.send(sent + b"\r\n")
            # What follows is ignored.
            self.send(b"\r\n\r\nGET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            self.assertEqual(self.code(), code, sent[:40])
            self.assertEqual(self.resource.seen, 0)

    def test_announced(self) -> None:
        """
        A body that is announced as too large is rejected before it is sent, also if the
        client expects 100 Continue.
        """
        for length in (b"101", b"9" * 18, b"9" * 5000):
            self.open(evolve(LIMITS, cors_origins=("*",)))
            head = b"POST / HTTP/1.1\r\nHost: localhost\r\nOrigin: http://a.example\r\n"
            self.send(head + b"Expect: 100-continue\r\nContent-Length: " + length + b"\r\n\r\n")
            self.assertEqual(self.code(), (413, "too_large"))
            self.assertIn(b"Access-Control-Allow-Origin: *", self.transport.value())

    def test_streamed(self) -> None:
        """
        A chunked body is rejected as soon as it is too large.
        """
        self.open()
        head = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        self.send(head + b"50\r\n" + b"x" * 80 + b"\r\n")
        self.assertEqual(self.status(), 0)
        self.send(b"ffffff\r\n" + b"x" * 21)
        self.assertEqual(self.code(), (413, "too_large"))
        # The whole body in one piece.
        self.open()
        self.send(head + b"65\r\n" + b"x" * 101 + b"\r\n0\r\n\r\n")
        self.assertEqual((self.code(), self.resource.seen), ((413, "too_large"), 0))

    def test_fits(self) -> None:
        """
        A body of the largest size is accepted.
        """
        self.open()
        head = b"POST / HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
        self.send(head + b"Content-Length: 100\r\n\r\n")
        self.assertEqual(self.transport.value(), b"HTTP/1.1 100 Continue\r\n\r\n")
        self.send(b"x" * 100)
        self.assertEqual(self.status(), 200)


class SecurityHeaderTests(SiteTestCase):
    """
    Tests for the headers of every response.
    """

    def test_headers(self) -> None:
        """
        Every response has the security headers, and names no version of the software.
        """
        self.open()
        for headers, method in [
            (["Host: localhost"], "GET"),
            (["Host: localhost"], "OPTIONS"),
            (["Host: evil.example"], "GET"),
            (["nonsense"], "GET"),
        ]:
            self.request(*headers, method=method)
            output = self.transport.value()
            for line in (
                b"Server: kiroworkers\r\n",
                b"X-Content-Type-Options: nosniff\r\n",
                b"Cache-Control: no-store\r\n",
                b"Referrer-Policy: no-referrer\r\n",
                b"Content-Security-Policy: default-src 'none'; frame-ancestors 'none'\r\n",
            ):
                self.assertEqual(output.count(line), 1, output)
            self.assertNotIn(b"Twisted", output)
