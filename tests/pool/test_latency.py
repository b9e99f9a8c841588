"""
Tests for `kiroworkers.pool.latency`.
"""

from __future__ import annotations

import math

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.pool.latency import LatencyTracker, estimate_wait


class LatencyTrackerTests(SynchronousTestCase):
    """
    Tests for `LatencyTracker`.
    """

    def test_no_turns(self) -> None:
        """
        Before any turn there is a default, and it is not reliable.
        """
        tracker = LatencyTracker()
        self.assertEqual(
            (tracker.is_reliable(0), tracker.median(0), tracker.minimum(0)), (False, 6, 0)
        )

    def test_median(self) -> None:
        """
        Five turns are reliable, and have a median and a minimum.
        """
        tracker = LatencyTracker()
        for seconds in (1, 2, 3, 4, 100):
            self.assertFalse(tracker.is_reliable(0))
            tracker.add(0, seconds)
        self.assertEqual(
            (tracker.is_reliable(0), tracker.median(0), tracker.minimum(0)), (True, 3, 1)
        )

    def test_forgets(self) -> None:
        """
        Turns of more than ten minutes ago are forgotten, and so are those before the
        last hundred.
        """
        tracker = LatencyTracker()
        for _ in range(10):
            tracker.add(0, 50)
        self.assertTrue(tracker.is_reliable(600))
        self.assertFalse(tracker.is_reliable(601))
        tracker.add(700, 9)
        for _ in range(100):
            tracker.add(700, 10)
        self.assertEqual(tracker.minimum(700), 10)


class EstimateWaitTests(SynchronousTestCase):
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
        A request behind others also waits for their turns.
        """
        self.assertEqual([estimate_wait(ahead, [2, 5], 6) for ahead in range(4)], [1, 4, 7, 10])

    def test_late_turn(self) -> None:
        """
        A turn that takes longer than is typical may end any moment, and an idle worker
        does not delay anything.
        """
        self.assertEqual(estimate_wait(0, [60], 6), 0)
        self.assertEqual(estimate_wait(1, [math.inf], 6), 6)

    def test_no_workers(self) -> None:
        """
        Without workers the estimate is that of one whose turn has just begun.
        """
        self.assertEqual(estimate_wait(1, [], 6), 12)
