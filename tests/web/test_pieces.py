"""
Tests for `kiroworkers.web.pieces`.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.web.pieces import send_file_in_pieces, send_in_pieces
from tests.web.streams import streamed_request

_CONTENT = bytes(range(256)) * 1000


class SendTests(SynchronousTestCase):
    """
    Tests for `send_in_pieces`.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.request = streamed_request()

    def send(self, content: bytes = _CONTENT) -> Deferred[None]:
        return Deferred.fromCoroutine(send_in_pieces(self.clock, self.request, content))

    def test_read(self) -> None:
        """
        A client that reads gets everything, and no timer or producer is left.
        """
        for content in (_CONTENT, b""):
            self.request = streamed_request()
            self.successResultOf(self.send(content))
            self.assertEqual(self.request.sent(), content)
            self.assertIsNone(self.request.producer)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_slow(self) -> None:
        """
        One piece is written each time that the client has read, and all arrive in order.
        """
        self.request.slow = True
        sending = self.send()
        self.assertEqual(len(self.request.sent()), 64 * 1024)
        while self.request.producer is not None:
            before = len(self.request.written)
            self.request.producer.resumeProducing()
            self.assertEqual(len(self.request.written), before + 1)
        self.successResultOf(sending)
        self.assertEqual(self.request.sent(), _CONTENT)

    def test_not_read(self) -> None:
        """
        The connection of a client that does not read in two minutes is aborted.
        """
        self.request.slow = True
        sending = self.send()
        self.clock.advance(119)
        self.assertFalse(self.request.transport.disconnected)
        self.clock.advance(1)
        self.assertTrue(self.request.transport.disconnected)
        sending.cancel()
        self.failureResultOf(sending, CancelledError)

    def test_hung_up(self) -> None:
        """
        Nothing more is written to a client that hangs up, and no timer is left.
        """
        self.request.slow = True
        sending = self.send()
        producer, self.request.channel = self.request.producer, None
        producer.stopProducing()
        sending.cancel()
        self.failureResultOf(sending, CancelledError)
        self.assertEqual(len(self.request.written), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class FileTests(SynchronousTestCase):
    """
    Tests for `send_file_in_pieces`.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.request = streamed_request()
        self.reads: list[Deferred[bytes]] = []

    def send(self, size: int) -> Deferred[None]:
        """
        Send a file of `size` bytes, whose reads are done one by one.
        """

        def read(count: int, position: int) -> Deferred[bytes]:
            reading: Deferred[bytes] = Deferred()
            self.reads.append(reading)
            self.wanted = _CONTENT[position : position + count]
            return reading

        return Deferred.fromCoroutine(send_file_in_pieces(self.clock, self.request, read, size))

    def test_read(self) -> None:
        """
        Each piece is read when the one before has been written, and nothing is left behind.
        """
        sending = self.send(len(_CONTENT))
        while self.request.producer is not None:
            self.reads.pop().callback(self.wanted)
        self.successResultOf(sending)
        self.assertEqual(self.request.sent(), _CONTENT)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_slow(self) -> None:
        """
        Nothing is read before the client takes more; one that never does is cut off.
        """
        self.request.slow = True
        sending = self.send(len(_CONTENT))
        self.reads.pop().callback(self.wanted)
        self.assertEqual(self.reads, [])
        self.request.producer.resumeProducing()
        self.reads.pop().callback(self.wanted)
        self.clock.advance(119)
        self.assertFalse(self.request.transport.disconnected)
        self.clock.advance(1)
        self.assertTrue(self.request.transport.disconnected)
        sending.cancel()
        self.failureResultOf(sending, CancelledError)
        self.assertEqual(len(self.request.sent()), 2 * 64 * 1024)

    def test_short(self) -> None:
        """
        If the file is shorter than the response says, the connection is aborted.
        """
        sending = self.send(100)
        self.reads.pop().callback(b"")
        self.successResultOf(sending)
        self.assertTrue(self.request.transport.disconnected)
