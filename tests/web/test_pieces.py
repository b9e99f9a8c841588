"""
Tests for `kiroworkers.web.pieces`.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.web.pieces import send_in_pieces
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
