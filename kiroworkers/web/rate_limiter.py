"""
How often a client may begin a request.
"""

from __future__ import annotations

import math
from collections import OrderedDict

from twisted.internet.interfaces import IReactorTime

#: Clients that are remembered at most; then the one longest unseen is forgotten.
_MOST = 10_000


class RateLimiter:
    """
    A bucket for each client, that holds `burst` requests and fills with
    `per_minute` of them.

    All that is kept of a client is when its bucket will be full again, and
    nothing of one whose bucket is.
    """

    def __init__(self, clock: IReactorTime, per_minute: int, burst: int, most: int = _MOST) -> None:
        self._clock = clock
        self._interval = 60 / per_minute
        self._depth = burst * self._interval
        self._most = most
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def take(self, client: str) -> int:
        """
        Take one request out of the bucket of `client`: 0, or the whole seconds
        until there is one.
        """
        now = self._clock.seconds()
        self._forget(now)
        # Never more than a whole bucket away, also when the clock was set back.
        full_at = min(max(now, self._full_at.get(client, now)), now + self._depth)
        after = full_at + self._interval
        wait = after - now - self._depth
        # What is left of sums of thirds is no time to wait.
        if wait > 1e-6:
            return math.ceil(wait)
        self._full_at[client] = after
        self._full_at.move_to_end(client)
        if len(self._full_at) > self._most:
            self._full_at.popitem(last=False)
        return 0

    def __len__(self) -> int:
        """
        How many clients are remembered.
        """
        return len(self._full_at)

    def _forget(self, now: float) -> None:
        while self._full_at and next(iter(self._full_at.values())) <= now:
            self._full_at.popitem(last=False)
