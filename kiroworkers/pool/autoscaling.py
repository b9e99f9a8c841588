"""
Decide how many workers a pool should have.
"""

from __future__ import annotations

from attrs import frozen


@frozen
class AutoscalePolicy:
    """
    Hold the limits within which the number of workers varies.

    Attributes:
        workers: The smallest number of workers.
        max_workers: The largest number of workers.
        min_spare: The number of workers that should be idle, or about to become idle.
        max_spare: The number of idle workers above which workers are retired.
    """

    workers: int
    max_workers: int
    min_spare: int
    max_spare: int

    def scale_up_by(self, count: int, free: int, waiting: int) -> int:
        """
        Return the number of workers to start.

        Args:
            count: The current number of workers.
            free: How many of them are idle, or about to become idle.
            waiting: The number of requests in the queue.
        """
        wanted = count + waiting + self.min_spare - free
        return max(self.workers - count, min(wanted, self.max_workers) - count, 0)

    def scale_down_by(self, count: int, spare: int) -> int:
        """
        Return the number of workers to retire.

        Args:
            count: The current number of workers.
            spare: The smallest number of workers that were idle at the same time
                since the last decision.
        """
        return max(0, min(spare - self.max_spare, count - self.workers))
