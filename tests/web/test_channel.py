"""
Tests for `kiroworkers.web.channel`: how requests follow each other on a connection.
"""

from __future__ import annotations

import json
import re
from typing import Any

from attrs import evolve
from twisted.internet import reactor
from twisted.internet.defer import DeferredQueue
from twisted.internet.endpoints import TCP4ClientEndpoint, UNIXClientEndpoint, connectProtocol
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from twisted.web.server import NOT_DONE_YET

from kiroworkers.web.channel import MAX_BUFFER
from kiroworkers.web.connection_limits import ConnectionLimiter
from kiroworkers.web.recorded_request import AccessLog
from kiroworkers.web.site import ApiSite
from tests.fuzz_http import HostileClient
from tests.programs import folder_outside
from tests.web.test_site import LIMITS, FakeResource, SiteTestCase

real: Any = reactor

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
SLOW = b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: localhost\r\n"

#: The most that Twisted reads from a connection at once.
READ_SIZE = 65536


class ChannelTestCase(SiteTestCase):
    """
    Base of tests with one connection.
    """

    def setUp(self) -> None:
        self.open()

    def statuses(self) -> list[int]:
        """
        Return the statuses of all responses, without interim ones.
        """
        statuses = map(int, re.findall(rb"HTTP/1\.[01] (\d+) ", self.transport.value()))
        return [status for status in statuses if status != 100]

    def finish(self) -> None:
        """
        Answer the request that waits.
        """
        [request] = self.resource.waiting
        self.resource.waiting.clear()
        request.finish()

    def turn(self) -> None:
        """
        Run one turn of the event loop.
        """
        now = self.clock.seconds()
        for call in [call for call in self.clock.calls if call.getTime() <= now]:
            # Unlike the event loop, `Clock.advance` also makes the calls that these schedule.
            self.clock.calls.remove(call)
            call.called = 1
            call.func(*call.args, **call.kw)


