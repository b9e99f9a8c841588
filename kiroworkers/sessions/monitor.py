"""
The health monitor: looks at every worker, in rounds, and types nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen
from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from kiroworkers.sessions.pool import Pool
from kiroworkers.sessions.worker import Snapshot, Worker


@frozen
class HealthLimits:
    """
    What the monitor thinks too long, in seconds.

    @ivar idle: without a request; the session is renewed.
    @ivar unsettled: in any state but idle.  Each of these has a time-out of its
        own that is shorter, so this finds only what those have missed.
    """

    idle: float
    unsettled: float


def stale(worker: Snapshot, now: float, limits: HealthLimits) -> bool:
    """
    Has `worker` sat idle for too long?
    """
    return worker.idle and now - worker.last_activity > limits.idle


def stuck(worker: Snapshot, now: float, limits: HealthLimits) -> bool:
    """
    Is `worker` neither idle nor getting there?
    """
    return worker.pid is not None and not worker.idle and now - worker.since > limits.unsettled


class HealthMonitor(Service):
    """
    Every `interval` seconds: a line about each worker, a new session for one
    that is stuck, and a new session for the one that has been idle longest, if
    that is too long and another worker is ready meanwhile.
    """

    _log = Logger()

    def __init__(
        self, clock: IReactorTime, pool: Pool, interval: float, limits: HealthLimits
    ) -> None:
        self._clock = clock
        self._pool = pool
        self._interval = interval
        self._limits = limits
        self._round = LoopingCall(self._look_in)
        self._round.clock = clock
        self._finished: Deferred[LoopingCall] | None = None

    def startService(self) -> None:
        super().startService()
        self._finished = self._round.start(self._interval, now=False)

    def stopService(self) -> Deferred[None]:
        super().stopService()
        if self._round.running:
            self._round.stop()
        return succeed(None)

    def _look_in(self) -> None:
        now = self._clock.seconds()
        seen = [(worker, worker.snapshot()) for worker in self._pool.workers]
        for worker, snapshot in seen:
            try:
                self._check(worker, snapshot, now)
            except Exception:
                # One worker's trouble must not end the rounds.
                self._log.failure("while checking {name}", name=snapshot.name)
        try:
            self._renew_stale(seen, now)
        except Exception:
            self._log.failure("while renewing an idle session")

    def _check(self, worker: Worker, snapshot: Snapshot, now: float) -> None:
        self._log.info(
            "📊 {name}: {state}, last activity {ago:.0f}s ago",
            name=snapshot.name,
            state=snapshot.state.upper(),
            ago=max(0.0, now - snapshot.last_activity),
        )
        if stuck(snapshot, now, self._limits):
            worker.renew(f"stuck: {snapshot.state} for {now - snapshot.since:.0f} s")

    def _renew_stale(self, seen: Sequence[tuple[Worker, Snapshot]], now: float) -> None:
        tired = [pair for pair in seen if stale(pair[1], now, self._limits)]
        if tired:
            worker, snapshot = min(tired, key=lambda pair: pair[1].last_activity)
            if any(other.idle for other in self._pool.workers if other is not worker):
                worker.renew(f"idle for {now - snapshot.last_activity:.0f} s")
