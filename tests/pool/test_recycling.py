"""
Tests for `kiroworkers.pool.recycling`.
"""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.pool.recycling import RecyclePolicy


class RecyclePolicyTests(SynchronousTestCase):
    """
    Tests for `RecyclePolicy`.
    """

    def setUp(self) -> None:
        self.policy = RecyclePolicy(max_requests=50, jitter=10, max_age=3600, memory_max=1024**3)

    def test_jitter(self) -> None:
        """
        Sessions that start together are not recycled together.
        """
        rng = Random(1)
        limits = {self.policy.draw_max_answers(rng) for _ in range(200)}
        self.assertEqual((min(limits), max(limits)), (50, 60))

    def test_reason(self) -> None:
        """
        Age and memory use are reasons, and the text tells their value.
        """
        reasons = [self.policy.reason(age, memory) for age, memory in [
            (3600, 1024**3), (3601, None), (1, 1024**3 + 1), (1, None),
        ]]  # fmt: skip
        self.assertEqual(reasons, [None, "3601 s old", "uses 1024 MiB", None])
