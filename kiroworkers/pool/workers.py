"""
Manage the workers of a pool: their number, their rotation and their restarts.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import count

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from kiroworkers.conversations import AgentFailure
from kiroworkers.errors import NoSessionStarts
from kiroworkers.pool.autoscaling import AutoscalePolicy
from kiroworkers.pool.circuit_breaker import CircuitBreaker, LoginPolicy, Probe
from kiroworkers.pool.latency import LatencyTracker
from kiroworkers.pool.rolling_restart import RollingRestart
from kiroworkers.pool.shared_outage import SharedOutage
from kiroworkers.pool.versions import AnyVersion, VersionGate, VersionSnapshot
from kiroworkers.pool.worker import Supervisor, Worker, WorkerSnapshot
from kiroworkers.session.end_cause import EndCause, EndReason
from kiroworkers.session.session import Session
from kiroworkers.session.state import SessionState

#: The memory that a session is assumed to use, in bytes, before any was measured.
_DEFAULT_SESSION_SIZE = 256 * 1024**2

#: Makes a worker, given its name and its supervisor.
WorkerFactory = Callable[[str, Supervisor], Worker]


class WorkerPool:
    """
    Hold the workers, named worker1, worker2, …, and supervise them.

    The number of workers varies within the limits of an `AutoscalePolicy`.  Workers
    that need a new session get it one at a time.

    Attributes:
        autoscale_policy: The current limits of the number of workers.
        circuit_breaker: Opens when no session of the agent can answer.
        session_starts: The number of sessions that were started so far.
        session_ends: The number of sessions that have ended so far, by cause.
        on_change: Called when a session has become ready or has ended, and when the circuit breaker
            changes.

    Args:
        clock: The reactor's clock.
        new_worker: Makes a worker, given its name and its supervisor.
        autoscale_policy: The initial limits of the number of workers.
        login: How to find out whether a user is logged in to the agent.
        has_free_memory: Returns whether the machine has this many bytes to spare.
        on_idle: Called when a worker becomes ready for a request.
        on_unavailable: Called when no worker can answer for some time.
        name_prefix: The part of a worker's name before its number.
        agent_problem: Returns why the agent's program cannot be run, or None if it can.
        versions: Decides which versions of the agent may serve; None if all may.
        agent: The name of the agent, for the log.
        shared_outage: Shares outages with other servers; None to share none.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        new_worker: WorkerFactory,
        autoscale_policy: AutoscalePolicy,
        login: LoginPolicy,
        has_free_memory: Callable[[int], bool],
        on_idle: Callable[[], None],
        on_unavailable: Callable[[], None],
        name_prefix: str = "worker",
        agent_problem: Callable[[], str | None] = lambda: None,
        versions: VersionGate | None = None,
        agent: str = "",
        shared_outage: SharedOutage | None = None,
    ) -> None:
        self.autoscale_policy = autoscale_policy
        self.session_starts = 0
        self.session_ends: Counter[EndCause] = Counter()
        self.circuit_breaker = CircuitBreaker(
            clock,
            login,
            self._start_probe,
            self._circuit_closed,
            agent,
            self._outage_learned,
            shared_outage,
        )
        self.on_change: Callable[[], None] = lambda: None
        self._clock = clock
        self._new_worker = new_worker
        self._has_free_memory = has_free_memory
        self._on_idle = on_idle
        self._on_unavailable = on_unavailable
        self._name_prefix = name_prefix
        self._agent_problem = agent_problem
        self._versions = versions or AnyVersion()
        self._versions.own(self)
        self._workers = [
            new_worker(f"{name_prefix}{number}", self)
            for number in range(1, autoscale_policy.workers + 1)
        ]
        self._retiring: list[Worker] = []
        self._next_index = 0
        self._min_idle = 0
        self._session_size = _DEFAULT_SESSION_SIZE
        # Starts may be rare, and take about as long at any time, so none is forgotten.
        self._starts = LatencyTracker(max_age=math.inf)
        self._rolling_restart = RollingRestart(
            self.has_memory_for_successor, self._can_be_spared, self._versions.may_start
        )
        self._probe: Worker | None = None
        self._session_probe: Probe | None = None
        # Whether the first sessions may be started, and whether none is to be started now.
        self._started = self._holding = False
        # The configured upper limit, which `set_workers` keeps; 0 without autoscaling.
        policy = autoscale_policy
        self._max_workers = policy.max_workers if policy.max_workers > policy.workers else 0
        self._gone: Deferred[None] | None = None

    @property
    def workers(self) -> Sequence[Worker]:
        """
        Return the workers in their order, without those that are being retired.
        """
        return self._workers

    def snapshots(self) -> list[WorkerSnapshot]:
        """
        Return the current state of every worker.
        """
        return [worker.snapshot() for worker in self._workers]

    def failure(self) -> NoSessionStarts | None:
        """
        Return why no worker can get a session, or None if one can.
        """
        problem, wanted = self._agent_problem() or self._versions.problem, self._wanted()
        if not wanted or not all(
            worker.failing or (problem is not None and worker.pid is None) for worker in wanted
        ):
            return None
        if problem is None:
            last = max((worker.snapshot() for worker in wanted), key=lambda worker: worker.since)
            problem = last.last_cause or "for no known reason"
        return NoSessionStarts(problem, self._next_start())

    def last_cause(self) -> str | None:
        """
        Return why the last session of a worker without one ended; None if it has not failed.
        """
        without = [worker.snapshot() for worker in self._wanted() if worker.pid is None]
        last = max(without, key=lambda worker: worker.since, default=None)
        return None if last is None else last.last_cause

    def sessions(self) -> list[Session]:
        """
        Return the current sessions of all workers.
        """
        return [worker.session for worker in self._workers if worker.session is not None]

    def seconds_until_free(self, turns: LatencyTracker, one_more: bool) -> list[float]:
        """
        Return, for each worker that takes requests, the estimated seconds until it can do so.

        Args:
            turns: How long recent turns took.
            one_more: Whether to count the worker that the pool adds for one more request that
                waits, if it adds one.
        """
        now = self._clock.seconds()
        estimates = [self._seconds_until_free(worker, turns, now) for worker in self._wanted()]
        may_add = len(self._workers) < self.autoscale_policy.max_workers and self._may_add(False)
        if one_more and may_add:
            estimates.append(self._starts.median(now))
        return [seconds for seconds in estimates if seconds is not None]

    def _seconds_until_free(
        self, worker: Worker, turns: LatencyTracker, now: float
    ) -> float | None:
        """
        Return the estimated seconds until `worker` can take a request.

        None if nothing is scheduled that would make it able to.
        """
        session, start = worker.session, self._starts.median(now)
        if session is None:
            next_start = worker.snapshot().next_start
            return None if next_start is None else next_start - now + start
        if worker.turn_started_at is not None:
            # Another session must start after the only turn of this one.
            after = start if session.single_use and not worker.restarting else 0.0
            return turns.remaining(now, now - worker.turn_started_at) + after
        if session.state is SessionState.STARTING:
            return self._starts.remaining(now, now - session.started_at)
        return 0.0  # It is idle or will soon be.

    def _next_start(self) -> int:
        """
        Return the whole seconds until a session starts, at least 1.

        If one is starting, return the estimated time until it is ready.
        """
        now, wanted = self._clock.seconds(), self._wanted()
        seconds = [
            self._starts.remaining(now, now - worker.started_at)
            for worker in wanted
            if worker.session is not None
        ]
        if not seconds:
            times = [worker.snapshot().next_start for worker in wanted]
            times.append(self._versions.next_attempt)
            seconds = [time - now for time in times if time is not None]
        return max(1, math.ceil(min(seconds, default=1.0)))

    def _wanted(self) -> list[Worker]:
        """
        Return the workers that an operator has not taken out of service.
        """
        return [worker for worker in self._workers if not worker.drained]

    # What the dispatcher, the health monitor and operators can do.

    def start(self) -> None:
        """
        Start every worker, once it is known whether another server has reported an outage.

        If one lasts, no session is started before its delay is over.
        """
        learned = self.circuit_breaker.start()
        if learned is None:
            self._start_workers()
        else:
            learned.addCallback(lambda _: self._start_workers())

    def _start_workers(self) -> None:
        if self._gone is not None:
            return
        self._started = True
        self._holding = self.circuit_breaker.is_open
        for worker in self._workers:
            worker.start()
        self._holding = False
        if self.circuit_breaker.half_open:
            self._start_probe()

    def stop(self) -> Deferred[None]:
        """
        End every session for good.

        Returns:
            A Deferred that fires when all sessions are gone.
        """
        self.circuit_breaker.stop()
        self._versions.stop()
        if self._gone is None:
            self._gone = Deferred()
        gone = self._gone
        for worker in self._all_workers():
            worker.stop()
        self._check_gone()
        return gone

    def stop_now(self) -> None:
        """
        End every session for good, without waiting for the agents to quit.
        """
        for worker in self._all_workers():
            worker.stop(now=True)

    def next_idle(self) -> Worker | None:
        """
        Return the idle worker that is next in rotation, or None.
        """
        number = len(self._workers)
        for step in range(number):
            worker = self._workers[(self._next_index + step) % number]
            if worker.idle:
                self._next_index = (self._next_index + step + 1) % number
                return worker
        return None

    def grow(self, waiting: int) -> None:
        """
        Start the workers that are needed, as far as limits and memory allow.

        Args:
            waiting: The number of requests in the queue.
        """
        spare = self._count_idle()
        self._min_idle = min(self._min_idle, spare)
        policy, size = self.autoscale_policy, len(self._workers)
        if size >= policy.max_workers or not self._may_add(required=size < policy.workers):
            return
        free = sum(worker.idle or worker.warming for worker in self._workers)
        for _ in range(policy.scale_up_by(size, free, waiting)):
            required = len(self._workers) < policy.workers
            if not required and not self._has_free_memory(self._session_size):
                return
            worker = self._new_worker(self._unused_name(), self)
            self._workers.append(worker)
            self._log.info(
                "{worker}: added, pool size {size}", worker=worker.name, size=len(self._workers)
            )
            worker.start()

    def shrink(self) -> None:
        """
        Retire the workers that have not been needed since the previous call.

        Their sessions are kept while no others could be started.
        """
        if not self._versions.may_start():
            return
        spare, self._min_idle = self._min_idle, self._count_idle()
        self._retire(self.autoscale_policy.scale_down_by(len(self._workers), spare))

    def set_workers(self, number: int) -> None:
        """
        Set the smallest number of workers, and start or retire workers accordingly.

        The largest number stays as configured, or is `number` if that is larger.
        """
        max_workers = max(number, self._max_workers)
        self.autoscale_policy = evolve(
            self.autoscale_policy, workers=number, max_workers=max_workers
        )
        self.grow(0)
        self._retire(len(self._workers) - max_workers)

    def restart(self, worker: Worker, reason: EndReason) -> None:
        """
        Schedule a new session for `worker`, or put it back to work if it was drained.

        Args:
            worker: The worker to restart.
            reason: Why, for the log.
        """
        if worker.drained:
            worker.start()
        else:
            self._rolling_restart.add(worker, reason)

    def drain(self, worker: Worker, reason: EndReason) -> None:
        """
        Take `worker` out of service after its turn.

        Args:
            worker: The worker to drain.
            reason: Why, for the log.
        """
        self._rolling_restart.discard(worker)
        worker.drain(reason)

    def restart_all(self, reason: EndReason) -> None:
        """
        Schedule a new session for every worker that is not drained.

        Args:
            reason: Why, for the log.
        """
        for worker in self._workers:
            if not worker.drained:
                self._rolling_restart.add(worker, reason)

    def record_memory_use(self, sizes: Sequence[int]) -> None:
        """
        Record the memory use of the sessions, to estimate that of a new one.

        Args:
            sizes: The bytes that each session uses.
        """
        if sizes:
            self._session_size = max(sizes)

    def record_failure(self, failure: AgentFailure, at_start: bool = False) -> bool:
        """
        Open the circuit if `failure` affects every session.

        Args:
            failure: Why a session could not answer.
            at_start: Whether the session failed before it reached its prompt.

        Returns:
            Whether the failure affects every session.
        """
        if not failure.affects_all_sessions:
            return False
        self.circuit_breaker.open(failure, at_start)
        if self.circuit_breaker.is_open and not self.circuit_breaker.half_open:
            self._on_unavailable()
        self.on_change()
        return True

    # The workers' `Supervisor`.

    def worker_idle(self, worker: Worker) -> None:
        """
        Give `worker` a request; part of `Supervisor`.
        """
        self._on_idle()
        self._rolling_restart.advance()

    def worker_due(self, worker: Worker, reason: EndReason) -> None:
        """
        Schedule the restart of `worker`; part of `Supervisor`.
        """
        self._rolling_restart.add(worker, reason)

    def session_failed(self, worker: Worker, failure: AgentFailure, at_start: bool) -> bool:
        """
        Open the circuit if `failure` affects every session; part of `Supervisor`.
        """
        return self.record_failure(failure, at_start)

    def may_start_session(self, worker: Worker) -> bool:
        """
        Return whether `worker` may start a session; part of `Supervisor`.
        """
        return not self._holding and self._versions.may_start()

    def has_memory_for_successor(self, worker: Worker) -> bool:
        """
        Return whether there is memory for a second session; part of `Supervisor`.
        """
        return self._has_free_memory(self._session_size)

    def session_started(self, worker: Worker) -> None:
        """
        Count a session of `worker` that starts; part of `Supervisor`.
        """
        self.session_starts += 1

    def session_ended(self, worker: Worker, cause: EndCause) -> None:
        """
        Count a session of `worker` that has ended; part of `Supervisor`.
        """
        self.session_ends[cause] += 1

    def sessions_changed(self, worker: Worker) -> None:
        """
        Handle a change of the sessions of `worker`; part of `Supervisor`.
        """
        if worker in self._retiring and worker.gone:
            self._retiring.remove(worker)
        session = worker.session
        if session is not None and worker.idle and session.turns == 0:
            self._starts.add(self._clock.seconds(), session.since - session.started_at)
        if worker.idle and self.circuit_breaker.shows_recovery(worker.started_at, by_start=True):
            self.circuit_breaker.close()
        if worker is self._probe and worker.idle:
            self._end_session_probe()
            self._start_waiting_workers()
        elif worker is self._probe and worker.pid is None:
            # It ended without proving anything; another worker may.
            if self.circuit_breaker.half_open:
                self._start_probe()
            else:
                self._end_session_probe()
        self._rolling_restart.advance()
        if self.failure() is not None:
            self._on_unavailable()
        self._check_gone()
        self.on_change()

    # The `VersionOwner`, and what is known about versions.

    def version(self) -> VersionSnapshot | None:
        """
        Return what is known about the version that is installed; None if every one may serve.
        """
        return self._versions.snapshot()

    def version_decided(self) -> None:
        """
        Start what waited for a version, or refuse the requests; part of `VersionOwner`.
        """
        if self._gone is None and self._versions.may_start():
            if not self.circuit_breaker.is_open:
                self._start_waiting_workers()
            elif self.circuit_breaker.half_open:
                self._start_probe()
            self._rolling_restart.advance()
            self.grow(0)
        elif self.failure() is not None:
            self._on_unavailable()
        self._check_gone()

    def canary_failed(self, failure: AgentFailure, at_start: bool) -> None:
        """
        Open the circuit because of `failure`, unless there are sessions; part of `VersionOwner`.

        A new version may need a login of its own, which sessions of the earlier one have.
        """
        if all(worker.pid is None for worker in self._workers):
            self.record_failure(failure, at_start)

    def has_memory_for_canary(self) -> bool:
        """
        Return whether there is memory for one more session; part of `VersionOwner`.
        """
        is_first = all(worker.gone for worker in self._all_workers())
        return is_first or self._has_free_memory(self._session_size)

    # Probes, and retiring workers.

    def _start_probe(self) -> None:
        """
        Start one worker that awaits recovery, to find out whether the agent works again.
        """
        self._versions.retry()
        self._probe = next((worker for worker in self._workers if worker.awaiting_recovery), None)
        last, self._session_probe = self._session_probe, None
        if self._probe is not None and self.circuit_breaker.failed_at_start:
            # It may show whether the agent works, so only one server starts a session.
            self._session_probe = self.circuit_breaker.begin_probe(self._start_probe_session)
            self._end_held_probe()
        elif self._probe is not None:
            self._probe.start()
        if last is not None:
            last.end()
        self.on_change()

    def _start_probe_session(self) -> None:
        if self._probe is not None:
            self._probe.start()
            self._end_held_probe()

    def _end_held_probe(self) -> None:
        """
        Let other servers probe the agent if the probe's session may not be started yet.
        """
        probe, held = self._session_probe, self._probe is None or self._probe.awaiting_recovery
        if probe is not None and probe.granted and held:
            self._end_session_probe()

    def _end_session_probe(self) -> None:
        self._probe = None
        if self._session_probe is not None:
            self._session_probe.end()
            self._session_probe = None

    def _outage_learned(self) -> None:
        self._on_unavailable()
        self.on_change()

    def _circuit_closed(self, kind: str) -> None:
        self._versions.retry()
        if kind.startswith("login"):
            for worker in self._workers:
                if not (worker.awaiting_recovery or worker.drained):
                    # Its session may still use the login that it started with.
                    reason = EndReason(EndCause.LOGIN, "a user logged in")
                    self._rolling_restart.add(worker, reason)
        self._start_waiting_workers()
        self.grow(0)
        # A probe may have waited for permission.
        self._on_idle()
        self.on_change()

    def _start_waiting_workers(self) -> None:
        for worker in list(self._workers):
            if worker.awaiting_recovery:
                worker.start()

    def _may_add(self, required: bool) -> bool:
        """
        Return whether a session of a new worker is likely to start.

        Args:
            required: Whether there are fewer workers than configured.
        """
        if not self._started or self.circuit_breaker.is_open or not self._versions.may_start():
            return False
        # Sessions of further workers would fail as well.
        return required or not any(worker.in_backoff for worker in self._workers)

    def _count_idle(self) -> int:
        return sum(worker.idle for worker in self._workers)

    def _unused_name(self) -> str:
        taken = {worker.name for worker in self._all_workers()}
        names = (f"{self._name_prefix}{number}" for number in count(1))
        return next(name for name in names if name not in taken)

    def _retire(self, number: int) -> None:
        """
        Retire `number` workers.

        Workers without a session are retired first, then idle ones, then the others;
        among equals, the newest first.
        """
        candidates = self._workers[::-1]
        candidates.sort(key=lambda worker: (worker.pid is not None, not worker.idle))
        for worker in candidates[: max(0, number)]:
            self._workers.remove(worker)
            self._log.info(
                "{worker}: retired, pool size {size}", worker=worker.name, size=len(self._workers)
            )
            self.drain(worker, EndReason(EndCause.SCALED_DOWN, "not needed any more"))
            if not worker.gone:
                self._retiring.append(worker)

    def _can_be_spared(self, worker: Worker) -> bool:
        """
        Return whether the pool can do without `worker` for a while.
        """
        if worker.pid is None:
            return True
        others = [other for other in self._workers if other is not worker]
        # A busy worker restarts after its turn; by then, another may have finished.
        ready = [other.idle or (other.healthy and not worker.idle) for other in others]
        return not others or any(ready)

    def _all_workers(self) -> list[Worker]:
        return [*self._workers, *self._retiring]

    def _check_gone(self) -> None:
        if (
            self._gone is not None
            and self._versions.gone
            and all(worker.gone for worker in self._all_workers())
        ):
            gone, self._gone = self._gone, None
            gone.callback(None)
