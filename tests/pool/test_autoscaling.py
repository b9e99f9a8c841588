"""
Tests for `kiroworkers.pool.autoscaling`.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.pool.autoscaling import AutoscalePolicy


class ScaleTests(SynchronousTestCase):
    """
    Tests for `AutoscalePolicy`.
    """

    scale = AutoscalePolicy(workers=2, max_workers=8, min_spare=1, max_spare=2)

    def test_missing(self) -> None:
        """
        As many are missing as wait or should be spare and are not free, up to the
        limit.
        """
        for count, free, waiting, scale_up_by in [
            (2, 2, 0, 0),
            (2, 1, 0, 0),
            (2, 0, 0, 1),
            (2, 0, 3, 4),
            (2, 0, 30, 6),
            (8, 0, 30, 0),
            (1, 1, 0, 1),
        ]:
            found = self.scale.scale_up_by(count, free, waiting)
            self.assertEqual(found, scale_up_by, (count, free, waiting))

    def test_surplus(self) -> None:
        """
        Those are surplus that are more than spare, down to the least.
        """
        for count, spare, scale_down_by in [(8, 8, 6), (8, 3, 1), (8, 2, 0), (2, 2, 0), (3, 3, 1)]:
            self.assertEqual(self.scale.scale_down_by(count, spare), scale_down_by, (count, spare))

    def test_fixed(self) -> None:
        """
        Where there are never more than always, none is missing or surplus.
        """
        fixed = AutoscalePolicy(workers=2, max_workers=2, min_spare=1, max_spare=2)
        self.assertEqual((fixed.scale_up_by(2, 0, 99), fixed.scale_down_by(2, 2)), (0, 0))
