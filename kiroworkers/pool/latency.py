"""
Track how long recent turns took, and estimate how long a request will wait.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from statistics import median

from attrs import define, field

#: The number of turns that are remembered, and for how many seconds.  Older turns
#: say little about the agent's present speed, and must not reject requests forever.
_MAX_TURNS = 100
_MAX_AGE = 600.0

#: The number of recent turns that are needed before a request is rejected because of
#: their durations.
_MIN_TURNS = 5

#: The assumed duration of a turn, in seconds, before any has been seen.
_DEFAULT_DURATION = 6.0


@define
class LatencyTracker:
    """
    Keep the durations, in seconds, of recent turns that ended with an answer.
    """

    _turns: deque[tuple[float, float]] = field(factory=lambda: deque(maxlen=_MAX_TURNS))
    # The durations in ascending order; None when a turn was added or has expired.
    _sorted: list[float] | None = None

    def add(self, now: float, seconds: float) -> None:
        """
        Record that a turn ended at `now`, after `seconds` seconds.
        """
        self._turns.append((now, seconds))
        self._sorted = None

    def is_reliable(self, now: float) -> bool:
        """
        Return whether there are enough recent turns to base a rejection on.
        """
        return len(self._recent(now)) >= _MIN_TURNS

    def median(self, now: float) -> float:
        """
        Return the median duration of recent turns, or a default if there are none.
        """
        recent = self._recent(now)
        return median(recent) if recent else _DEFAULT_DURATION

    def minimum(self, now: float) -> float:
        """
        Return the shortest duration of a recent turn, or 0 if there are none.
        """
        return next(iter(self._recent(now)), 0.0)

    def _recent(self, now: float) -> list[float]:
        while self._turns and now - self._turns[0][0] > _MAX_AGE:
            self._turns.popleft()
            self._sorted = None
        if self._sorted is None:
            self._sorted = sorted(seconds for _, seconds in self._turns)
        return self._sorted


def estimate_wait(ahead: int, running: Sequence[float], typical: float) -> float:
    """
    Return the estimated seconds until a request's turn can begin.

    Args:
        ahead: The number of turns that begin before it.
        running: For each worker that can take requests, the seconds since its
            current turn began; infinity for a worker that is idle, or about to become idle.
        typical: The typical duration of a turn, in seconds.
    """
    if not running:
        return typical * (ahead + 1)
    rounds, place = divmod(ahead, len(running))
    left = sorted(max(0.0, typical - elapsed) for elapsed in running)
    return rounds * typical + left[place]
