"""
Tests for `kiroworkers.web.frames`.
"""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http_headers import Headers
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage

from kiroworkers.web.errors import HttpError
from kiroworkers.web.frames import (
    MAX_MESSAGE,
    Frames,
    accept_handshake,
    ping_frame,
    text_frame,
    wants_websocket,
)

#: The handshake of RFC 6455, section 1.3.
KEY, ACCEPT = b"dGhlIHNhbXBsZSBub25jZQ==", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
HANDSHAKE = {
    b"upgrade": [b"WebSocket"],
    b"connection": [b"keep-alive, Upgrade"],
    b"sec-websocket-key": [KEY],
    b"sec-websocket-version": [b"13"],
}


def text_message(event: Event) -> TextMessage:
    """
    Return `event`, which is a message.
    """
    assert isinstance(event, TextMessage), event
    return event


class HandshakeTests(SynchronousTestCase):
    """
    Tests for the request that asks for a WebSocket.
    """

    def refused(self, changes: dict[bytes, list[bytes]], line: str = "GET HTTP/1.1") -> HttpError:
        """
        Return the error of a handshake that has `changes`.
        """
        method, version = line.encode().split()
        headers = {**HANDSHAKE, **changes}
        error: HttpError = self.assertRaises(
            HttpError, accept_handshake, method, version, Headers(headers)
        )
        return error

    def test_accepted(self) -> None:
        """
        The example of RFC 6455 gets the answer that is given there.
        """
        self.assertEqual(accept_handshake(b"GET", b"HTTP/1.1", Headers(HANDSHAKE)), ACCEPT)

    def test_no_websocket(self) -> None:
        """
        A request that does not ask for a WebSocket of version 13 gets 426 and is told what to
        ask for.
        """
        cases: list[tuple[dict[bytes, list[bytes]], str, str]] = [
            ({b"upgrade": []}, "GET HTTP/1.1", "Upgrade: websocket"),
            ({b"upgrade": [b"h2c"]}, "GET HTTP/1.1", "Upgrade: websocket"),
            ({}, "POST HTTP/1.1", "Upgrade: websocket"),
            ({}, "HEAD HTTP/1.1", "Upgrade: websocket"),
            ({}, "GET HTTP/1.0", "Upgrade: websocket"),
            ({b"connection": [b"keep-alive"]}, "GET HTTP/1.1", "proxy"),
            ({b"sec-websocket-version": [b"8"]}, "GET HTTP/1.1", "13"),
            ({b"sec-websocket-version": [b"13", b"13"]}, "GET HTTP/1.1", "13"),
            ({b"sec-websocket-version": []}, "GET HTTP/1.1", "13"),
        ]
        for changes, line, word in cases:
            error = self.refused(changes, line)
            self.assertEqual(error.code.status, 426, changes)
            self.assertIn(word, error.message)
            self.assertEqual(error.headers["Upgrade"], "websocket")

    def test_bad_key(self) -> None:
        """
        A handshake whose key is not 16 bytes in Base64 gets 400.
        """
        for keys in ([], [KEY, KEY], [b""], [b"x"], [KEY[:-4]], [b"\xff" * 24], [KEY + b"AAAA"]):
            error = self.refused({b"sec-websocket-key": keys})
            self.assertEqual(error.code.status, 400, keys)

    def test_wants_websocket(self) -> None:
        """
        A broken handshake still counts as one, so that its origin is checked.
        """
        for values, wanted in (([b"h2c, websocket/13"], False), ([b"h2c", b"WEBSOCKET"], True)):
            self.assertEqual(wants_websocket(Headers({b"upgrade": values})), wanted)


