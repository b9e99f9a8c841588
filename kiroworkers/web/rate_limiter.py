"""
Limit how often a client may send requests, with a token bucket for each client.
"""

from __future__ import annotations

import math
from collections import OrderedDict

from twisted.internet.interfaces import IReactorTime

#: The maximum number of clients to remember; beyond it, the one unseen for longest is forgotten.
_MAX_CLIENTS = 10_000


class RateLimiter:
    """
    Keep a token bucket for each client.

    The limiter stores only the time at which a client's bucket will be full again, and
    nothing about clients whose bucket is full.

    Args:
        clock: Tells the time.
        per_minute: Requests per minute at which a bucket refills.
        burst: Requests that a full bucket holds.
        max_clients: The maximum number of clients to remember.
    """

    def __init__(
        self, clock: IReactorTime, per_minute: int, burst: int, max_clients: int = _MAX_CLIENTS
    ) -> None:
        self._clock = clock
        self._interval = 60 / per_minute
        self._depth = burst * self._interval
        self._max_clients = max_clients
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def take(self, client: str, weight: float = 1.0) -> int:
        """
        Take a request from the bucket of `client`.

        Args:
            client: The client.
            weight: The part of a usual request that it counts as.

        Returns:
            0 if the request is allowed, or else the whole seconds until one will be.
        """
        now = self._clock.seconds()
        self._forget_full(now)
        # Bounded by one whole bucket, in case the clock was set back.
        full_at = min(max(now, self._full_at.get(client, now)), now + self._depth)
        after = full_at + self._interval * weight
        wait = after - now - self._depth
        # A rounding error of a fractional interval is not worth a wait.
        if wait > 1e-6:
            return math.ceil(wait)
        self._full_at[client] = after
        self._full_at.move_to_end(client)
        if len(self._full_at) > self._max_clients:
            self._full_at.popitem(last=False)
        return 0

    def __len__(self) -> int:
        """
        Return the number of clients that are remembered.
        """
        return len(self._full_at)

    def _forget_full(self, now: float) -> None:
        while self._full_at and next(iter(self._full_at.values())) <= now:
            self._full_at.popitem(last=False)
