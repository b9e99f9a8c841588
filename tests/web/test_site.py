"""
Tests for `kiroworkers.web.site` and `channel`: what the door lets in.
"""

from __future__ import annotations

import json
from io import StringIO
from typing import Any

from attrs import evolve
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from kiroworkers.web.site import ApiSite, RequestLimits

RULES = RequestLimits(max_body=100, receive_timeout=10)


class Inner(Resource):
    """
    Answers when it is told to.
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


class DoorTestCase(SynchronousTestCase):
    """
    A door with one client, in memory.
    """

    def open(self, rules: RequestLimits = RULES) -> None:
        self.clock = Clock()
        self.inner = Inner()
        self.door = ApiSite(self.clock, self.inner, rules)
        self.connect()

    def connect(self) -> None:
        self.transport = StringTransport()
        self.channel = self.door.buildProtocol(None)
        self.channel.makeConnection(self.transport)

    def send(self, data: bytes) -> None:
        self.channel.dataReceived(data)

    def status(self) -> int:
        """
        That of the first response, 0 while there is none.
        """
        said = self.transport.value().removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
        return int(said.split()[1]) if said else 0

    def code(self) -> tuple[int, str]:
        """
        The status of a refusal, and its code.
        """
        head, _, body = self.transport.value().partition(b"\r\n\r\n")
        self.assertIn(b"X-Content-Type-Options: nosniff", head)
        return self.status(), json.loads(body)["code"]

    def request(self, *headers: str, method: str = "GET") -> int:
        """
        The status of a whole request on a connection of its own.
        """
        self.connect()
        self.send("\r\n".join((f"{method} / HTTP/1.1", *headers, "", "")).encode("latin-1"))
        return self.status()


class Log(StringIO):
    """
    A file that can still be read when it is closed.
    """

    def close(self) -> None:
        pass


class LogTests(DoorTestCase):
    """
    Tests for the log of what was answered.
    """

    def setUp(self) -> None:
        self.open()
        self.log = Log()
        self.door.startFactory()
        self.door.logFile = self.log

    def test_afterwards(self) -> None:
        """
        A line is written soon after its response, and not before it.
        """
        self.send(b"GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.assertEqual(self.status(), 200)
        self.assertEqual(self.log.getvalue(), "")
        self.clock.advance(0.01)
        self.assertIn("GET /a", self.log.getvalue())

    def test_all(self) -> None:
        """
        Every request has its line, in order.
        """
        for path in (b"a", b"b", b"c"):
            self.send(b"GET /" + path + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.clock.advance(0.01)
        lines = self.log.getvalue().splitlines()
        self.assertEqual([line.split()[6] for line in lines], ["/a", "/b", "/c"])

    def test_end(self) -> None:
        """
        What was answered just before the server stops is logged, too, and but once.
        """
        self.send(b"GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.door.stopFactory()
        self.assertEqual(self.log.getvalue().count("GET /a"), 1)
        self.clock.advance(1)
        self.assertEqual(self.log.getvalue().count("GET /a"), 1)


class HostTests(DoorTestCase):
    """
    Tests for the names that the server answers to.
    """

    def test_defaults(self) -> None:
        """
        It answers to names of this machine and to the address that was reached.
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
        It answers to the names that it was given, and to no others then.
        """
        self.open(evolve(RULES, hosts=("kiro.example", "fe80::1")))
        hosts = ["Kiro.Example:8080", "[fe80::1]", "localhost", "a.kiro.example"]
        found = [self.request(f"Host: {host}") for host in hosts]
        self.assertEqual(found, [200, 200, 200, 403])

    def test_any(self) -> None:
        """
        Where any name will do, it still has to be one.
        """
        self.open(evolve(RULES, any_host=True))
        self.assertEqual(self.request("Host: whatever"), 200)
        self.assertEqual(self.request("Host: \xff"), 400)

    def test_missing(self) -> None:
        """
        A request has one Host; only HTTP/1.0 knew none, and then it is no name that
        the server answers to.
        """
        self.open()
        self.assertEqual(self.request(), 400)
        self.assertEqual(self.code(), (400, "bad_host"))
        self.assertEqual(self.request("Host: localhost", "Host: localhost"), 400)
        self.connect()
        self.send(b"GET / HTTP/1.0\r\n\r\n")
        self.assertEqual(self.code(), (403, "wrong_host"))


class OriginTests(DoorTestCase):
    """
    Tests for what pages may do.
    """

    def test_strange(self) -> None:
        """
        What a page of an origin that is not allowed would change is refused, and
        what it would read is not given to it.
        """
        self.open(evolve(RULES, cors_origins=("https://app.example",)))
        for origin in ("https://evil.example", "null", "http://localhost:3000", "\xff", "http://["):
            headers = ("Host: localhost", f"Origin: {origin}")
            for method in ("POST", "PUT", "DELETE", "PATCH"):
                self.assertEqual(self.request(*headers, method=method), 403, origin)
                self.assertEqual(self.code(), (403, "wrong_origin"))
            self.assertEqual(self.request(*headers), 200)
            self.assertNotIn(b"Access-Control", self.transport.value())
        self.assertEqual(self.inner.seen, 5)

    def test_allowed(self) -> None:
        """
        A page of an allowed origin may ask, and so may one of the server's own and
        whoever is no page.
        """
        self.open(evolve(RULES, cors_origins=("https://app.example", "loopback")))
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
        self.open(evolve(RULES, cors_origins=("*",)))
        self.assertEqual(self.request("Host: localhost", "Origin: null", method="POST"), 200)

    def test_headers(self) -> None:
        """
        A page of an allowed origin may send whatever headers its client does (OpenAI's
        has ten of its own), and reads whether to send a request again.
        """
        self.open(evolve(RULES, cors_origins=("loopback",)))
        payload = (
            "Access-Control-Request-Method: POST",
            "Access-Control-Request-Headers: authorization,x-stainless-lang",
        )
        origin = "Origin: http://localhost:3000"
        self.assertEqual(self.request("Host: localhost", origin, *payload, method="OPTIONS"), 204)
        said = self.transport.value()
        # Not among what a star stands for.
        self.assertIn(b"\r\nAccess-Control-Allow-Headers: Authorization, *\r\n", said)
        self.assertIn(b"X-Should-Retry", said)


class SlowTests(DoorTestCase):
    """
    Tests for requests that take long to come.
    """

    def test_head(self) -> None:
        """
        A client that goes on sending headers has so much time, and no more with
        each byte.
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
        self.assertEqual(self.inner.seen, 0)

    def test_body(self) -> None:
        """
        The time is that of the body, too.
        """
        for head in (b"Content-Length: 50\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n"):
            self.open()
            self.send(b"POST / HTTP/1.1\r\nHost: localhost\r\n" + head)
            self.clock.advance(9)
            self.send(b"5\r\nabcde\r\n")
            self.clock.advance(1)
            self.assertEqual(self.code(), (408, "too_slow"))
            self.assertEqual(self.inner.seen, 0)

    def test_answer_takes_long(self) -> None:
        """
        An answer may take longer than its request.
        """
        self.open()
        self.send(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.clock.advance(1000)
        self.assertEqual((self.status(), self.transport.disconnecting), (0, False))
        self.inner.waiting.pop().finish()
        self.assertEqual(self.status(), 200)

    def test_next_request(self) -> None:
        """
        The time of a request begins with its own first byte, or with the answer
        before it, and a connection without one is closed without a word.
        """
        whole = b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n"
        self.open()
        self.send(whole + whole[:10])
        self.clock.advance(100)
        self.inner.waiting.pop().finish()
        self.clock.advance(9)
        self.send(whole[10:])
        self.clock.advance(100)
        self.inner.waiting.pop().finish()
        self.transport.clear()
        self.clock.advance(59)
        self.assertFalse(self.transport.disconnecting)
        self.clock.advance(1)
        self.assertEqual((self.transport.value(), self.transport.disconnecting), (b"", True))

    def test_pipelined(self) -> None:
        """
        The rest of a request that came with the one before has its time, too.
        """
        self.open()
        self.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\nGET / HTTP/1.1\r\n")
        self.assertEqual(self.status(), 200)
        self.transport.clear()
        self.clock.advance(10)
        self.assertEqual(self.code(), (408, "too_slow"))

    def test_does_not_read(self) -> None:
        """
        A client that does not read its last response is cut off.
        """
        self.open()
        self.send(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        self.assertTrue(self.transport.disconnecting)
        self.clock.advance(60)
        self.assertTrue(self.transport.disconnected)

    def test_leaves(self) -> None:
        """
        A client that leaves leaves no timer.
        """
        for sent in (b"", b"GET / HTTP", b"POST / HTTP/1.1\r\nContent-Length: 101\r\n\r\n"):
            self.open()
            self.send(sent)
            self.channel.connectionLost(Failure(ConnectionDone()))
            self.assertEqual(self.clock.getDelayedCalls(), [])


class LargeTests(DoorTestCase):
    """
    Tests for requests that are too large.
    """

    def test_head(self) -> None:
        """
        A path or headers that are too large are refused as what they are.
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
            # Nothing more is made of what comes then.
            self.send(b"\r\n\r\nGET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            self.assertEqual(self.code(), code, sent[:40])
            self.assertEqual(self.inner.seen, 0)

    def test_announced(self) -> None:
        """
        A body that says it is too large is refused before it comes, and a client
        that asks whether it may send is told no.
        """
        for length in (b"101", b"9" * 18, b"9" * 5000):
            self.open(evolve(RULES, cors_origins=("*",)))
            head = b"POST / HTTP/1.1\r\nHost: localhost\r\nOrigin: http://a.example\r\n"
            self.send(head + b"Expect: 100-continue\r\nContent-Length: " + length + b"\r\n\r\n")
            self.assertEqual(self.code(), (413, "too_large"))
            self.assertIn(b"Access-Control-Allow-Origin: *", self.transport.value())

    def test_streamed(self) -> None:
        """
        One that does not say so is refused as soon as it is.
        """
        self.open()
        head = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        self.send(head + b"50\r\n" + b"x" * 80 + b"\r\n")
        self.assertEqual(self.status(), 0)
        self.send(b"ffffff\r\n" + b"x" * 21)
        self.assertEqual(self.code(), (413, "too_large"))
        # All of it in one piece, its end included.
        self.open()
        self.send(head + b"65\r\n" + b"x" * 101 + b"\r\n0\r\n\r\n")
        self.assertEqual((self.code(), self.inner.seen), ((413, "too_large"), 0))

    def test_fits(self) -> None:
        """
        The largest body that may come does.
        """
        self.open()
        head = b"POST / HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
        self.send(head + b"Content-Length: 100\r\n\r\n")
        self.assertEqual(self.transport.value(), b"HTTP/1.1 100 Continue\r\n\r\n")
        self.send(b"x" * 100)
        self.assertEqual(self.status(), 200)


class SayingTests(DoorTestCase):
    """
    Tests for what every response says.
    """

    def test_headers(self) -> None:
        """
        Every response tells browsers to take it as it is, keep no copy and show it
        in no frame, and names no version of what runs.
        """
        self.open()
        for headers, method in [
            (["Host: localhost"], "GET"),
            (["Host: localhost"], "OPTIONS"),
            (["Host: evil.example"], "GET"),
            (["nonsense"], "GET"),
        ]:
            self.request(*headers, method=method)
            said = self.transport.value()
            for line in (
                b"Server: kiroworkers\r\n",
                b"X-Content-Type-Options: nosniff\r\n",
                b"Cache-Control: no-store\r\n",
                b"Referrer-Policy: no-referrer\r\n",
                b"Content-Security-Policy: default-src 'none'; frame-ancestors 'none'\r\n",
            ):
                self.assertEqual(said.count(line), 1, said)
            self.assertNotIn(b"Twisted", said)
