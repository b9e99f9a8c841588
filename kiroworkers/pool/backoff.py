"""
Delay the restart of sessions that end by themselves, with exponential backoff and jitter.
"""

from __future__ import annotations

from random import Random

from attrs import define, frozen

#: The part of a doubled delay by which it may be shortened at random, so that
#: workers that failed together do not restart together.
_JITTER = 0.2

#: The largest exponent of a delay: without a bound, it would overflow after many
#: failures.
_MAX_DOUBLINGS = 64


@frozen
class BackoffPolicy:
    """
    Hold the limits of the delays between restarts.

    Attributes:
        delay: Seconds until the first restart; the delay doubles with each
            consecutive failure.
        max_delay: The longest delay, in seconds; also the interval at which a worker
            that has failed is tried again.
        burst: The number of consecutive failures after which a worker counts as failed.
        stable_after: Seconds after which a session that gave no answer counts as
            stable, so that its end is not a failure.
    """

    delay: float
    max_delay: float
    burst: int
    stable_after: float


@define
class Backoff:
    """
    Count one worker's consecutive failures, and compute its next delay from them.

    Attributes:
        consecutive_failures: The number of sessions that ended too early since the
            last stable one.
    """

    _policy: BackoffPolicy
    _rng: Random
    consecutive_failures: int = 0

    @property
    def failed(self) -> bool:
        """
        Return whether the worker has failed so often that it is retried only rarely.
        """
        return self.consecutive_failures >= self._policy.burst

    def was_stable(self, seconds: float, answered: int) -> bool:
        """
        Return whether a session was stable, so that its end does not count as a failure.

        Args:
            seconds: How long the session lived.
            answered: The number of answers that it gave.
        """
        return answered > 0 or seconds >= self._policy.stable_after

    def delay_after(self, seconds: float, answered: int) -> float:
        """
        Record the end of a session, and return the seconds until the next may start.

        Args:
            seconds: How long the session lived.
            answered: The number of answers that it gave.
        """
        policy = self._policy
        if self.was_stable(seconds, answered):
            self.reset()
            return policy.delay
        self.consecutive_failures += 1
        if self.failed:
            return self._jittered(policy.max_delay)
        if self.consecutive_failures == 1:
            return min(policy.delay, policy.max_delay)
        doubled = policy.delay * 2.0 ** min(self.consecutive_failures - 1, _MAX_DOUBLINGS)
        return self._jittered(min(doubled, policy.max_delay))

    def reset(self) -> None:
        """
        Record that a session has answered, so that no failure counts any more.
        """
        self.consecutive_failures = 0

    def _jittered(self, delay: float) -> float:
        return delay * self._rng.uniform(1 - _JITTER, 1)
