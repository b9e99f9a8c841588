"""
Run the jobs that this server claims from the database that it shares with others.

A job is claimed only for a session that is idle now, so that no job waits behind another one
while a session of another server is idle.  A job that finds no idle session after all, or whose
pool rejects it, is given back at once, as if nobody had claimed it.

Each claim of a job has a number.  What this server stores about a job applies only if nobody has
claimed it since.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from secrets import token_urlsafe
from typing import Protocol

from attrs import define, evolve, field
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from kiroworkers.clocks import WallClock
from kiroworkers.cluster.claimed_job import ClaimedJob
from kiroworkers.cluster.membership import HeldJobs, QueuedJobs
from kiroworkers.errors import SessionLost, ShuttingDown, StorageUnavailable
from kiroworkers.jobs.attempts import (
    MAX_ATTEMPTS,
    Ended,
    JobAttempts,
    Outcome,
    Postponed,
    UnfinishedJob,
    job_failure,
)
from kiroworkers.jobs.job import Job
from kiroworkers.jobs.runner import JobCounts, shielded
from kiroworkers.jobs.store import JobLimits, JobStore
from kiroworkers.jobs.stored_response import IdempotencyKey
from kiroworkers.offload.call import Runner, run_here
from kiroworkers.pool.agent_groups import AgentGroup, AgentGroups
from kiroworkers.pool.progress import Progress
from kiroworkers.request_record import OnRequestEvent
from kiroworkers.tasks import Task

#: Seconds that a server waits before it claims a job of which it was notified, if it has found
#: nothing before: at first, and at most after doubling.  Each job is for one of many servers, and
#: those that are always too late need not ask for each.
_FIRST_DELAY, _MAX_DELAY = 0.005, 0.05


class Claims(Protocol):
    """
    Distribute the jobs in the database.
    """

    def claim(self, wanted: Mapping[str, int]) -> Deferred[Sequence[ClaimedJob]]:
        """
        Claim the jobs that are next.

        Args:
            wanted: The largest number of jobs of each agent.

        Returns:
            The jobs.  The Deferred fails with `StorageUnavailable` while the database does.
        """

    def release(
        self, id: str, claims: int, attempts: int, failures: int, *, first: bool
    ) -> Deferred[None]:
        """
        Queue a job again, unless somebody has claimed it since.  This persists.

        Args:
            id: The job's id.
            claims: The number of the claim.
            attempts: How often a worker was asked.
            failures: How often that failed in a way that may be the job's own fault.
            first: Whether the job goes before all others of its client, or where it would be if
                it had arrived now.
        """

    def end(self, id: str, claims: int, attempts: int, result: Ended) -> Deferred[Job | None]:
        """
        Record the end of a job, unless somebody has claimed it since.  This persists.

        Args:
            id: The job's id.
            claims: The number of the claim.
            attempts: How often a worker was asked.
            result: How it has ended.

        Returns:
            The job; None if it was cancelled, deleted or claimed by another server.
        """


class ClaimEvents(Protocol):
    """
    Be told what happens to the jobs that this server has claimed; see `ClusterJobEvents`.
    """

    def report(self, id: str, progress: Progress) -> None:
        """
        Report the progress of a job that runs.
        """

    def retry(self, id: str, reason: str) -> None:
        """
        Report that a job will be run again.
        """

    def queue_again(self, id: str) -> None:
        """
        Report that a job waits until it is run again.
        """

    def begin(self, job: Job, claims: int, watched: bool) -> None:
        """
        Take note of a job that was claimed.
        """

    def complete(self, id: str) -> None:
        """
        Store the events of a job whose end is about to be stored.
        """

    def release(self, id: str) -> None:
        """
        Store the events of a job that is about to be given back.
        """

    def forget(self, id: str) -> None:
        """
        Drop a job that is not this server's any more.
        """

    def end(self, job: Job) -> None:
        """
        Take note of the end of a job, which is stored.
        """


@define(eq=False)
class _HeldJob(UnfinishedJob):
    """
    Represent a job that this server has claimed.

    Attributes:
        claims: The number of the claim.
        failures_before: How many earlier claims have failed.
        settling: Whether its end is being stored, so that it is not aborted any more.
        releasing: Whether it is being given back.
    """

    claims: int = field(kw_only=True)
    failures_before: int = field(kw_only=True)
    settling: bool = False
    releasing: bool = False

    def abort(self) -> None:
        """
        Interrupt the job if it runs.
        """
        if self.execution is not None and not self.settling:
            self.execution.cancel()


@define(eq=False)
class _Agent:
    """
    Hold the jobs of one agent that this server has claimed.

    Attributes:
        group: The agent and its pool.
        jobs: The jobs by their ids.
        pause: The end of a pause during which no job is claimed; None without a pause.
        in_outage: Whether the pause began because of an outage of the agent.
        may_wait: Whether jobs may wait in the database, as far as is known.
    """

    group: AgentGroup
    jobs: dict[str, _HeldJob] = field(factory=dict)
    pause: IDelayedCall | None = None
    in_outage: bool = False
    may_wait: bool = True

    @property
    def has_outage(self) -> bool:
        """
        Return whether the agent cannot answer.
        """
        return self.group.dispatcher.worker_pool.circuit_breaker.is_open

    def idle(self) -> int:
        """
        Return the number of sessions for which a job may be claimed.
        """
        if self.pause is not None:
            return 0
        starting = sum(not (job.running or job.settling) for job in self.jobs.values())
        return max(0, self.group.dispatcher.idle_slots() - starting)


class ClusterRunner(Service):
    """
    Claim jobs for the sessions that are idle, and run them.

    A claim comes after the ends that are to be stored before it, and none is made while the
    database fails.  So hardly more answers wait in memory than there are workers.

    Args:
        clock: Schedules calls.
        wall_clock: Returns the time in seconds since the epoch.
        groups: The agents and their pools.
        tasks: The tasks by their names.
        store: Holds the jobs.
        claims: Distributes them.
        limits: What may be stored.
        on_ended: Called with each job that has ended, or was cancelled, on this server.
        events: Told what happens to the jobs.
        may_claim: Returns whether the lease of this server is certain to run.
        queued: Returns how many jobs wait for any server.
        offload: Runs searches for answers that may take long.
        on_event: Called with the events of each attempt, as if it were a request; None if nobody
            observes them.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        wall_clock: WallClock,
        groups: AgentGroups,
        tasks: Mapping[str, Task],
        store: JobStore,
        claims: Claims,
        limits: JobLimits,
        on_ended: Callable[[Job], None],
        events: ClaimEvents,
        may_claim: Callable[[], bool],
        queued: Callable[[], QueuedJobs] = QueuedJobs,
        offload: Runner = run_here,
        on_event: OnRequestEvent | None = None,
    ) -> None:
        self._clock = clock
        self._wall_clock = wall_clock
        self._store = store
        self._claims = claims
        self._limits = limits
        self._on_ended = on_ended
        self._events = events
        self._may_claim = may_claim
        self._queued = queued
        self._attempts = JobAttempts(clock, wall_clock, tasks, offload, events, on_event)
        self._agents = {group.name: _Agent(group) for group in groups}
        self._stopping = False
        self._next_claim: IDelayedCall | None = None
        self._claiming = False
        # Grows with each claim that finds nothing.
        self._delay = 0.0
        # Fires when nothing is being claimed any more; None unless somebody waits for that.
        self._claimed: Deferred[None] | None = None

    def startService(self) -> None:
        """
        Claim jobs whenever a session is idle.
        """
        super().startService()
        for agent in self._agents.values():
            agent.group.dispatcher.on_idle = partial(self._on_idle, agent)
        self.wake()

    def stopService(self) -> Deferred[None] | None:
        """
        Give all jobs back.

        Returns:
            A Deferred that fires when no more jobs will be given back; None for at once.
        """
        super().stopService()
        self.requeue_running()
        if not self._claiming:
            return None
        self._claimed = Deferred()
        return self._claimed

    def counts(self) -> JobCounts:
        """
        Return how many jobs wait for any server, and how many run on this one.
        """
        queued = self._queued()
        running = sum(job.running for agent in self._agents.values() for job in agent.jobs.values())
        return JobCounts(queued.number, running, queued.oldest)

    def stop_dispatch(self) -> None:
        """
        Claim no more jobs, accept none, and give back those that no worker has.

        Running ones continue.
        """
        self._stopping = self._attempts.stopping = True
        if self._next_claim is not None:
            self._next_claim.cancel()
            self._next_claim = None
        for agent in self._agents.values():
            if agent.pause is not None:
                agent.pause.cancel()
                agent.pause = None
            for job in list(agent.jobs.values()):
                if not job.running:
                    job.abort()

    def requeue_running(self) -> None:
        """
        Give all jobs back, also those that run.
        """
        self.stop_dispatch()
        for agent in self._agents.values():
            for job in list(agent.jobs.values()):
                job.abort()

    # Which jobs there are.

    async def accept(
        self, job: Job, key: IdempotencyKey | None = None, fingerprint: str = ""
    ) -> tuple[Job, bool]:
        """
        Store a new job, to be run by any server; see `JobRunner.accept`.
        """
        if self._stopping:
            raise ShuttingDown()
        job = evolve(job, id=token_urlsafe(16), created=self._wall_clock())
        try:
            stored, is_new = await self._store.add(job, self._limits, key, fingerprint)
        except CancelledError:
            # The client has disconnected, so nobody was told of the job.
            self._store.withdraw(job.id).addErrback(self._ignore_unavailable)
            raise
        if is_new:
            self.on_queued(stored.agent)
            # This server need not wait until the others had their turn.
            self._schedule_claim()
        return stored, is_new

    def cancel(self, job: Job) -> Deferred[Job | None]:
        """
        Cancel an unfinished job, whether it waits or runs, here or on another server.

        Returns:
            A Deferred that fires with the job, or with None if it has ended meanwhile.
        """

        def on_cancelled(cancelled: Job | None) -> Job | None:
            if cancelled is not None:
                self._abort(cancelled.id)
                self._report_end(cancelled)
            return cancelled

        return shielded(self._store.cancel(job.id, self._wall_clock()).addCallback(on_cancelled))

    # What this server is told; see `JobHolder`.

    def held(self) -> HeldJobs:
        """
        Return the jobs that this server has claimed; part of `JobHolder`.
        """
        jobs = [job for agent in self._agents.values() for job in agent.jobs.values()]
        releasing = any(job.releasing for job in jobs)
        return HeldJobs(
            {job.id: job.claims for job in jobs if not job.releasing},
            not (self._claiming or releasing),
        )

    def lost(self, ids: Iterable[str]) -> None:
        """
        Abort jobs that are not this server's any more, if it has them; part of `JobHolder`.
        """
        for id in ids:
            if self._abort(id):
                self._events.forget(id)

    def wake(self) -> None:
        """
        Look whether jobs wait, for any agent; part of `JobHolder`.
        """
        for agent in self._agents.values():
            agent.may_wait = True
        self._schedule_claim()

    def on_cancelled(self, id: str) -> None:
        """
        Abort a job that was cancelled on any server, if this one runs it.
        """
        self.lost([id])

    def on_queued(self, name: str) -> None:
        """
        Take note that a job of the agent `name` waits.
        """
        agent = self._agents.get(name)
        if agent is None or self._stopping:
            return
        agent.may_wait = True
        if agent.pause is None and not agent.idle():
            # Perhaps the pool may have one more session.
            agent.group.dispatcher.expect(1)
        self._schedule_claim(self._delay)

    # How jobs are claimed.

    def _on_idle(self, agent: _Agent) -> None:
        if agent.pause is not None and agent.in_outage and not agent.has_outage:
            # It is over earlier than was thought.
            agent.pause.cancel()
            self._end_pause(agent)
        elif agent.may_wait:
            self._schedule_claim()

    def _schedule_claim(self, delay: float = 0.0) -> None:
        """
        Claim after `delay` seconds: sessions that become idle together get their jobs together.
        """
        if not self.running or self._stopping or self._claiming:
            return
        if self._next_claim is not None:
            if self._next_claim.getTime() <= self._clock.seconds() + delay:
                return
            self._next_claim.cancel()
        self._next_claim = self._clock.callLater(delay, self._claim)

    def _claim(self) -> None:
        self._next_claim = None
        if not self._may_claim():
            # The next heartbeat wakes this runner.
            return
        wanted = {
            name: number
            for name, agent in self._agents.items()
            if agent.may_wait and (number := agent.idle())
        }
        if not wanted:
            return
        for name in wanted:
            # Not later: what arrives meanwhile may not be among what is claimed.
            self._agents[name].may_wait = False
        self._claiming = True
        claimed = self._claims.claim(wanted).addCallback(self._on_claimed, wanted)
        claimed.addErrback(self._on_claim_failed, wanted).addCallback(self._on_claim_over)

    def _on_claimed(self, claimed: Sequence[ClaimedJob], wanted: Mapping[str, int]) -> bool:
        """
        Start what was claimed, and return whether it is worthwhile to claim again.
        """
        self._delay = 0.0 if claimed else min(_MAX_DELAY, max(_FIRST_DELAY, 2 * self._delay))
        for job in claimed:
            self._start(job)
        for name, number in wanted.items():
            found = sum(job.job.agent == name for job in claimed)
            if found >= number:
                # Perhaps more jobs wait, and the pool may have more sessions.
                agent = self._agents[name]
                agent.may_wait = True
                agent.group.dispatcher.expect(found)
        return any(agent.may_wait and agent.idle() for agent in self._agents.values())

    def _on_claim_failed(self, failure: Failure, wanted: Mapping[str, int]) -> bool:
        for name in wanted:
            self._agents[name].may_wait = True
        self._ignore_unavailable(failure)
        # The next heartbeat wakes this runner.
        return False

    def _on_claim_over(self, again: bool) -> None:
        self._claiming = False
        if self._claimed is not None:
            self._claimed.callback(None)
        elif again:
            self._schedule_claim(self._delay)

    # How they run.

    def _start(self, claimed: ClaimedJob) -> None:
        job = claimed.job
        held = _HeldJob(
            job.id,
            job.client,
            attempts=job.attempts - 1,
            failures=claimed.failures - 1,
            claims=claimed.claims,
            failures_before=claimed.failures - 1,
        )
        agent = self._agents[job.agent]
        agent.jobs[job.id] = held
        self._events.begin(job, claimed.claims, claimed.watched)
        execution = Deferred.fromCoroutine(self._run(agent, held, job))
        held.execution = execution
        execution.addBoth(self._on_run_over, agent, held)

    def _on_run_over(self, pause: float | Failure | None, agent: _Agent, held: _HeldJob) -> None:
        """
        Release the place of a job, and pause its agent if its pool has rejected it.

        Args:
            pause: The seconds of the pause; None for none; or an unexpected failure.
            agent: The job's agent.
            held: The job.
        """
        if agent.jobs.get(held.id) is held:
            del agent.jobs[held.id]
        if isinstance(pause, Failure):
            # The server stops while its storage fails: the others take the job.
            if pause.check(CancelledError, StorageUnavailable) is None:
                self._log.failure("job {id}: internal error", pause, id=held.id)
        elif pause and agent.pause is None and not self._stopping:
            agent.pause = self._clock.callLater(pause, self._end_pause, agent)
            agent.in_outage = agent.has_outage
        self._on_idle(agent)

    def _end_pause(self, agent: _Agent) -> None:
        agent.pause = None
        agent.may_wait = True
        self._schedule_claim()

    async def _run(self, agent: _Agent, held: _HeldJob, job: Job) -> float | None:
        """
        Run a job, and record its end, or give it back.

        Returns:
            The seconds for which the agent gets no jobs; None for none.
        """
        outcome = await self._attempt(agent, held, job)
        if held.cancelled:
            return None
        if isinstance(outcome, Ended):
            held.settling = True
            self._events.complete(held.id)
            stored = await self._claims.end(held.id, held.claims, held.attempts, outcome)
            if stored is None:
                # It was cancelled, or another server has begun it anew.
                self._events.forget(held.id)
            else:
                self._report_end(evolve(stored, result=outcome.result))
            return None
        assert isinstance(outcome, Postponed), "a claimed job has not ended"
        held.settling = held.releasing = True
        self._events.release(held.id)
        # A failed job may itself be why its turn failed, and must not delay the others for ever.
        failed = held.running and outcome.delay > 0
        await self._claims.release(
            held.id, held.claims, held.attempts, held.failures, first=not failed
        )
        return outcome.delay or None

    async def _attempt(self, agent: _Agent, held: _HeldJob, job: Job) -> Outcome:
        if self._stopping or not self._may_claim():
            # If it took long to learn of the claim, another server may have done the job already.
            return Postponed(0.0)
        if held.failures_before >= MAX_ATTEMPTS:
            lost = SessionLost("the server stopped each time", held.attempts)
            return Ended("failed", job_failure(lost))

        async def load() -> Job:
            return job

        def on_queued() -> None:
            # Not at once: the pool is still at it.
            self._clock.callLater(0, give_back)

        def give_back() -> None:
            if not held.running:
                held.abort()

        return await self._attempts.run(
            agent.group, held, load, lambda: None, on_queued, self._may_claim
        )

    def _abort(self, id: str) -> bool:
        """
        Abort the job `id` without storing anything; return whether this server had it.
        """
        for agent in self._agents.values():
            held = agent.jobs.get(id)
            if held is not None:
                if held.settling:
                    # What is being stored finds out whether it still applies.
                    return False
                held.cancelled = True
                held.abort()
                return True
        return False

    def _report_end(self, job: Job) -> None:
        """
        Report a job that has ended, whose end is stored.
        """
        self._events.end(job)
        self._on_ended(job)

    def _ignore_unavailable(self, failure: Failure) -> None:
        """
        Ignore that the database fails, which is logged elsewhere; log everything else.
        """
        if failure.check(StorageUnavailable, CancelledError) is None:
            self._log.failure("cannot store the state of a job", failure)