class FramesTests(SynchronousTestCase):
    """
    Tests for frames, with wsproto's client as the other side.
    """

    def setUp(self) -> None:
        self.frames = Frames()
        self.client = Connection(ConnectionType.CLIENT)

    def test_text(self) -> None:
        """
        A client reads the messages as they were written, whatever their length.
        """
        for length in (0, 1, 125, 126, 65535, 65536, 200_000):
            text = json.dumps({"data": "\x1b[1m大" + "x" * length})
            self.client.receive_data(text_frame(text))
            events = [*map(text_message, self.client.events())]
            self.assertEqual("".join(event.data for event in events), text)
            self.assertTrue(events[-1].message_finished)

    def test_known_bytes(self) -> None:
        """
        The frames are those of RFC 6455, section 5.7.
        """
        self.assertEqual(text_frame("Hello"), b"\x81\x05Hello")
        self.assertEqual(ping_frame(), b"\x89\x00")

    def test_pings(self) -> None:
        """
        A ping is answered with its payload, cut at each byte.
        """
        data = self.client.send(Ping(b"payload"))
        answer = b"".join(self.frames.receive(data[at : at + 1]) for at in range(len(data)))
        self.client.receive_data(answer)
        self.assertEqual([*self.client.events()], [Pong(b"payload")])

    def test_ignored(self) -> None:
        """
        Messages and answers to pings have no answer, and no effect.
        """
        long = TextMessage("x" * MAX_MESSAGE)
        for event in (TextMessage("rm -rf"), BytesMessage(b"\x03"), Pong(), long):
            self.assertEqual(self.frames.receive(self.client.send(event)), b"")
        self.assertFalse(self.frames.closed)

    def test_close(self) -> None:
        """
        The end by a client is answered with its code, and ends the connection.
        """
        close = CloseConnection(1000, "bye")
        self.client.receive_data(self.frames.receive(self.client.send(close)))
        self.assertEqual([*self.client.events()], [close])
        self.assertTrue(self.frames.closed)
        self.assertEqual(self.frames.receive(b"anything"), b"")

    def test_close_by_server(self) -> None:
        """
        The server's close is sent once, and the client's answer ends the connection.
        """
        self.client.receive_data(self.frames.close(1001, "stopping"))
        event = CloseConnection(1001, "stopping")
        self.assertEqual([*self.client.events()], [event])
        self.assertEqual(self.frames.close(1001, "stopping"), b"")
        self.assertFalse(self.frames.closed)
        self.assertEqual(self.frames.receive(self.client.send(event.response())), b"")
        self.assertTrue(self.frames.closed)

    def test_too_big(self) -> None:
        """
        A message that is too long, as one frame or in many, closes the connection with 1009.
        """
        whole = self.client.send(TextMessage("x" * (MAX_MESSAGE + 1)))
        pieces = b"".join(
            self.client.send(TextMessage("x" * 100, message_finished=False)) for _ in range(50)
        )
        for data in (whole, pieces):
            frames = Frames()
            self.assertEqual(frames.receive(data)[2:4], (1009).to_bytes(2))
            self.assertTrue(frames.closed)

    def test_broken(self) -> None:
        """
        What is not a frame of a client closes the connection with the code for its kind.
        """
        for data, code in (
            (b"\x81\x05Hello", 1002),  # Not masked.
            (b"\x83\x80\0\0\0\0", 1002),  # An opcode that does not exist.
            (b"\xc1\x80\0\0\0\0", 1002),  # A bit of an extension.
            (b"\x09\x80\0\0\0\0", 1002),  # A ping in several frames.
            (b"\x89\xfe\x00\x80\0\0\0\0", 1002),  # A ping that is too long.
            (b"\x80\x80\0\0\0\0", 1002),  # It continues nothing.
            (b"\x88\x81\0\0\0\0\x03", 1002),  # Half a code.
            (b"\x88\x82\0\0\0\0\x03\xed", 1002),  # A code that is never sent: 1005.
            (b"\x81\x81\0\0\0\0\xff", 1007),  # Not UTF-8.
        ):
            frames = Frames()
            self.assertEqual(frames.receive(data)[2:4], code.to_bytes(2), data)
            self.assertTrue(frames.closed, data)

    @given(
        st.lists(st.binary(max_size=20) | st.sampled_from([b"\x81\x80", b"\x89\x80", b"\0\0\0\0"]))
    )
    def test_anything(self, pieces: list[bytes]) -> None:
        """
        Whatever a client sends, reading it does not fail, and the answer is not longer than that
        and a close.
        """
        frames = Frames()
        answers = sum(len(frames.receive(piece)) for piece in pieces)
        self.assertLessEqual(answers, sum(map(len, pieces)) + 127)
