"""
Tests for `kiroworkers.web.websocket`, on a site and a connection in memory.
"""

from __future__ import annotations

import json
from typing import Any

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, Event, Ping, Pong, TextMessage
from wsproto.frame_protocol import CloseReason

from kiroworkers.web.channel import Channel
from kiroworkers.web.errors import HttpError, respond_to_error
from kiroworkers.web.frames import text_frame
from kiroworkers.web.recorded_request import AccessLog
from kiroworkers.web.site import ApiSite
from kiroworkers.web.websocket import DEAD_AFTER, PING_INTERVAL, WebSocket
from tests.records import logged_records
from tests.web.test_frames import ACCEPT, KEY, text_message
from tests.web.test_site import LIMITS

HEADERS = {
    "Host": "localhost",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": KEY.decode(),
    "Sec-WebSocket-Version": "13",
}


def handshake(changes: dict[str, str] | None = None) -> bytes:
    """
    Return a request for a WebSocket; a header that is changed to nothing is left out.
    """
    headers = {**HEADERS, **(changes or {})}
    lines = [f"{name}: {value}" for name, value in headers.items() if value]
    return "\r\n".join(("GET / HTTP/1.1", *lines, "", "")).encode()


class SocketResource(Resource):
    """
    Give each request a WebSocket.
    """

    isLeaf = True

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.allowed = True
        self.sockets: list[WebSocket] = []

    def render(self, request: Any) -> Any:
        try:
            socket = WebSocket(self.clock, request, lambda: self.allowed)
        except HttpError as error:
            return respond_to_error(request, error)
        self.sockets.append(socket)
        ended = Deferred.fromCoroutine(socket.wait_until_closed())
        request.notifyFinish().addErrback(lambda _: ended.cancel())
        ended.addCallbacks(
            lambda _: request.finish(), lambda failure: failure.trap(CancelledError) and None
        )
        return NOT_DONE_YET


