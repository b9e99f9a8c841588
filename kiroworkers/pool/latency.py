"""
Track how long recent turns and starts took, and estimate how long a request will wait.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from heapq import heapreplace

from attrs import define, field

#: The number of turns that are remembered, and for how many seconds.  Older turns
#: say little about the agent's present speed, and must not reject requests forever.
_MAX_TURNS = 100
_MAX_AGE = 600.0

#: The number of recent turns that are needed before a request is rejected because of
#: their durations.
_MIN_TURNS = 5

#: The assumed duration of a turn or of a start, in seconds, before any has been seen.
_DEFAULT_DURATION = 6.0


@define
class LatencyTracker:
    """
    Keep the durations, in seconds, of recent turns that ended with an answer.

    It does the same for starts of sessions.

    Args:
        max_age: Seconds after which a turn is forgotten.
    """

    _max_age: float = _MAX_AGE
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
        return _median(recent, 0) if recent else _DEFAULT_DURATION

    def minimum(self, now: float) -> float:
        """
        Return the shortest duration of a recent turn, or 0 if there are none.
        """
        return next(iter(self._recent(now)), 0.0)

    def remaining(self, now: float, elapsed: float) -> float:
        """
        Return the seconds that a turn which began `elapsed` seconds ago will most likely take.

        It is compared with the recent turns that took longer.  If it has taken longer than all
        of them, it is assumed to take as long again as the longest.
        """
        recent = self._recent(now) or [_DEFAULT_DURATION]
        first = bisect_right(recent, elapsed)
        return _median(recent, first) - elapsed if first < len(recent) else recent[-1]

    def _recent(self, now: float) -> list[float]:
        while self._turns and now - self._turns[0][0] > self._max_age:
            self._turns.popleft()
            self._sorted = None
        if self._sorted is None:
            self._sorted = sorted(seconds for _, seconds in self._turns)
        return self._sorted


def estimate_wait(ahead: int, free_in: Sequence[float], typical: float) -> float:
    """
    Return the estimated seconds until a request's turn can begin.

    Args:
        ahead: The number of turns that begin before it.
        free_in: For each worker that takes requests, the seconds until it can begin a turn.
        typical: The typical duration of a turn, in seconds.
    """
    if not free_in:
        return typical * (ahead + 1)
    last_use = min(free_in) + ahead * typical
    times = sorted(seconds for seconds in free_in if seconds <= last_use)
    latest = times[-1]
    # Turn by turn, until the workers that are free earlier have caught up with the last one.
    while ahead and times[0] < latest - typical:
        heapreplace(times, times[0] + typical)
        ahead -= 1
    # From then on, each begins one turn in each round.
    rounds, place = divmod(ahead, len(times))
    return rounds * typical + sorted(times)[place]


def _median(ascending: Sequence[float], first: int) -> float:
    """
    Return the median of a sequence in ascending order, from the index `first` on.
    """
    low, high = (first + len(ascending) - 1) // 2, (first + len(ascending)) // 2
    return (ascending[low] + ascending[high]) / 2