class PipelineTests(ChannelTestCase):
    """
    Tests for clients that send requests without waiting for responses (RFC 9112, section
    9.3.2).
    """

    def test_one_per_turn(self) -> None:
        """
        Of a whole buffer of requests, each turn of the event loop answers one, in order.
        """
        self.send(GET * 3)
        for answered in (1, 2, 3, 3):
            self.assertEqual(len(self.statuses()), answered)
            self.turn()
        self.assertEqual(self.statuses(), [200, 200, 200])

    def test_one_in_progress(self) -> None:
        """
        No request is begun before the one before it is answered.
        """
        self.send(SLOW + SLOW)
        self.send(SLOW)
        for _ in range(3):
            self.turn()
            self.assertEqual(len(self.resource.waiting), 1)
            self.finish()
        self.turn()
        self.assertEqual(self.resource.seen, 3)

    def test_body_before(self) -> None:
        """
        A request that follows a body in the same data is answered, however both are cut.
        """
        for head, body in (
            (b"Content-Length: 3\r\n\r\n", b"abc"),
            (b"Transfer-Encoding: chunked\r\n\r\n", b"3\r\nabc\r\n0\r\n\r\n"),
        ):
            data = POST + head + body + SLOW + GET
            for cut in range(1, len(data)):
                self.open()
                self.send(data[:cut])
                self.turn()
                self.send(data[cut:])
                self.turn()
                self.finish()
                self.turn()
                self.assertEqual(self.statuses(), [200] * 3, data[:cut])

    def test_memory(self) -> None:
        """
        While a request is in progress, no more is read once the buffer holds more than
        `MAX_BUFFER`; reading continues when the requests in it are answered.
        """
        self.send(SLOW)
        piece = GET * (READ_SIZE // len(GET))
        sent = kept = 0
        while self.transport.producerState == "producing":
            self.send(piece)
            sent += piece.count(GET)
            kept += len(piece)
        self.assertLessEqual(kept, MAX_BUFFER + READ_SIZE)
        self.finish()
        for _ in range(sent):
            if self.transport.producerState == "producing":
                break
            self.turn()
        self.assertEqual(self.transport.producerState, "producing")
        self.assertGreater(len(self.statuses()), (kept - MAX_BUFFER) // len(GET))

    def test_refilled(self) -> None:
        """
        A client that sends as fast as it is answered does not fill the memory.
        """
        piece = GET * (READ_SIZE // len(GET))
        for _ in range(20):
            if self.transport.producerState == "producing":
                self.send(piece)
            self.turn()
        self.assertLess(len(self.channel._buffer), MAX_BUFFER + READ_SIZE)
        self.assertEqual(self.transport.producerState, "paused")

    def test_unread_response(self) -> None:
        """
        While the client does not read, none of its requests is parsed, neither those in
        the buffer nor those that arrive.
        """
        self.send(SLOW + GET)
        self.channel.pauseProducing()
        self.finish()
        self.send(GET)
        self.turn()
        self.assertEqual(self.resource.seen, 1)
        self.channel.resumeProducing()
        self.turn()
        self.turn()
        self.assertEqual(self.statuses(), [200] * 3)

    def test_unread_last_response(self) -> None:
        """
        Neither is a request that arrives when the buffer is empty.
        """
        self.send(SLOW)
        self.channel.pauseProducing()
        self.finish()
        self.send(GET)
        self.turn()
        self.assertEqual(self.resource.seen, 1)
        self.channel.resumeProducing()
        self.turn()
        self.assertEqual(self.statuses(), [200] * 2)

    def test_long_body(self) -> None:
        """
        The rest of a body that began in a full buffer is read.
        """
        self.open(evolve(LIMITS, max_body=10**6))
        self.send(SLOW)
        length = 2 * READ_SIZE
        self.send(POST + b"Content-Length: %d\r\n\r\n" % length + b"x" * READ_SIZE)
        self.assertEqual(self.transport.producerState, "paused")
        self.finish()
        self.turn()
        self.assertEqual(self.transport.producerState, "producing")
        self.send(b"x" * READ_SIZE)
        self.assertEqual(self.statuses(), [200] * 2)

    def test_tiny_chunks(self) -> None:
        """
        Of a body of tiny chunks, few are decoded in one turn (RFC 9112, section 7.1), also on
        a connection that is closed after it.
        """
        for option in (b"", b"Connection: close\r\n"):
            self.open(evolve(LIMITS, max_body=10**6))
            self.send(POST + option + b"Transfer-Encoding: chunked\r\n\r\n")
            self.send(b"1\r\na\r\n" * 8000 + b"0\r\n\r\n" + GET)
            for _ in range(100):
                self.turn()
            self.assertEqual(self.statuses(), [])
            for _ in range(30):
                self.turn()
            self.assertEqual(self.statuses(), [200] if option else [200, 200])

    def test_large_chunks(self) -> None:
        """
        A body of large chunks is decoded in a few turns.
        """
        self.open(evolve(LIMITS, max_body=10**6))
        self.send(POST + b"Transfer-Encoding: chunked\r\n\r\n")
        self.send(b"9c40\r\n" + b"x" * 40_000 + b"\r\n0\r\n\r\n")
        for _ in range(3):
            self.turn()
        self.assertEqual(self.statuses(), [200])

    def test_keep_alive_client(self) -> None:
        """
        A client that waits for each response is answered without another turn.
        """
        for answered in range(1, 4):
            self.send(GET)
            self.assertEqual(len(self.statuses()), answered)
        self.assertTrue(self.resource.seen, 3)

    def test_closing(self) -> None:
        """
        When the server closes the connection, waiting requests are left unanswered.
        """
        self.send(GET + GET)
        self.transport.loseConnection()
        self.turn()
        self.assertEqual(self.resource.seen, 1)

    def test_lost(self) -> None:
        """
        When the connection is lost, waiting requests are forgotten.
        """
        self.send(GET + GET)
        self.channel.connectionLost(Failure(ConnectionDone()))
        self.turn()
        self.assertEqual(self.resource.seen, 1)

    def test_late(self) -> None:
        """
        The time for a request includes that in which the client does not read.
        """
        self.send(SLOW + GET)
        self.channel.pauseProducing()
        self.finish()
        self.clock.advance(10)
        self.assertEqual(self.statuses(), [200, 408])


class HalfCloseTests(ChannelTestCase):
    """
    Tests for clients that close their side of the connection (RFC 9112, section 9.6).
    """

    def test_answered(self) -> None:
        """
        A request that was received as a whole is answered, and then the connection closed.
        """
        self.send(SLOW)
        self.channel.readConnectionLost()
        self.assertFalse(self.transport.disconnecting)
        self.finish()
        self.assertEqual(self.statuses(), [200])
        self.assertIn(b"\r\nConnection: close\r\n", self.transport.value())
        self.assertTrue(self.transport.disconnecting)

    def test_pipelined(self) -> None:
        """
        So are all requests that were received as a whole.
        """
        self.send(SLOW + GET + GET)
        self.channel.readConnectionLost()
        self.finish()
        for _ in range(2):
            self.assertFalse(self.transport.disconnecting)
            self.turn()
        self.assertEqual(self.statuses(), [200] * 3)
        self.assertTrue(self.transport.disconnecting)

    def test_incomplete(self) -> None:
        """
        An incomplete request gets 400 (RFC 9112, section 8), also after others.
        """
        for sent in (b"GET / HT", GET[:-2], POST + b"Content-Length: 3\r\n\r\nab"):
            self.open()
            self.send(sent)
            self.channel.readConnectionLost()
            self.assertEqual(self.code(), (400, "bad_request"))
            self.assertTrue(self.transport.disconnecting)
            self.open()
            self.send(GET + sent)
            self.channel.readConnectionLost()
            self.turn()
            self.assertEqual(self.statuses(), [200, 400])

    def test_idle(self) -> None:
        """
        A connection without a request is closed without a response.
        """
        self.channel.readConnectionLost()
        self.assertEqual(self.transport.value(), b"")
        self.assertTrue(self.transport.disconnecting)
        self.open()
        self.send(GET)
        self.channel.readConnectionLost()
        self.assertEqual(self.statuses(), [200])
        self.assertTrue(self.transport.disconnecting)

    def test_rejected(self) -> None:
        """
        After an error, the connection is closed as soon as the client closes its side.
        """
        self.send(b"nonsense\r\n\r\n")
        self.channel.readConnectionLost()
        self.assertEqual(self.statuses(), [400])
        self.assertTrue(self.transport.disconnecting)

    def test_rejected_later(self) -> None:
        """
        An error that is sent with a delay is sent also if the client closes its side before.
        """
        self.patch(self.site, "rejection_delay", lambda channel: 1.0)
        self.send(b"nonsense\r\n\r\n")
        self.channel.readConnectionLost()
        self.assertFalse(self.transport.disconnecting)
        self.clock.advance(1)
        self.assertEqual(self.statuses(), [400])
        self.assertTrue(self.transport.disconnecting)

    def test_hung_up(self) -> None:
        """
        A client that has closed the whole connection answers a ping with a reset, which
        cancels its request; one that only closed its side discards the pings (RFC 9110,
        section 15.2.1), which become rare.
        """
        self.send(SLOW)
        self.channel.readConnectionLost()
        ping = b"HTTP/1.1 100 Continue\r\n\r\n"
        for seconds, pings in ((0, 0), (1, 1), (2, 2), (4, 3), (8, 4), (15, 5), (15, 6)):
            self.clock.advance(seconds)
            self.assertEqual(self.transport.value(), ping * pings)
        self.finish()
        self.assertEqual(self.statuses(), [200])
        self.channel.connectionLost(Failure(ConnectionDone()))
        self.clock.advance(100)
        self.assertEqual(self.transport.value().count(ping), 6)

    def test_lost(self) -> None:
        """
        A client that is gone gets no more pings.
        """
        self.send(SLOW)
        self.channel.readConnectionLost()
        self.channel.connectionLost(Failure(ConnectionDone()))
        self.clock.advance(100)
        self.assertEqual(self.transport.value(), b"")

    def test_stream(self) -> None:
        """
        The pings in a stream of events are comments, which clients ignore, but not while a
        part of it, perhaps half an event, waits for the client.
        """
        self.send(SLOW)
        [request] = self.resource.waiting
        request.setHeader(b"content-type", b"text/event-stream")
        request.write(b"data: 1\n\n")
        self.transport.clear()
        self.channel.readConnectionLost()
        self.clock.advance(1)
        self.channel.pauseProducing()
        self.clock.advance(2)
        self.assertEqual(self.transport.value(), b"9\r\n: alive\n\n\r\n")

    def test_no_ping(self) -> None:
        """
        Neither a client of HTTP/1.0 nor a response that has begun is disturbed.
        """
        self.send(SLOW.replace(b"1.1", b"1.0"))
        self.channel.readConnectionLost()
        self.clock.advance(1)
        self.assertEqual(self.transport.value(), b"")
        self.open()
        self.send(SLOW)
        [request] = self.resource.waiting
        request.setHeader(b"content-length", b"2")
        request.write(b"a")
        self.transport.clear()
        self.channel.readConnectionLost()
        self.clock.advance(1)
        self.assertEqual(self.transport.value(), b"")

    def test_closing(self) -> None:
        """
        A client may close its side while the server closes the connection.
        """
        self.send(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        self.channel.readConnectionLost()
        self.channel.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.statuses(), [200])

    def test_told_twice(self) -> None:
        """
        Twisted may report the end more than once, because it reads again.
        """
        self.send(SLOW)
        self.channel.readConnectionLost()
        self.channel.readConnectionLost()
        self.finish()
        self.assertEqual(self.statuses(), [200])


class WaitingResource(FakeResource):
    """
    Tell the test about each request for ``/slow``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.requests: DeferredQueue[Any] = DeferredQueue()

    def render(self, request: Any) -> Any:
        outcome = super().render(request)
        if outcome is NOT_DONE_YET:
            self.requests.put(request)
        return outcome


class SocketTests(TestCase):
    """
    Tests for clients that close their side, on real sockets (RFC 9112, section 9.6).
    """

    timeout = 20

    def setUp(self) -> None:
        self.resource = WaitingResource()
        site = ApiSite(real, self.resource, LIMITS, access_log=AccessLog(Clock()))
        self.factory = ConnectionLimiter(site, 10, 0)
        path = str(folder_outside(self) / "http.sock")
        port = real.listenTCP(0, self.factory, interface="127.0.0.1")
        unix = real.listenUNIX(path, self.factory)
        self.addCleanup(port.stopListening)
        self.addCleanup(unix.stopListening)
        self.endpoints = (
            TCP4ClientEndpoint(real, "127.0.0.1", port.getHost().port),
            UNIXClientEndpoint(real, path),
        )

    async def test_half_closed(self) -> None:
        """
        A client that closes its side after a request gets the response, over TCP and over
        a UNIX domain socket.
        """
        for endpoint in self.endpoints:
            client = HostileClient([SLOW])
            transport: Any = (await connectProtocol(endpoint, client)).transport
            transport.loseWriteConnection()
            request = await self.resource.requests.get()
            request.finish()
            await client.closed
            self.assertTrue(client.received.startswith(b"HTTP/1.1 200 OK\r\n"), client.received)

    async def test_hung_up(self) -> None:
        """
        A client that closes the connection cancels its request.
        """
        for endpoint in self.endpoints:
            client = HostileClient([SLOW])
            transport: Any = (await connectProtocol(endpoint, client)).transport
            request = await self.resource.requests.get()
            transport.loseConnection()
            await self.assertFailure(request.notifyFinish(), ConnectionLost)


class LengthResource(FakeResource):
    """
    Answer with a length, except for ``/unsized``.
    """

    def render(self, request: Any) -> Any:
        if request.path == b"/unsized":
            request.write(b"yes")
            request.finish()
            return NOT_DONE_YET
        return super().render(request)


class PersistenceTests(ChannelTestCase):
    """
    Tests for how long a connection stays open (RFC 9112, section 9.3).
    """

    def stays(self, version: str, *headers: str, path: str = "/") -> bool:
        """
        Return whether a connection stays open after a request that is answered.
        """
        self.connect()
        self.site.resource = LengthResource()
        self.send(
            "\r\n".join((f"GET {path} {version}", "Host: localhost", *headers, "", "")).encode()
        )
        self.assertEqual(self.status(), 200)
        return not self.transport.disconnecting

    def test_current(self) -> None:
        """
        A connection of HTTP/1.1 stays open, unless one of its options is close.
        """
        self.assertTrue(self.stays("HTTP/1.1"))
        self.assertTrue(self.stays("HTTP/1.1", "Connection: closed"))
        for headers in (
            ["Connection: close"],
            ["Connection: Close"],
            ["Connection: te,close"],
            ["Connection: keep-alive, close"],
            ["Connection: te", "Connection: close"],
        ):
            self.assertFalse(self.stays("HTTP/1.1", *headers), headers)
            self.assertIn(b"\r\nConnection: close\r\n", self.transport.value())

    def test_old(self) -> None:
        """
        One of HTTP/1.0 stays open only if the client asks for it and the response says how
        long it is.
        """
        self.assertFalse(self.stays("HTTP/1.0"))
        self.assertFalse(self.stays("HTTP/1.0", "Connection: keep-alive, close"))
        self.assertFalse(self.stays("HTTP/1.0", "Connection: keep-alive", path="/unsized"))
        self.assertTrue(self.stays("HTTP/1.0", "Connection: Keep-Alive"))
        self.assertIn(b"\r\nConnection: keep-alive\r\n", self.transport.value())
        self.send(GET)
        self.assertEqual(self.statuses(), [200, 200])


class MalformedTests(ChannelTestCase):
    """
    Tests for requests that are rejected before they are received as a whole.
    """

    def answer_to(self, data: bytes) -> tuple[int, str]:
        """
        Return the status and code of the only response to `data`.
        """
        self.open()
        # What follows would be a request of its own to a parser that sees another end.
        self.send(data + GET)
        self.clock.advance(1)
        self.assertEqual(len(self.statuses()), 1, self.transport.value())
        self.assertTrue(self.transport.disconnecting)
        self.assertEqual(self.resource.seen, 0)
        return self.code()

    def test_framing(self) -> None:
        """
        A request whose end is ambiguous gets 400, and the connection is closed (RFC 9112,
        sections 6.1 and 6.3).
        """
        chunked = b"Transfer-Encoding: chunked\r\n"
        for headers in (
            chunked + b"Transfer-Encoding: identity\r\n",
            b"Transfer-Encoding: identity\r\n" + chunked,
            b"Transfer-Encoding: identity\r\n",
            b"Transfer-Encoding: gzip, chunked\r\n",
            chunked + b"Content-Length: 5\r\n",
            b"Content-Length: 5\r\n" + chunked,
            b"Content-Length: 5\r\nContent-Length: 5\r\n",
            b"Content-Length: 5\r\nContent-Length: 6\r\n",
            b"Content-Length: 5, 5\r\n",
            b"Content-Length: +5\r\n",
        ):
            answer = self.answer_to(POST + headers + b"\r\n0\r\n\r\n")
            self.assertEqual(answer, (400, "bad_request"), headers)
        old = POST.replace(b"1.1", b"1.0") + chunked + b"\r\n0\r\n\r\n"
        self.assertEqual(self.answer_to(old), (400, "bad_request"))

    def test_lines(self) -> None:
        """
        A line that ends with a bare LF, begins with a blank, or has a blank before its
        colon gets 400 (RFC 9112, sections 2.2, 5.1 and 5.2).
        """
        for head in (
            b"GET / HTTP/1.1\nHost: localhost\n\n",
            b"GET / HTTP/1.1\r\nHost: localhost\nX: y\r\n\r\n",
            b"GET / HTTP/1.1\r\n Host: localhost\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: localhost\r\n folded\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: localhost\r\nX: y\r\n\tfolded\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost : localhost\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: local\rhost\r\n\r\n",
        ):
            self.assertEqual(self.answer_to(head), (400, "bad_request"), head)

    def test_bare_lf_at_once(self) -> None:
        """
        A head whose lines all end with a bare LF is rejected at once, not as too slow.
        """
        self.send(b"GET / HTTP/1.1\nHost: localhost\n\n")
        self.assertEqual(self.code(), (400, "bad_request"))

    def test_chunks(self) -> None:
        """
        Chunk extensions and trailers are ignored, and what is no chunk gets 400 (RFC 9112,
        sections 7.1.1 and 7.1.2).
        """
        head = POST + b"Transfer-Encoding: chunked\r\n\r\n"
        for body in (b"3;a=b\r\nabc\r\n0\r\n\r\n", b"3\r\nabc\r\n0\r\nX: y\r\n\r\n"):
            self.open()
            self.send(head + body + GET)
            self.turn()
            self.assertEqual(self.statuses(), [200, 200])
        for body in (b"3\nabc\r\n", b"0x3\r\nabc", b"+3\r\nabc", b"3 \r\nabc", b"3\r\nabcd\r\n"):
            self.assertEqual(self.answer_to(head + body), (400, "bad_request"), body)

    def test_other_protocols(self) -> None:
        """
        The preface of HTTP/2 and the hello of TLS get 400 at once (RFC 9113, section 3.4).
        """
        for data in (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01"):
            self.open()
            self.send(data)
            self.assertEqual(self.code(), (400, "bad_request"))
            self.assertTrue(self.transport.disconnecting)

    def test_empty_line(self) -> None:
        """
        An empty line before a request is ignored (RFC 9112, section 2.2).
        """
        self.send(b"\r\n" + GET)
        self.assertEqual(self.statuses(), [200])

    def test_expectation(self) -> None:
        """
        An expectation other than 100-continue gets 417 before the body is sent (RFC 9110,
        section 10.1.1).
        """
        for value in (b"200-ok", b"100-continue, x"):
            self.open()
            self.send(POST + b"Content-Length: 3\r\nExpect: " + value + b"\r\n\r\n")
            self.assertEqual(self.code(), (417, "expectation_failed"))
        self.open()
        self.send(POST + b"Content-Length: 3\r\nExpect: 100-Continue\r\n\r\n")
        self.assertEqual(self.transport.value(), b"HTTP/1.1 100 Continue\r\n\r\n")
        self.send(b"abc")
        self.assertEqual(self.status(), 200)


class TargetTests(ChannelTestCase):
    """
    Tests for the forms of request targets (RFC 9112, section 3.2).
    """

    def answer_to(self, line: str, *headers: str) -> int:
        self.connect()
        self.send("\r\n".join((line, *headers, "", "")).encode())
        return self.status()

    def test_absolute(self) -> None:
        """
        The host in an absolute target replaces that of the header (RFC 9112, section 3.2.2).
        """
        for target in (
            "http://localhost/",
            "http://localhost:8080/?x=http://evil.example/",
            "HTTP://LOCALHOST?x",
            "https://127.0.0.1",
        ):
            for host in ("localhost", "evil.example"):
                status = self.answer_to(f"GET {target} HTTP/1.1", f"Host: {host}")
                self.assertEqual(status, 200, target)
        for target in ("http://evil.example/", "http://localhost@evil.example/", "http:///"):
            status = self.answer_to(f"GET {target} HTTP/1.1", "Host: localhost")
            self.assertEqual((status, self.code()[1]), (403, "wrong_host"), target)
        for target in ("ftp://localhost/", "localhost:80", "http:/"):
            status = self.answer_to(f"GET {target} HTTP/1.1", "Host: localhost")
            self.assertEqual((status, self.code()[1]), (400, "bad_path"), target)
        self.assertEqual(self.answer_to("GET http://localhost/ HTTP/1.1"), 400)

    def test_absolute_path(self) -> None:
        """
        An absolute target has its path and query served as if they were sent alone.
        """
        self.answer_to("GET http://localhost/slow?a=b HTTP/1.1", "Host: localhost")
        [request] = self.resource.waiting
        self.assertEqual((request.uri, request.path), (b"/slow?a=b", b"/slow"))
        self.assertEqual(request.args, {b"a": [b"b"]})

    def test_asterisk(self) -> None:
        """
        ``OPTIONS *`` asks about the whole server (RFC 9112, section 3.2.4).
        """
        self.assertEqual(self.answer_to("OPTIONS * HTTP/1.1", "Host: localhost"), 204)
        self.assertEqual(self.answer_to("OPTIONS http://localhost HTTP/1.1", "Host: x"), 204)
        self.assertEqual(self.answer_to("GET * HTTP/1.1", "Host: localhost"), 400)

    def test_without_host(self) -> None:
        """
        Only a request of HTTP/1.0 may lack a Host header (RFC 9112, section 3.2).
        """
        self.assertEqual(self.answer_to("GET / HTTP/1.0"), 200)
        self.assertEqual(self.answer_to("OPTIONS * HTTP/1.0"), 204)
        self.assertEqual(self.answer_to("GET / HTTP/1.0", "Host: evil.example"), 403)
        self.assertEqual(self.answer_to("GET / HTTP/1.1"), 400)
        self.assertEqual(
            json.loads(self.transport.value().split(b"\r\n\r\n")[1])["code"], "bad_host"
        )
