"""
Tests for `kiroworkers.pool.latency`.
"""

from __future__ import annotations

import math

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.pool.latency import LatencyTracker, estimate_wait


class TurnTimesTests(SynchronousTestCase):
    """
    Tests for `LatencyTracker`.
    """

    def test_nothing_seen(self) -> None:
        """
        Before any turn there is a guess, and nothing to count on.
        """
        times = LatencyTracker()
        self.assertEqual((times.known(0), times.typical(0), times.fastest(0)), (False, 6, 0))

    def test_seen(self) -> None:
        """
        The median is typical; five turns are enough to count on.
        """
        times = LatencyTracker()
        for seconds in (1, 2, 3, 4, 100):
            self.assertFalse(times.known(0))
            times.add(0, seconds)
        self.assertEqual((times.known(0), times.typical(0), times.fastest(0)), (True, 3, 1))

    def test_forgets(self) -> None:
        """
        Turns of more than ten minutes ago say nothing, nor do those before the
        last hundred.
        """
        times = LatencyTracker()
        for _ in range(10):
            times.add(0, 50)
        self.assertTrue(times.known(600))
        self.assertFalse(times.known(601))
        times.add(700, 9)
        for _ in range(100):
            times.add(700, 10)
        self.assertEqual(times.fastest(700), 10)


class WaitTests(SynchronousTestCase):
    """
    Tests for `estimate_wait`.
    """

    def test_next_to_be_free(self) -> None:
        """
        The first in the queue waits for the turn that ends first.
        """
        self.assertEqual(estimate_wait(0, [2, 5], typical=6), 1)

    def test_rounds(self) -> None:
        """
        Who is behind others waits for their turns, too.
        """
        self.assertEqual([estimate_wait(ahead, [2, 5], 6) for ahead in range(4)], [1, 4, 7, 10])

    def test_late_turn(self) -> None:
        """
        A turn that takes longer than is typical may be over any moment, as may a
        worker be ready that has none.
        """
        self.assertEqual(estimate_wait(0, [60], 6), 0)
        self.assertEqual(estimate_wait(1, [math.inf], 6), 6)

    def test_nobody_serves(self) -> None:
        """
        With nobody there, a turn is waited for as if one had just begun.
        """
        self.assertEqual(estimate_wait(1, [], 6), 12)
