"""
Delete results and idempotency records when they expire.
"""

from __future__ import annotations

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from kiroworkers.clocks import WallClock
from kiroworkers.errors import StorageUnavailable
from kiroworkers.jobs.store import JobStore

#: The fraction of the time to live for which expired records may stay, so that those
#: that expire at about the same time are deleted together.
_SLACK = 1 / 60

#: Seconds until the next attempt if another server deletes what has expired.
_BUSY_DELAY = 10.0

#: Seconds until the next attempt if the storage fails.
_RETRY_DELAY = 60.0


class Retention(Service):
    """
    Delete ended jobs and stored responses that are older than their time to live.

    The store is queried only when its oldest record expires, or, if it has none, when a
    record made now could expire.

    Args:
        clock: Schedules the queries.
        wall_clock: Returns the time in seconds since the epoch.
        store: Holds the records.  It must be open when the service starts.
        ttl: The time to live of a record, in seconds.
    """

    _log = Logger()

    def __init__(
        self, clock: IReactorTime, wall_clock: WallClock, store: JobStore, ttl: float
    ) -> None:
        self._clock = clock
        self._wall_clock = wall_clock
        self._store = store
        self._ttl = ttl
        self._timer: IDelayedCall | None = None

    def startService(self) -> None:
        """
        Delete what has expired, and schedule the next time.
        """
        super().startService()
        self._start()

    def stopService(self) -> None:
        """
        Stop deleting.
        """
        super().stopService()
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def _start(self) -> None:
        self._timer = None
        Deferred.fromCoroutine(self._delete_expired()).addBoth(self._schedule)

    async def _delete_expired(self) -> float:
        """
        Delete what has expired, and return the seconds until something else may expire.
        """
        delay = self._ttl * (1 + _SLACK)
        if not await self._store.delete_expired(self._wall_clock() - self._ttl):
            return min(_BUSY_DELAY, delay)
        oldest = await self._store.oldest()
        if oldest is None:
            return delay
        left = oldest + self._ttl - self._wall_clock()
        # If more has expired already, continue after other events are handled.  If the clock
        # was set back, do not wait for longer than a record made now could.
        return min(delay, left + self._ttl * _SLACK) if left > 0 else 0.0

    def _schedule(self, delay: float | Failure) -> None:
        if isinstance(delay, Failure):
            if delay.check(StorageUnavailable) is None:
                self._log.failure("cannot delete expired jobs and responses", delay)
            delay = min(_RETRY_DELAY, self._ttl)
        if self.running:
            self._timer = self._clock.callLater(delay, self._start)
