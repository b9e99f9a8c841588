"""
Tests for `kiroworkers.pool.backoff`.
"""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.pool.backoff import Backoff, BackoffPolicy
from tests.memory import RESTARTS


class BackoffTests(SynchronousTestCase):
    """
    Tests for `Backoff`.
    """

    def backoff(self, **changes: float) -> Backoff:
        values = {"delay": 5.0, "max_delay": 300.0, "burst": 100, "stable_after": 300.0, **changes}
        return Backoff(BackoffPolicy(**values), Random(3))  # type: ignore[arg-type]

    def test_first(self) -> None:
        """
        After one failure the delay is the configured one.
        """
        self.assertEqual(self.backoff().delay_after(1, answered=0), 5)

    def test_doubles(self) -> None:
        """
        The delay doubles with each failure, less some jitter, up to the longest.
        """
        backoff = self.backoff()
        backoff.delay_after(1, answered=0)
        for full in (10, 20, 40, 80, 160, 300, 300):
            delay = backoff.delay_after(1, answered=0)
            self.assertTrue(0.8 * full <= delay <= full, (full, delay))

    def test_jitter(self) -> None:
        """
        Workers that fail together do not restart together.
        """
        delays = set()
        for seed in range(10):
            backoff = Backoff(RESTARTS, Random(seed))
            backoff.delay_after(1, answered=0)
            delays.add(backoff.delay_after(1, answered=0))
        self.assertEqual(len(delays), 10)

    def test_stable_session(self) -> None:
        """
        A session that lived long or gave an answer resets the count.
        """
        for seconds, answered in ((300, 0), (1, 1)):
            backoff = self.backoff()
            for _ in range(4):
                backoff.delay_after(1, answered=0)
            self.assertEqual(backoff.delay_after(seconds, answered), 5)
            self.assertEqual(backoff.consecutive_failures, 0)

    def test_failed(self) -> None:
        """
        After a burst of failures the worker has failed, and every delay is the
        longest.
        """
        backoff = self.backoff(burst=2)
        backoff.delay_after(1, answered=0)
        self.assertFalse(backoff.failed)
        for _ in range(3):
            delay = backoff.delay_after(1, answered=0)
            self.assertTrue(backoff.failed)
            self.assertTrue(240 <= delay <= 300, delay)

    def test_max_delay_below_delay(self) -> None:
        """
        No delay exceeds the maximum, not even the first.
        """
        self.assertEqual(self.backoff(max_delay=2.0).delay_after(1, answered=0), 2)

    def test_no_overflow(self) -> None:
        """
        Ten thousand failures do not overflow the delay.
        """
        backoff = self.backoff(burst=10**6)
        for _ in range(10_000):
            delay = backoff.delay_after(1, answered=0)
        self.assertLessEqual(delay, 300)
