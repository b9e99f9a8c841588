"""
Results do not stay for ever.
"""

from __future__ import annotations

from twisted.application.service import Service
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from kiroworkers.jobs.store import JobStore

#: Each round forgets what comes to its end within this part of the time to live.
_COALESCED = 1 / 60


class Retention(Service):
    """
    Forgets what is in `store` when it is `ttl` seconds old.  Looks when the oldest
    is due, and where there is nothing, not before that could be.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, store: JobStore, ttl: float) -> None:
        self._clock = clock
        self._store = store
        self._ttl = ttl
        self._alarm: IDelayedCall | None = None

    def startService(self) -> None:
        super().startService()
        self._look()

    def stopService(self) -> None:
        super().stopService()
        if self._alarm is not None and self._alarm.active():
            self._alarm.cancel()

    def _look(self) -> None:
        now = self._clock.seconds()
        wait = self._ttl * (1 + _COALESCED)
        try:
            self._store.forget(now - self._ttl)
            oldest = self._store.oldest()
            if oldest is not None:
                left = oldest + self._ttl - now
                # Where there is more to forget already, nobody else has to wait for it.
                wait = left + self._ttl * _COALESCED if left > 0 else 0.0
        except Exception:
            self._log.failure("old results are not forgotten")
        self._alarm = self._clock.callLater(wait, self._look)
