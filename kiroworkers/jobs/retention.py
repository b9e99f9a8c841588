"""
Delete results and idempotency records when they expire.
"""

from __future__ import annotations

from twisted.application.service import Service
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from kiroworkers.jobs.store import JobStore

#: The fraction of the time to live for which expired records may stay, so that those
#: that expire at about the same time are deleted together.
_SLACK = 1 / 60


class Retention(Service):
    """
    Delete ended jobs and stored responses that are older than their time to live.

    The store is queried only when its oldest record expires, or, if it has none, when a
    record made now could expire.

    Args:
        clock: Tells the time and schedules the queries.
        store: Holds the records.  It must be open when the service starts.
        ttl: The time to live of a record, in seconds.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, store: JobStore, ttl: float) -> None:
        self._clock = clock
        self._store = store
        self._ttl = ttl
        self._timer: IDelayedCall | None = None

    def startService(self) -> None:
        """
        Delete what has expired, and schedule the next time.
        """
        super().startService()
        self._delete_expired()

    def stopService(self) -> None:
        """
        Stop deleting.
        """
        super().stopService()
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def _delete_expired(self) -> None:
        now = self._clock.seconds()
        delay = self._ttl * (1 + _SLACK)
        try:
            self._store.delete_expired(now - self._ttl)
            oldest = self._store.oldest()
            if oldest is not None:
                left = oldest + self._ttl - now
                # If more has expired already, continue after other events are handled.
                delay = left + self._ttl * _SLACK if left > 0 else 0.0
        except Exception:
            self._log.failure("cannot delete expired jobs and responses")
        self._timer = self._clock.callLater(delay, self._delete_expired)
