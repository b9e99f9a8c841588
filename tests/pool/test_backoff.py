"""
Tests for `kiroworkers.pool.backoff`.
"""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.pool.backoff import Backoff, BackoffPolicy
from tests.memory import RESTARTS


class RestartTests(SynchronousTestCase):
    """
    Tests for `Backoff`.
    """

    def restarts(self, **changes: float) -> Backoff:
        values = {"delay": 5.0, "max_delay": 300.0, "burst": 100, "long_life": 300.0, **changes}
        return Backoff(BackoffPolicy(**values), Random(3))  # type: ignore[arg-type]

    def test_first(self) -> None:
        """
        After one short life the delay is the one that was asked for.
        """
        self.assertEqual(self.restarts().delay_after(1, answered=0), 5)

    def test_doubles(self) -> None:
        """
        It doubles while lives are short, less some jitter, up to the longest.
        """
        restarts = self.restarts()
        restarts.delay_after(1, answered=0)
        for full in (10, 20, 40, 80, 160, 300, 300):
            delay = restarts.delay_after(1, answered=0)
            self.assertTrue(0.8 * full <= delay <= full, (full, delay))

    def test_jitter(self) -> None:
        """
        Workers that fail together do not come back together.
        """
        delays = set()
        for seed in range(10):
            restarts = Backoff(RESTARTS, Random(seed))
            restarts.delay_after(1, answered=0)
            delays.add(restarts.delay_after(1, answered=0))
        self.assertEqual(len(delays), 10)

    def test_long_life(self) -> None:
        """
        A life that was long, or gave an answer, ends the row.
        """
        for was_stable, answered in ((300, 0), (1, 1)):
            restarts = self.restarts()
            for _ in range(4):
                restarts.delay_after(1, answered=0)
            self.assertEqual(restarts.delay_after(was_stable, answered), 5)
            self.assertEqual(restarts.consecutive_failures, 0)

    def test_failed(self) -> None:
        """
        After a burst there are probes only, and a short life of one of them
        changes nothing.
        """
        restarts = self.restarts(burst=2)
        restarts.delay_after(1, answered=0)
        self.assertFalse(restarts.failed)
        for _ in range(3):
            delay = restarts.delay_after(1, answered=0)
            self.assertTrue(restarts.failed)
            self.assertTrue(240 <= delay <= 300, delay)

    def test_longest_is_shorter(self) -> None:
        """
        No delay is longer than the longest.
        """
        self.assertEqual(self.restarts(max_delay=2.0).delay_after(1, answered=0), 2)

    def test_a_long_night(self) -> None:
        """
        Ten thousand failures are no overflow.
        """
        restarts = self.restarts(burst=10**6)
        for _ in range(10_000):
            delay = restarts.delay_after(1, answered=0)
        self.assertLessEqual(delay, 300)
