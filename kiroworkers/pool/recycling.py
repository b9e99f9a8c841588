"""
Decide when a session has served long enough and should be replaced.
"""

from __future__ import annotations

from random import Random

from attrs import frozen

from kiroworkers.session.end_cause import EndCause, EndReason


@frozen
class RecyclePolicy:
    """
    Hold the limits after which a session is replaced by a new one.

    Attributes:
        max_requests: The number of answers after which a session is replaced.
        jitter: The largest random number that is added to `max_requests`, so that workers
            are not all recycled at once.
        max_age: The longest life of a session, in seconds.
        memory_max: The maximum memory that its process and all children may use, in bytes.
    """

    max_requests: int
    jitter: int
    max_age: float
    memory_max: int

    def draw_max_answers(self, rng: Random) -> int:
        """
        Return the number of answers after which one session is replaced.

        Args:
            rng: The source of the random part.
        """
        return self.max_requests + rng.randint(0, self.jitter)

    def reason(self, age: float, memory: int | None) -> EndReason | None:
        """
        Return why a session should be replaced, or None if it should not.

        Args:
            age: Seconds since the session was started.
            memory: The bytes that its processes use; None if that is unknown.
        """
        if age > self.max_age:
            return EndReason(EndCause.MAX_AGE, f"{age:.0f} s old")
        if memory is not None and memory > self.memory_max:
            return EndReason(EndCause.MEMORY, f"uses {memory / 1024**2:.0f} MiB")
        return None
