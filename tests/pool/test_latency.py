"""
Tests for `kiroworkers.pool.latency`.
"""

from __future__ import annotations

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

    def test_remaining(self) -> None:
        """
        What remains of a turn is judged by the recent ones that took longer.
        """
        tracker = LatencyTracker()
        self.assertEqual([tracker.remaining(0, elapsed) for elapsed in (0, 2, 60)], [6, 4, 6])
        for seconds in (1, 2, 3, 4, 100):
            tracker.add(0, seconds)
        remaining = [tracker.remaining(0, elapsed) for elapsed in (0, 2, 4, 99, 100, 500)]
        self.assertEqual(remaining, [3, 2, 96, 1, 100, 100])


class EstimateWaitTests(SynchronousTestCase):
    """
    Tests for `estimate_wait`.
    """

    def test_next_to_be_free(self) -> None:
        """
        The first in the queue waits for the worker that is free first.
        """
        self.assertEqual(estimate_wait(0, [4, 1], typical=6), 1)

    def test_rounds(self) -> None:
        """
        A request behind others also waits for their turns.
        """
        self.assertEqual([estimate_wait(ahead, [4, 1], 6) for ahead in range(4)], [1, 4, 7, 10])

    def test_unequal_workers(self) -> None:
        """
        A worker that will not be free for long takes no part in the turns until then.
        """
        waits = [estimate_wait(ahead, [300, 0], 6) for ahead in (0, 1, 3, 50, 52)]
        self.assertEqual(waits, [0, 6, 18, 300, 306])

    def test_long_queue(self) -> None:
        """
        The number of requests ahead may be large.
        """
        self.assertEqual(estimate_wait(3 * 10**6, [0, 0, 3], 6), 6 * 10**6)

    def test_instant_turns(self) -> None:
        """
        Turns that take no time delay nothing.
        """
        self.assertEqual(estimate_wait(5, [0, 0], 0), 0)

    def test_no_workers(self) -> None:
        """
        Without workers the estimate is that of one whose turn has just begun.
        """
        self.assertEqual(estimate_wait(1, [], 6), 12)
