"""
When a session that ended by itself has its successor.
"""

from __future__ import annotations

from random import Random

from attrs import define, frozen

#: A delay that was doubled is shortened by up to this part of it, so that
#: workers that failed together do not come back together.
_JITTER = 0.2


@frozen
class BackoffPolicy:
    """
    Attributes:
        delay: seconds to the first restart; it doubles while lives are short.
        max_delay: the longest, and the pace of a failed worker's probes.
        burst: so many short lives in a row, and the worker has failed.
        long_life: seconds that a session must live, or else give an answer, for
            its life not to be short.
    """

    delay: float
    max_delay: float
    burst: int
    long_life: float


@define
class Backoff:
    """
    The short lives of one worker's sessions.

    Attributes:
        consecutive_failures: how many, since the last long one.
    """

    _policy: BackoffPolicy
    _chance: Random
    consecutive_failures: int = 0

    @property
    def failed(self) -> bool:
        """
        Is there only a probe from time to time?
        """
        return self.consecutive_failures >= self._policy.burst

    def was_stable(self, seconds: float, answered: int) -> bool:
        """
        Is a life of so many seconds and answers a long one?
        """
        return answered > 0 or seconds >= self._policy.long_life

    def delay_after(self, seconds: float, answered: int) -> float:
        """
        A session ended after so many seconds and answers: the seconds until the
        next may start.
        """
        policy = self._policy
        if self.was_stable(seconds, answered):
            self.consecutive_failures = 0
            return policy.delay
        self.consecutive_failures += 1
        if self.failed:
            return self._jittered(policy.max_delay)
        if self.consecutive_failures == 1:
            return min(policy.delay, policy.max_delay)
        # An exponent without a bound would overflow in a long night.
        doubled = policy.delay * 2.0 ** min(self.consecutive_failures - 1, 64)
        return self._jittered(min(doubled, policy.max_delay))

    def _jittered(self, delay: float) -> float:
        return delay * self._chance.uniform(1 - _JITTER, 1)
