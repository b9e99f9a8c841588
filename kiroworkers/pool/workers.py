"""
The workers of a pool: how many there are, which is next, and when each has a new
session.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import count

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from kiroworkers.conversations import AgentFailure
from kiroworkers.pool.autoscaling import AutoscalePolicy
from kiroworkers.pool.circuit_breaker import CircuitBreaker, LoginPolicy, affects_all_sessions
from kiroworkers.pool.rolling_restart import RollingRestart
from kiroworkers.pool.worker import Supervisor, Worker, WorkerSnapshot

#: Memory that a session is thought to need before any was measured, in bytes.
_SESSION_GUESS = 256 * 1024**2

#: Makes a worker of a name.
WorkerFactory = Callable[[str, Supervisor], Worker]


class WorkerPool:
    """
    Workers named worker1, worker2, …; as their `Supervisor`, it is told what
    happens to them.

    Args:
        login: how it is noticed that somebody is logged in.
        is_free: has the machine so many bytes to give?
        on_idle: called when a worker can be asked.
        on_outage: called when none can answer for some time.
        called: the workers' names, before their numbers.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        new_worker: WorkerFactory,
        scale: AutoscalePolicy,
        login: LoginPolicy,
        is_free: Callable[[int], bool],
        on_idle: Callable[[], None],
        on_outage: Callable[[], None],
        called: str = "worker",
    ) -> None:
        self.scale = scale
        self.circuit_breaker = CircuitBreaker(clock, login, self._start_probe, self._outage_over)
        self._clock = clock
        self._new_worker = new_worker
        self._is_free = is_free
        self._on_idle = on_idle
        self._on_outage = on_outage
        self._called = called
        self._workers = [
            new_worker(f"{called}{each}", self) for each in range(1, scale.workers + 1)
        ]
        self._retiring: list[Worker] = []
        self._next = 0
        self._fewest_idle = 0
        self._session_size = _SESSION_GUESS
        self._rolling_restart = RollingRestart(self.has_room, self._can_be_spared)
        self._probe: Worker | None = None
        # The most that dynamic scaling may have, where there is any.
        self._most = scale.max_workers if scale.max_workers > scale.workers else 0
        self._gone: Deferred[None] | None = None

    @property
    def workers(self) -> Sequence[Worker]:
        return self._workers

    def snapshots(self) -> list[WorkerSnapshot]:
        """
        Every worker as it is now.
        """
        return [worker.snapshot() for worker in self._workers]

    def turns(self) -> list[float]:
        """
        For each worker that serves, the seconds since its turn began; without end
        for one that is free, or soon will be.
        """
        now, found = self._clock.seconds(), []
        for worker in self._workers:
            if worker.asked_since is not None:
                found.append(now - worker.asked_since)
            elif worker.healthy:
                found.append(math.inf)
        return found

    # What is done with all of them.

    def start(self) -> None:
        """
        Start every worker.
        """
        for worker in self._workers:
            worker.start()

    def stop(self) -> Deferred[None]:
        """
        End every session; fires when all are gone.
        """
        self.circuit_breaker.stop()
        if self._gone is None:
            self._gone = Deferred()
        gone = self._gone
        for worker in self._everybody():
            worker.stop()
        self._check_gone()
        return gone

    def stop_now(self) -> None:
        """
        End every session, and wait for no agent to quit.
        """
        for worker in self._everybody():
            worker.stop(now=True)

    def next_idle(self) -> Worker | None:
        """
        The next idle worker in turn.
        """
        number = len(self._workers)
        for step in range(number):
            worker = self._workers[(self._next + step) % number]
            if worker.idle:
                self._next = (self._next + step + 1) % number
                return worker
        return None

    def grow(self, waiting: int) -> None:
        """
        Start workers that are missing while so many requests wait.
        """
        spare = self._spare()
        self._fewest_idle = min(self._fewest_idle, spare)
        size = len(self._workers)
        if size >= self.scale.max_workers or self.circuit_breaker.is_open:
            return
        if size >= self.scale.workers and any(each.in_backoff for each in self._workers):
            return  # more of them would, too
        free = sum(worker.idle or worker.warming for worker in self._workers)
        for _ in range(self.scale.scale_up_by(size, free, waiting)):
            if len(self._workers) >= self.scale.workers and not self._is_free(self._session_size):
                return
            worker = self._new_worker(self._free_name(), self)
            self._workers.append(worker)
            self._log.info("{name}: added, {n} now", name=worker.name, n=len(self._workers))
            worker.start()

    def shrink(self) -> None:
        """
        Let those go that were not needed since this was called last.
        """
        spare, self._fewest_idle = self._fewest_idle, self._spare()
        self._retire(self.scale.scale_down_by(len(self._workers), spare))

    def set_workers(self, number: int) -> None:
        """
        Have so many workers at least, from now on.
        """
        most = max(number, self._most)
        self.scale = evolve(self.scale, workers=number, max_workers=most)
        self.grow(0)
        self._retire(len(self._workers) - most)

    def renew(self, worker: Worker, reason: str) -> None:
        """
        A new session for `worker`, when it is its turn; one that was drained works
        again.
        """
        if worker.drained:
            worker.start()
        else:
            self._rolling_restart.add(worker, reason)

    def drain(self, worker: Worker) -> None:
        """
        No work and no session for `worker`, after its turn.
        """
        self._rolling_restart.discard(worker)
        worker.drain()

    def renew_all(self, reason: str) -> None:
        """
        A new session for every worker that has or wants one, one at a time.
        """
        for worker in self._workers:
            if not worker.drained:
                self._rolling_restart.add(worker, reason)

    def measured(self, sizes: Sequence[int]) -> None:
        """
        Sessions hold so many bytes.
        """
        if sizes:
            self._session_size = max(sizes)

    def record_failure(self, failure: AgentFailure, at_start: bool = False) -> bool:
        """
        A session could not answer, or not even start, because of `failure`.  Could
        none?
        """
        if not affects_all_sessions(failure.kind):
            return False
        self.circuit_breaker.open(failure, at_start)
        if not self.circuit_breaker.half_open:
            self._on_outage()
        return True

    # As the workers' `Supervisor`.

    def is_idle(self, worker: Worker) -> None:
        """
        `worker` can be asked.
        """
        self._on_idle()
        self._rolling_restart.go_on()

    def is_due(self, worker: Worker, reason: str) -> None:
        """
        `worker` needs a new session.
        """
        self._rolling_restart.add(worker, reason)

    def has_failed(self, worker: Worker, failure: AgentFailure) -> bool:
        """
        A session could not go on; would none?
        """
        return self.record_failure(failure, at_start=True)

    def has_room(self, worker: Worker) -> bool:
        """
        Is there memory for a second session of `worker`?
        """
        return self._is_free(self._session_size)

    def has_changed(self, worker: Worker) -> None:
        """
        A session came or went.
        """
        if worker in self._retiring and worker.gone:
            self._retiring.remove(worker)
        if worker.idle and self.circuit_breaker.shows_recovery(worker.started_at, by_start=True):
            self.circuit_breaker.close()
        if worker is self._probe and worker.idle:
            self._probe = None
            self._start_held()
        elif worker is self._probe and worker.group is None:
            # It shows nothing; another may.
            self._probe = None
            if self.circuit_breaker.half_open:
                self._start_probe()
        self._rolling_restart.go_on()
        self._check_gone()

    # Steps of all this.

    def _start_probe(self) -> None:
        """
        Start one session that was held, to see whether it works.
        """
        self._probe = next((worker for worker in self._workers if worker.held), None)
        if self._probe is not None:
            self._probe.start()

    def _outage_over(self, kind: str) -> None:
        if kind.startswith("login"):
            for worker in self._workers:
                if not (worker.held or worker.drained):
                    # It may remember who was logged in when it started.
                    self._rolling_restart.add(worker, "somebody logged in")
        self._start_held()
        self.grow(0)

    def _start_held(self) -> None:
        for worker in list(self._workers):
            if worker.held:
                worker.start()

    def _spare(self) -> int:
        return sum(worker.idle for worker in self._workers)

    def _free_name(self) -> str:
        taken = {worker.name for worker in self._everybody()}
        names = (f"{self._called}{number}" for number in count(1))
        return next(name for name in names if name not in taken)

    def _retire(self, number: int) -> None:
        """
        Let so many go: first those without a session, then idle ones, then the
        others; among equals, those that came last.
        """
        newest_first = self._workers[::-1]
        newest_first.sort(key=lambda each: (each.group is not None, not each.idle))
        for worker in newest_first[: max(0, number)]:
            self._workers.remove(worker)
            self._log.info("{name}: retired, {n} now", name=worker.name, n=len(self._workers))
            self.drain(worker)
            if not worker.gone:
                self._retiring.append(worker)

    def _can_be_spared(self, worker: Worker) -> bool:
        """
        May `worker` be without a session for a while?
        """
        if worker.group is None:
            return True
        others = [each for each in self._workers if each is not worker]
        # One that is busy goes after its turn, when another may have ended its own.
        ready = [each.idle or (each.healthy and not worker.idle) for each in others]
        return not others or any(ready)

    def _everybody(self) -> list[Worker]:
        return [*self._workers, *self._retiring]

    def _check_gone(self) -> None:
        if self._gone is not None and all(worker.gone for worker in self._everybody()):
            gone, self._gone = self._gone, None
            gone.callback(None)
