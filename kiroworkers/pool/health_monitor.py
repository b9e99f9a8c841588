"""
Check every worker periodically, and restart those that need a new session.

The checks look at what is already known about a worker; they never type at an agent.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from attrs import frozen
from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from kiroworkers.pool.dispatcher import Dispatcher
from kiroworkers.pool.worker import Worker, WorkerSnapshot
from kiroworkers.session.end_cause import EndCause, EndReason


@frozen
class HealthLimits:
    """
    Hold the limits above which a worker is restarted, in seconds.

    Attributes:
        idle: The longest time without a request.
        stuck: The longest time in any one state other than idle.  Each of these states has a
            shorter timeout of its own, so this only finds workers whose timeout has failed.
    """

    idle: float
    stuck: float


def stale(worker: WorkerSnapshot, now: float, limits: HealthLimits) -> bool:
    """
    Return whether `worker` has been idle for longer than the limit.
    """
    return worker.idle and now - worker.last_activity > limits.idle


def stuck(worker: WorkerSnapshot, now: float, limits: HealthLimits) -> bool:
    """
    Return whether `worker` has been in a state other than idle for longer than the limit.
    """
    return worker.pid is not None and not worker.idle and now - worker.since > limits.stuck


class HealthMonitor(Service):
    """
    Check the workers of a pool at a fixed interval.

    Each check logs one line per worker; restarts workers that are stuck, or whose
    session is too old, uses too much memory or has been idle for too long; and retires
    workers that have not been needed since the previous check.

    Args:
        clock: The reactor's clock.
        dispatcher: The dispatcher whose workers are checked.
        interval: Seconds between two checks.
        limits: The limits above which a worker is restarted.
        measure: Returns the bytes of memory that the processes below each of the given ones
            use, by process id.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        dispatcher: Dispatcher,
        interval: float,
        limits: HealthLimits,
        measure: Callable[[Collection[int]], Mapping[int, int]],
    ) -> None:
        self._clock = clock
        self._worker_pool = dispatcher.worker_pool
        self._interval = interval
        self._limits = limits
        self._measure = measure
        self._loop = LoopingCall(self._check_all)
        self._loop.clock = clock
        self._finished: Deferred[LoopingCall] | None = None

    def startService(self) -> None:
        """
        Start checking, for the first time after one interval.
        """
        super().startService()
        self._finished = self._loop.start(self._interval, now=False)

    def stopService(self) -> Deferred[None]:
        """
        Stop checking.
        """
        super().stopService()
        if self._loop.running:
            self._loop.stop()
        return succeed(None)

    def _check_all(self) -> None:
        now = self._clock.seconds()
        memory_use = self._measure_memory()
        for worker in list(self._worker_pool.workers):
            try:
                self._check(worker, now, memory_use)
            except Exception:
                # An exception that leaves this method would end the loop for good.
                self._log.failure("{worker}: the health check failed", worker=worker.name)
        try:
            self._worker_pool.shrink()
        except Exception:
            self._log.failure("failed to retire spare workers")

    def _measure_memory(self) -> Mapping[int, int]:
        pids = [worker.pid for worker in self._worker_pool.workers]
        try:
            memory_use = self._measure([pid for pid in pids if pid is not None])
            self._worker_pool.record_memory_use(list(memory_use.values()))
        except Exception:
            self._log.failure("failed to measure the workers' memory")
            return {}
        return memory_use

    def _check(self, worker: Worker, now: float, memory_use: Mapping[int, int]) -> None:
        snapshot = worker.snapshot()
        self._log.info(
            "📊 {worker}: {state}, last activity {ago:.0f}s ago",
            worker=snapshot.name,
            state=snapshot.state.upper(),
            ago=max(0.0, now - snapshot.last_activity),
        )
        if stuck(snapshot, now, self._limits):
            sentence = f"stuck: {snapshot.state} for {now - snapshot.since:.0f} s"
            worker.restart_now(EndReason(EndCause.STUCK, sentence))
            return
        memory = None if worker.pid is None else memory_use.get(worker.pid)
        reason = worker.recycle_reason(memory)
        if reason is None and stale(snapshot, now, self._limits):
            sentence = f"idle for {now - snapshot.last_activity:.0f} s"
            reason = EndReason(EndCause.IDLE, sentence)
        if reason is not None:
            self._worker_pool.restart(worker, reason)
