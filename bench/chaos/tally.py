"""
Count outcomes, and describe those that must not happen.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from threading import Lock

from attrs import define, field

#: How many cases of each are described.
_MAX_DETAILS = 10


@define
class Tally:
    """
    Count outcomes, from several threads.

    Attributes:
        forbidden: The outcomes that must not happen.
        counts: How often each outcome occurred.
        details: Descriptions of what must not happen.
    """

    forbidden: Sequence[str] = ()
    counts: Counter[str] = field(init=False)
    details: list[str] = field(factory=list, init=False)
    lock: Lock = field(factory=Lock, init=False)

    def __attrs_post_init__(self) -> None:
        self.counts = Counter(dict.fromkeys(self.forbidden, 0))

    def count(self, outcome: str, number: int = 1) -> None:
        """
        Count an outcome.
        """
        with self.lock:
            self.counts[outcome] += number

    def forbid(self, outcome: str, detail: str) -> None:
        """
        Count what must not happen, and describe it.
        """
        with self.lock:
            self.counts[outcome] += 1
            if self.counts[outcome] <= _MAX_DETAILS:
                self.details.append(f"{time.strftime('%H:%M:%S')} {outcome}: {detail[:600]}")

    @property
    def failed(self) -> bool:
        """
        Return whether something has happened that must not.
        """
        return any(self.counts[name] for name in self.forbidden)

    def offences(self) -> list[str]:
        """
        Return what has happened and must not: how often, and then the cases.
        """
        rows = [(name, self.counts[name]) for name in self.forbidden]
        return [*(f"{count:>7}  {name}" for name, count in rows if count), *self.details]
