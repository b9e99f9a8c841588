"""
The health monitor: looks at every worker, in rounds, and types nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from attrs import frozen
from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from kiroworkers.pool.worker import Worker, WorkerSnapshot
from kiroworkers.pool.workers import WorkerPool


@frozen
class HealthLimits:
    """
    What the monitor thinks too long, in seconds.

    Attributes:
        idle: without a request; the session is renewed.
        unsettled: in any state but idle.  Each of these has a time-out of its
            own that is shorter, so this finds only what those have missed.
    """

    idle: float
    unsettled: float


def stale(worker: WorkerSnapshot, now: float, limits: HealthLimits) -> bool:
    """
    Has `worker` sat idle for too long?
    """
    return worker.idle and now - worker.last_activity > limits.idle


def stuck(worker: WorkerSnapshot, now: float, limits: HealthLimits) -> bool:
    """
    Is `worker` neither idle nor getting there?
    """
    return worker.pid is not None and not worker.idle and now - worker.since > limits.unsettled


class HealthMonitor(Service):
    """
    Every `interval` seconds: a line about each worker, and a new session for
    those that are stuck, old, large or idle for too long.  Workers that were not
    needed since the last round are let go.

    Args:
        measure: the bytes that each of some process groups holds.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        worker_pool: WorkerPool,
        interval: float,
        limits: HealthLimits,
        measure: Callable[[Collection[int]], Mapping[int, int]],
    ) -> None:
        self._clock = clock
        self._crew = worker_pool
        self._interval = interval
        self._limits = limits
        self._measure = measure
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
        sizes = self._sizes()
        for worker in list(self._crew.workers):
            try:
                self._check(worker, now, sizes)
            except Exception:
                # One worker's trouble must not end the rounds.
                self._log.failure("while checking {name}", name=worker.name)
        try:
            self._crew.shrink()
        except Exception:
            self._log.failure("while letting workers go")

    def _sizes(self) -> Mapping[int, int]:
        groups = [worker.group for worker in self._crew.workers]
        try:
            sizes = self._measure([group for group in groups if group is not None])
            self._crew.measured(list(sizes.values()))
        except Exception:
            self._log.failure("while measuring memory")
            return {}
        return sizes

    def _check(self, worker: Worker, now: float, sizes: Mapping[int, int]) -> None:
        snapshot = worker.snapshot()
        self._log.info(
            "📊 {name}: {state}, last activity {ago:.0f}s ago",
            name=snapshot.name,
            state=snapshot.state.upper(),
            ago=max(0.0, now - snapshot.last_activity),
        )
        if stuck(snapshot, now, self._limits):
            worker.replace(f"stuck: {snapshot.state} for {now - snapshot.since:.0f} s")
            return
        reason = worker.due(sizes.get(worker.group) if worker.group is not None else None)
        if reason is None and stale(snapshot, now, self._limits):
            reason = f"idle for {now - snapshot.last_activity:.0f} s"
        if reason is not None:
            self._crew.renew(worker, reason)
