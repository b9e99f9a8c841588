"""
How long turns take, by those that were seen, and what a wait will be.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from statistics import median

from attrs import define, field

#: Turns that are remembered, and for how many seconds: what an agent took an
#: hour ago says little, and must not refuse anybody for ever.
_TURNS = 100
_MEMORY = 600.0

#: Turns that must have been seen before a request is refused for what it would take.
_ENOUGH = 5

#: Seconds a turn is thought to take before any was seen.
_FIRST_GUESS = 6.0


@define
class LatencyTracker:
    """
    The durations of the last turns that gave an answer, in seconds.
    """

    _seen: deque[tuple[float, float]] = field(factory=lambda: deque(maxlen=_TURNS))
    # From the shortest to the longest; None when one came or went.
    _sorted: list[float] | None = None

    def add(self, now: float, seconds: float) -> None:
        """
        A turn took so long.
        """
        self._seen.append((now, seconds))
        self._sorted = None

    def known(self, now: float) -> bool:
        """
        Were enough seen to count on?
        """
        return len(self._recent(now)) >= _ENOUGH

    def typical(self, now: float) -> float:
        """
        What a turn takes, as far as is known.
        """
        recent = self._recent(now)
        return median(recent) if recent else _FIRST_GUESS

    def fastest(self, now: float) -> float:
        """
        What no turn took less than; 0 when none was seen.
        """
        return next(iter(self._recent(now)), 0.0)

    def _recent(self, now: float) -> list[float]:
        while self._seen and now - self._seen[0][0] > _MEMORY:
            self._seen.popleft()
            self._sorted = None
        if self._sorted is None:
            self._sorted = sorted(seconds for _, seconds in self._seen)
        return self._sorted


def estimate_wait(ahead: int, running: Sequence[float], typical: float) -> float:
    """
    The seconds until a turn can begin for which `ahead` others come first.

    Args:
        running: for each worker that serves, the seconds since its turn began.
    """
    if not running:
        return typical * (ahead + 1)
    rounds, place = divmod(ahead, len(running))
    left = sorted(max(0.0, typical - each) for each in running)
    return rounds * typical + left[place]
