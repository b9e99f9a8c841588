"""
Measure what the workers' processes use, when somebody asks and not too often.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from kiroworkers.pool.agent_groups import AgentGroups

#: Seconds for which a measurement is used again.
_MAX_AGE = 2.0


class Measured(Protocol):
    """
    Describe what the processes of one session use.
    """

    @property
    def memory(self) -> int:
        """
        Return their resident memory, in bytes.
        """

    @property
    def cpu(self) -> float:
        """
        Return the CPU time that they have used so far, in seconds.
        """


#: Returns what the processes below each of the given ones use, by process id.
Measure = Callable[[Collection[int]], Mapping[int, Measured]]


@frozen
class WorkerUsage:
    """
    Hold what the processes of one worker use.

    Attributes:
        memory: Their resident memory, in bytes.
        cpu: The share of one processor that they used since the previous measurement, in
            percent; None for a session that was not measured before.
    """

    memory: int
    cpu: float | None


class UsageMonitor:
    """
    Measure what workers use, outside the event loop.

    Attributes:
        workers: The last measurement, by the name of the worker.
        cpu_seconds: The CPU time that the processes of each agent have used so far, as far as
            it was measured before they ended.

    Args:
        clock: Tells how old a measurement is.
        groups: The agents and their pools.
        measure: Measures processes.  It is called in a thread.
        run_in_thread: Runs a function in a thread.
        max_age: Seconds for which a measurement is used again.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        groups: AgentGroups,
        measure: Measure,
        run_in_thread: Callable[
            [Callable[[], Mapping[int, Measured]]], Deferred[Mapping[int, Measured]]
        ],
        max_age: float = _MAX_AGE,
    ) -> None:
        self._clock = clock
        self._groups = groups
        self._measure = measure
        self._run_in_thread = run_in_thread
        self._max_age = max_age
        self._measured_at: float | None = None
        # The CPU time of each session's processes at the last measurement.
        self._cpu: dict[int, float] = {}
        self._waiting: list[Deferred[None]] = []
        self.workers: Mapping[str, WorkerUsage] = {}
        self.cpu_seconds: dict[str, float] = defaultdict(float)

    def refresh(self) -> Deferred[None]:
        """
        Measure again, unless the last measurement is recent.

        Returns:
            A Deferred that fires when `workers` is recent.  It never fails.
        """
        done: Deferred[None] = Deferred()
        now = self._clock.seconds()
        if self._measured_at is not None and now - self._measured_at < self._max_age:
            done.callback(None)
            return done
        self._waiting.append(done)
        if len(self._waiting) == 1:
            roots = {
                worker.pid: (worker.name, group.name)
                for group in self._groups
                for worker in group.dispatcher.worker_pool.workers
                if worker.pid is not None
            }
            measuring = self._run_in_thread(lambda: self._measure(roots.keys()))
            measuring.addCallback(self._record, roots)
            measuring.addErrback(
                lambda failure: self._log.failure("failed to measure the workers", failure)
            )
            measuring.addBoth(self._finish)
        return done

    def _record(
        self, measured: Mapping[int, Measured], roots: Mapping[int, tuple[str, str]]
    ) -> None:
        now = self._clock.seconds()
        elapsed = 0.0 if self._measured_at is None else now - self._measured_at
        workers = {}
        for pid, usage in measured.items():
            worker, agent = roots[pid]
            before = self._cpu.get(pid)
            # A process that has ended takes its CPU time with it.
            used = max(0.0, usage.cpu - (before or 0.0))
            self.cpu_seconds[agent] += used
            percent = None if before is None or elapsed <= 0 else 100 * used / elapsed
            workers[worker] = WorkerUsage(usage.memory, percent)
        self._cpu = {pid: usage.cpu for pid, usage in measured.items()}
        self._measured_at = now
        self.workers = workers

    def _finish(self, _: object) -> None:
        waiting, self._waiting = self._waiting, []
        for done in waiting:
            done.callback(None)
