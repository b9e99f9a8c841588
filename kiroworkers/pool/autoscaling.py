"""
How many workers there are to be.
"""

from __future__ import annotations

from attrs import frozen


@frozen
class AutoscalePolicy:
    """
    How many workers there are.

    Attributes:
        workers: at least.
        max_workers: at most.
        min_spare: so many should be idle, or soon will be.
        max_spare: more than that need not be.
    """

    workers: int
    max_workers: int
    min_spare: int
    max_spare: int

    def scale_up_by(self, count: int, free: int, waiting: int) -> int:
        """
        How many to start, when `free` of `count` are idle or soon will be and so
        many requests wait.
        """
        wanted = count + waiting + self.min_spare - free
        return max(self.workers - count, min(wanted, self.max_workers) - count, 0)

    def scale_down_by(self, count: int, spare: int) -> int:
        """
        How many to end, when never fewer than `spare` of `count` were idle for
        some time.
        """
        return max(0, min(spare - self.max_spare, count - self.workers))
