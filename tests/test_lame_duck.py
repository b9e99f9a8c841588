"""
Tests for `kiroworkers.lame_duck`.
"""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.lame_duck import LameDuck


class LameDuckTests(SynchronousTestCase):
    """
    Tests for `LameDuck`.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.delay = LameDuck(self.clock, 3)

    def test_waits(self) -> None:
        """
        A stop is delayed for the whole time, and not longer.
        """
        over = self.delay.wait()
        self.clock.advance(2.9)
        self.assertNoResult(over)
        self.clock.advance(0.1)
        self.assertIsNone(self.successResultOf(over))

    def test_skipped(self) -> None:
        """
        The delay ends when it is cut short, and leaves no timer behind.
        """
        over = self.delay.wait()
        self.delay.skip()
        self.delay.skip()
        self.assertIsNone(self.successResultOf(over))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_skipped_before(self) -> None:
        """
        If it was cut short before it began, there is no delay.
        """
        self.delay.skip()
        self.assertEqual(self.delay.seconds, 0)
        over = self.delay.wait()
        self.clock.advance(0)
        self.assertIsNone(self.successResultOf(over))

    def test_skipped_after(self) -> None:
        """
        After its end, cutting it short changes nothing.
        """
        over = self.delay.wait()
        self.clock.advance(3)
        self.delay.skip()
        self.assertIsNone(self.successResultOf(over))
