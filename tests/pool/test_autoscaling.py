"""
Tests for `kiroworkers.pool.autoscaling`.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.pool.autoscaling import AutoscalePolicy


class AutoscalePolicyTests(SynchronousTestCase):
    """
    Tests for `AutoscalePolicy`.
    """

    policy = AutoscalePolicy(workers=2, max_workers=8, min_spare=1, max_spare=2)

    def test_scale_up(self) -> None:
        """
        Workers are started for waiting requests and for spare capacity, up to the
        limit.
        """
        for count, free, waiting, expected in [
            (2, 2, 0, 0),
            (2, 1, 0, 0),
            (2, 0, 0, 1),
            (2, 0, 3, 4),
            (2, 0, 30, 6),
            (8, 0, 30, 0),
            (1, 1, 0, 1),
        ]:
            started = self.policy.scale_up_by(count, free, waiting)
            self.assertEqual(started, expected, (count, free, waiting))

    def test_scale_down(self) -> None:
        """
        Workers beyond the spare ones are retired, down to the smallest number.
        """
        for count, spare, expected in [(8, 8, 6), (8, 3, 1), (8, 2, 0), (2, 2, 0), (3, 3, 1)]:
            self.assertEqual(self.policy.scale_down_by(count, spare), expected, (count, spare))

    def test_fixed(self) -> None:
        """
        With equal limits, no worker is started or retired.
        """
        fixed = AutoscalePolicy(workers=2, max_workers=2, min_spare=1, max_spare=2)
        self.assertEqual((fixed.scale_up_by(2, 0, 99), fixed.scale_down_by(2, 2)), (0, 0))