class SocketTestCase(SynchronousTestCase):
    """
    Base of tests with a site and one client.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.resource = SocketResource(self.clock)
        limits = evolve(LIMITS, cors_origins=("https://app.example",))
        access_log = AccessLog(self.clock, wall_clock=lambda: 0.0)
        self.site = ApiSite(self.clock, self.resource, limits, access_log=access_log)
        self.transport = StringTransport()
        self.channel: Channel = self.site.buildProtocol(None)
        self.channel.makeConnection(self.transport)
        self.client = Connection(ConnectionType.CLIENT)

    def open(self, more: bytes = b"") -> WebSocket:
        """
        Open a WebSocket, and send `more` with the handshake.
        """
        self.channel.dataReceived(handshake() + more)
        head, _, rest = self.transport.value().partition(b"\r\n\r\n")
        self.assertTrue(head.startswith(b"HTTP/1.1 101 "), head)
        self.transport.clear()
        self.client.receive_data(rest)
        return self.resource.sockets[-1]

    def events(self) -> list[Event]:
        """
        Return the events that the client has not read.
        """
        self.client.receive_data(self.transport.value())
        self.transport.clear()
        return [*self.client.events()]

    def lose(self) -> None:
        self.transport.disconnecting = True
        self.channel.connectionLost(Failure(ConnectionDone()))

    def statuses(self) -> list[tuple[int, str]]:
        """
        Return the status and the code of the error that was sent.
        """
        head, _, body = self.transport.value().partition(b"\r\n\r\n")
        return [(int(head.split()[1]), json.loads(body)["code"])]


class HandshakeTests(SocketTestCase):
    """
    Tests for requests that ask for a WebSocket.
    """

    def test_accepted(self) -> None:
        """
        The response accepts the key, in any pieces of the request.
        """
        request = handshake()
        for at in range(len(request)):
            self.channel.dataReceived(request[at : at + 1])
        head = self.transport.value()
        self.assertTrue(head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n"))
        self.assertIn(b"\r\nSec-WebSocket-Accept: " + ACCEPT + b"\r\n", head)
        self.assertIn(b"\r\nX-Request-ID: ", head)
        self.assertNotIn(b"chunked", head)
        self.assertTrue(head.endswith(b"\r\n\r\n"))

    def test_refused(self) -> None:
        """
        Other requests get an error in the usual format, and the connection stays open.
        """
        self.channel.dataReceived(handshake({"Upgrade": ""}))
        self.assertEqual(self.statuses(), [(426, "upgrade_required")])
        self.transport.clear()
        self.clock.advance(0)
        self.channel.dataReceived(handshake({"Sec-WebSocket-Key": "x"}))
        self.assertEqual(self.statuses(), [(400, "bad_request")])
        self.transport.clear()
        self.clock.advance(0)
        self.open()

    def test_origins(self) -> None:
        """
        Pages of this server and of allowed origins may open one, and no others.
        """
        for origin, allowed in (
            ("http://localhost", True),
            ("https://app.example", True),
            ("https://evil.example", False),
            ("http://localhost:3000", False),
            ("null", False),
        ):
            self.setUp()
            self.channel.dataReceived(handshake({"Origin": origin}))
            if allowed:
                self.assertEqual(len(self.resource.sockets), 1, origin)
            else:
                self.assertEqual(self.statuses(), [(403, "wrong_origin")])

    def test_early_frames(self) -> None:
        """
        Frames that a client sends with the handshake are read.
        """
        self.open(self.client.send(Ping(b"early")))
        self.assertEqual([*self.client.events()], [Pong(b"early")])


class ConnectionTests(SocketTestCase):
    """
    Tests for the connection of a WebSocket.
    """

    def test_messages(self) -> None:
        """
        The client gets the messages.
        """
        socket = self.open()
        socket.send(text_frame("one"))
        socket.send(text_frame("two"))
        self.assertEqual([text_message(event).data for event in self.events()], ["one", "two"])

    def test_closed_by_client(self) -> None:
        """
        When the client closes the WebSocket, the connection is closed, and one line is logged
        with the duration and the bytes; nothing is left to do.
        """
        records = logged_records(self)
        socket = self.open()
        socket.send(text_frame("x" * 100))
        self.clock.advance(5)
        self.channel.dataReceived(self.client.send(CloseConnection(1000)))
        self.assertIsInstance(self.events()[-1], CloseConnection)
        self.assertTrue(self.transport.disconnecting)
        self.lose()
        self.clock.advance(1)
        [record] = records
        self.assertEqual((record.status, record.total, record.aborted), (101, 5, False))
        self.assertEqual(record.sent, 102 + 4)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_lost(self) -> None:
        """
        When the connection is lost, one line is logged, nothing is left to do, and nothing can be
        sent any more.
        """
        records = logged_records(self)
        socket = self.open()
        self.lose()
        socket.send(text_frame("late"))
        socket.close(CloseReason.GOING_AWAY, "late")
        self.assertEqual(self.transport.value(), b"")
        [record] = records
        self.assertEqual((record.status, record.aborted), (101, True))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_half_closed(self) -> None:
        """
        A client that closes its side has left, also right after the handshake.
        """
        self.open()
        self.channel.readConnectionLost()
        self.assertTrue(self.transport.disconnecting)

    def test_closed_by_server(self) -> None:
        """
        A stop of the server is told to the client, and closes the connection at once.
        """
        socket = self.open()
        socket.close_now(CloseReason.GOING_AWAY, "the server stops")
        self.assertEqual(self.events(), [CloseConnection(1001, "the server stops")])
        self.assertTrue(self.transport.disconnecting)

    def test_close_unanswered(self) -> None:
        """
        A client that does not answer the server's close has two seconds.
        """
        socket = self.open()
        socket.close(CloseReason.POLICY_VIOLATION, "no")
        self.assertFalse(self.transport.disconnecting)
        socket.send(text_frame("late"))
        self.clock.advance(2)
        self.assertEqual(self.events(), [CloseConnection(1008, "no")])
        self.assertTrue(self.transport.disconnecting)

    def test_no_request_after_it(self) -> None:
        """
        Nothing that follows on the connection is read as a request.
        """
        self.open()
        self.channel.dataReceived(handshake())
        self.assertIsInstance(self.events()[0], CloseConnection)
        self.clock.advance(1)
        self.assertEqual(len(self.resource.sockets), 1)


class PingTests(SocketTestCase):
    """
    Tests for clients that may be gone.
    """

    def test_answered(self) -> None:
        """
        A client that answers pings stays, for hours; the timeouts of requests do not apply.
        """
        self.open()
        for _ in range(200):
            self.clock.advance(PING_INTERVAL)
            self.assertEqual(self.events(), [Ping(b"")])
            self.channel.dataReceived(self.client.send(Pong(b"")))
        self.assertFalse(self.transport.disconnecting)

    def test_dead(self) -> None:
        """
        A client from which nothing comes is dropped.
        """
        records = logged_records(self)
        self.open()
        self.clock.pump([PING_INTERVAL] * int(DEAD_AFTER / PING_INTERVAL))
        self.assertTrue(self.transport.disconnected)
        self.lose()
        self.assertEqual([record.code for record in records], ["not_read"])

    def test_no_longer_allowed(self) -> None:
        """
        When its token is withdrawn, or its session has ended, a client is told before the next
        ping.
        """
        self.open()
        self.resource.allowed = False
        self.clock.advance(PING_INTERVAL)
        self.assertEqual(self.events(), [CloseConnection(1008, "no longer allowed")])
        self.clock.advance(2)
        self.assertTrue(self.transport.disconnecting)

    def test_not_reading(self) -> None:
        """
        A client that does not read is sent neither pings nor answers to its own, and its
        WebSocket says so.
        """
        socket = self.open()
        resumed: list[bool] = []
        socket.on_resume = lambda: resumed.append(socket.paused)
        self.channel.pauseProducing()
        self.assertTrue(socket.paused)
        self.channel.dataReceived(self.client.send(Ping(b"x" * 100)))
        self.clock.advance(PING_INTERVAL)
        self.assertEqual(self.transport.value(), b"")
        self.channel.resumeProducing()
        self.assertEqual(resumed, [False])


class HostileTests(SocketTestCase):
    """
    Tests for what clients should not send.
    """

    def test_many_frames(self) -> None:
        """
        Of many tiny frames, few are read in one turn of the event loop, and no more from the
        connection until then.
        """
        self.open()
        frame = self.client.send(Ping(b""))
        self.channel.dataReceived(frame * 10_000)
        self.assertLess(len(self.transport.value()), 1000)
        self.assertEqual(self.transport.producerState, "paused")
        for _ in range(50):
            self.clock.advance(0)
        self.assertEqual(self.transport.producerState, "producing")
        self.assertEqual(len(self.transport.value()), 20_000)

    def test_no_effect(self) -> None:
        """
        Messages have no effect, and a long one closes the WebSocket.
        """
        self.open()
        self.channel.dataReceived(
            self.client.send(TextMessage('{"type":"input","data":"\\u0003"}'))
        )
        self.assertEqual(self.events(), [])
        self.channel.dataReceived(self.client.send(TextMessage("x" * 5000)))
        for _ in range(5):
            self.clock.advance(0)
        [event] = self.events()
        assert isinstance(event, CloseConnection)
        self.assertEqual(event.code, 1009)
        self.assertTrue(self.transport.disconnecting)

    @given(
        st.lists(
            st.binary(max_size=30)
            | st.sampled_from(
                [b"\x89\x80\0\0\0\0", b"\x81\xfe\x7f\xff", b"\x88\x80\0\0\0\0", b"\0" * 9]
            )
        ),
        st.integers(0, 10),
    )
    def test_anything(self, pieces: list[bytes], paused: int) -> None:
        """
        Whatever a client sends, the WebSocket goes on or is closed, and leaves nothing behind.
        """
        self.setUp()
        socket = self.open()
        for index, piece in enumerate(pieces):
            if index == paused:
                self.channel.pauseProducing()
            self.channel.dataReceived(piece)
            socket.send(text_frame("x"))
            self.clock.advance(1)
        self.lose()
        self.clock.advance(100)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    @given(
        st.dictionaries(
            st.sampled_from([*HEADERS, "Origin", "Sec-WebSocket-Protocol"]),
            st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30),
        )
    )
    def test_any_handshake(self, changes: dict[str, str]) -> None:
        """
        Any handshake is accepted or refused with an error of the client's.
        """
        self.setUp()
        self.channel.dataReceived(handshake(changes))
        self.clock.advance(1)
        status = int(self.transport.value().split()[1])
        self.assertIn(status, (101, 400, 403, 417, 426))
        self.lose()
        self.clock.advance(100)
