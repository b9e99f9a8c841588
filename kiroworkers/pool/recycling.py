"""
When a session has served long enough.
"""

from __future__ import annotations

from random import Random

from attrs import frozen


@frozen
class RecyclePolicy:
    """
    Attributes:
        max_requests: a session gives so many answers, and up to `jitter` more.
        max_age: seconds that it serves.
        memory_max: bytes that it and all its children may hold.
    """

    max_requests: int
    jitter: int
    max_age: float
    memory_max: int

    def answers(self, chance: Random) -> int:
        """
        How many answers one session may give.
        """
        return self.max_requests + chance.randint(0, self.jitter)

    def reason(self, age: float, memory: int | None) -> str | None:
        """
        Why a session of that age and memory (None: not known) is to go, if it is.
        """
        if age > self.max_age:
            return f"{age:.0f} s old"
        if memory is not None and memory > self.memory_max:
            return f"holds {memory / 1024**2:.0f} MiB"
        return None
