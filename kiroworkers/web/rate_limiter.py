"""
Limit how often a client may send requests, with a token bucket for each client.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

#: The maximum number of clients to remember; beyond it, the one unseen for longest is forgotten.
_MAX_CLIENTS = 10_000

#: How much may be owed at most, in full buckets, for requests that other servers have counted.
_MAX_OWED = 2


class RateLimiter:
    """
    Keep a token bucket for each client.

    The limiter stores only the time at which a client's bucket will be full again, and
    nothing about clients whose bucket is full.

    Attributes:
        depth: The seconds in which an empty bucket refills.
        on_taken: Called with a client and the seconds in which its bucket regains what it took,
            whenever a request is counted.

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
        self.depth = burst * self._interval
        self.on_taken: Callable[[str, float], None] = lambda client, seconds: None
        self._max_clients = max_clients
        self._full_at: OrderedDict[str, float] = OrderedDict()
        self._last = clock.seconds()
        # How far the clock was set back so far.
        self._set_back = 0.0

    def take(self, client: str, weight: float = 1.0) -> int:
        """
        Take a request from the bucket of `client`.

        Args:
            client: The client.
            weight: The part of a usual request that it counts as.

        Returns:
            0 if the request is allowed, or else the whole seconds until one will be.
        """
        now = self._now()
        self._forget_full(now)
        seconds = self._interval * weight
        after = max(now, self._full_at.get(client, now)) + seconds
        wait = after - now - self.depth
        # A rounding error of a fractional interval is not worth a wait.
        if wait > 1e-6:
            return math.ceil(wait)
        self._set_full_at(client, after)
        self.on_taken(client, seconds)
        return 0

    def learn(self, client: str, level: float, /) -> None:
        """
        Take note that the bucket of `client` will not be full for another `level` seconds.

        Other servers may have counted requests of the client.  So it may owe some; these are
        bounded, in case the servers' rates differ.
        """
        now = self._now()
        full_at = now + min(level, _MAX_OWED * self.depth)
        if full_at > max(now, self._full_at.get(client, now)):
            self._set_full_at(client, full_at)

    def __len__(self) -> int:
        """
        Return the number of clients that are remembered.
        """
        return len(self._full_at)

    def _now(self) -> float:
        """
        Return the time on a clock that is not set back with that of the reactor.
        """
        seconds = self._clock.seconds()
        self._set_back += max(0.0, self._last - seconds)
        self._last = seconds
        return seconds + self._set_back

    def _set_full_at(self, client: str, full_at: float) -> None:
        self._full_at[client] = full_at
        self._full_at.move_to_end(client)
        if len(self._full_at) > self._max_clients:
            self._full_at.popitem(last=False)

    def _forget_full(self, now: float) -> None:
        while self._full_at and next(iter(self._full_at.values())) <= now:
            self._full_at.popitem(last=False)
