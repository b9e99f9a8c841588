"""
Run the jobs of each agent in fair order.

A job runs at least once: a job that a server did not finish is run again by the next
one.  Jobs wait in the store rather than in the pool.  A pool is given no more jobs at a
time than it has workers, so that its queue still has space for the requests of clients
that wait for their answers.  A job waits as long as its pool rejects it temporarily, for
example because of a full queue or because the agent is not logged in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from secrets import token_urlsafe
from typing import TypeVar

from attrs import define, evolve, field, frozen
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from kiroworkers.clocks import WallClock
from kiroworkers.errors import (
    InvalidInput,
    SessionLost,
    ShuttingDown,
    StorageUnavailable,
    WorkError,
)
from kiroworkers.jobs.attempts import (
    MAX_ATTEMPTS,
    Ended,
    JobAttempts,
    Postponed,
    UnfinishedJob,
    job_failure,
)
from kiroworkers.jobs.job import HEAD_START, Job
from kiroworkers.jobs.job_events import JobEvents
from kiroworkers.jobs.store import JobLimits, QueueStore
from kiroworkers.jobs.stored_response import IdempotencyKey
from kiroworkers.offload.call import Runner, run_here
from kiroworkers.pool.agent_groups import AgentGroup, AgentGroups
from kiroworkers.pool.fair_queue import FairQueue
from kiroworkers.request_record import OnRequestEvent
from kiroworkers.tasks import Task

#: The number of stored jobs that are queued at a time, so that other events are handled in
#: between.
_BATCH_SIZE = 200

T = TypeVar("T")


@frozen
class JobCounts:
    """
    Hold how many jobs are unfinished at one moment.

    Attributes:
        queued: The number of jobs that wait.
        running: The number of jobs that a worker has.
        oldest: The age of the oldest job that waits, in seconds; 0 if none does.
    """

    queued: int
    running: int
    oldest: float


@define(eq=False)
class _QueuedJob(UnfinishedJob):
    """
    Represent an unfinished job in the queue of its agent.

    Attributes:
        priority: From 0 (least urgent) to 9.
        arrived: When it was created, in seconds since the epoch.
    """

    priority: int = field(kw_only=True)
    arrived: float = field(kw_only=True)


@define(eq=False)
class _AgentQueue:
    """
    Hold the unfinished jobs of one agent.

    Attributes:
        group: The agent and its pool.
        jobs: All jobs by their ids.
        waiting: Those that wait.
        started: Those that were given to the pool, or whose end is being stored.
        pause: The end of a pause during which no job is started; None without a pause.
    """

    group: AgentGroup
    jobs: dict[str, _QueuedJob] = field(factory=dict)
    waiting: FairQueue[_QueuedJob] = field(factory=lambda: FairQueue(HEAD_START))
    started: set[_QueuedJob] = field(factory=set)
    pause: IDelayedCall | None = None

    @property
    def can_start(self) -> bool:
        """
        Return whether a job waits and may be started now.
        """
        return (
            self.pause is None
            and len(self.waiting) > 0
            and len(self.started) < self.group.dispatcher.autoscale_policy.max_workers
        )


class JobRunner(Service):
    """
    Run the jobs in a store.

    A job occupies its place until its end has been stored.  So while the storage fails, no
    more answers wait in memory than there are workers, and no more jobs are started.

    Args:
        clock: Schedules calls.
        wall_clock: Returns the time in seconds since the epoch.
        groups: The agents and their pools.
        tasks: The tasks by their names.
        store: Holds the jobs.  It must be open when the service starts.
        limits: What may be stored.
        on_ended: Called with each job that has ended.
        offload: Runs searches for answers that may take long.
        events: Told what happens to the jobs, for those who listen; None if nobody does.
        on_event: Called with the events of each execution of a job, as if it were a request;
            None if nobody observes them.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        wall_clock: WallClock,
        groups: AgentGroups,
        tasks: Mapping[str, Task],
        store: QueueStore,
        limits: JobLimits,
        on_ended: Callable[[Job], None],
        offload: Runner = run_here,
        events: JobEvents | None = None,
        on_event: OnRequestEvent | None = None,
    ) -> None:
        self._clock = clock
        self._events = JobEvents(clock) if events is None else events
        self._attempts = JobAttempts(clock, wall_clock, tasks, offload, self._events, on_event)
        self._wall_clock = wall_clock
        self._store = store
        self._limits = limits
        self._on_ended = on_ended
        self._queues = {group.name: _AgentQueue(group) for group in groups}
        self._stopping = False

    def startService(self) -> None:
        """
        Queue the unfinished jobs in the store, and start as many as the pools can run.
        """
        super().startService()
        Deferred.fromCoroutine(self._resume()).addErrback(self._ignore_unavailable)

    async def _resume(self) -> None:
        for number, job in enumerate(await self._store.unfinished(), 1):
            if self._stopping:
                return
            self._queue_unfinished(job)
            if number % _BATCH_SIZE == 0:
                await deferLater(self._clock, 0)
        for queue in self._queues.values():
            self._start_jobs(queue)

    def _queue_unfinished(self, job: Job) -> None:
        """
        Queue a job that an earlier server left, unless it cannot be run.
        """
        queue = self._queues.get(job.agent)
        if queue is None:
            problem = f"This server no longer runs agent {job.agent}"
            self._fail(job.id, InvalidInput("agent", problem))
        elif job.state == "running" and job.attempts >= MAX_ATTEMPTS:
            self._fail(job.id, SessionLost("the server stopped each time", job.attempts))
        elif job.id not in queue.jobs:
            # Otherwise it was accepted meanwhile.
            if job.state == "running":
                self._store.requeue(job.id).addErrback(self._ignore_unavailable)
            self._events.resume(job)
            self._enqueue(job)

    def counts(self) -> JobCounts:
        """
        Return how many jobs are unfinished.
        """
        queued = running = 0
        oldest = now = self._wall_clock()
        for queue in self._queues.values():
            for job in queue.jobs.values():
                if job.running:
                    running += 1
                else:
                    queued += 1
                    oldest = min(oldest, job.arrived)
        return JobCounts(queued, running, now - oldest)

    def stop_dispatch(self) -> None:
        """
        Start no more jobs, and accept none.

        Jobs that wait, here or in a pool, stay in the store.  Running ones continue.
        """
        self._stopping = self._attempts.stopping = True
        for queue in self._queues.values():
            if queue.pause is not None:
                queue.pause.cancel()
                queue.pause = None
            for job in list(queue.started):
                if not job.running and job.execution is not None:
                    job.execution.cancel()

    def stopService(self) -> None:
        """
        Leave all unfinished jobs to the next server.
        """
        super().stopService()
        self.requeue_running()

    def requeue_running(self) -> None:
        """
        Stop dispatching, and cancel the running jobs so that the next server runs them.
        """
        self.stop_dispatch()
        for queue in self._queues.values():
            for job in list(queue.started):
                if job.execution is not None:
                    job.execution.cancel()

    async def accept(
        self, job: Job, key: IdempotencyKey | None = None, fingerprint: str = ""
    ) -> tuple[Job, bool]:
        """
        Store a new job, and return it with its id and its time of creation.

        If a job was created under the same idempotency key, return that one instead.  Once
        this has returned, the job will be run even if the server is restarted.

        Args:
            job: The job, without an id.
            key: The idempotency key of the request, if it had one.
            fingerprint: Identifies what was asked under the key.

        Returns:
            The job, and whether it is new.

        Raises:
            IdempotencyKeyMismatch: The key was used for a different request.
            TooManyJobs: The limit of unfinished jobs is reached.
            JobsTooLarge: The limit of the jobs' size is reached.
            ShuttingDown: The server accepts no more jobs.
            StorageUnavailable: The job cannot be stored.
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
        if is_new and not self._stopping:
            unfinished = self._enqueue(stored)
            self._start_jobs(self._queues[stored.agent], stored)
            if unfinished.running:
                attempts = unfinished.attempts
                stored = evolve(stored, state="running", attempts=attempts, position=None)
        return stored, is_new

    def cancel(self, job: Job) -> Deferred[Job | None]:
        """
        Cancel an unfinished job, whether it waits or runs.

        Returns:
            A Deferred that fires with the job, or with None if it has ended meanwhile.
        """

        def on_cancelled(cancelled: Job | None) -> Job | None:
            if cancelled is not None:
                self._forget(cancelled)
                self._report_end(cancelled)
            return cancelled

        return shielded(self._store.cancel(job.id, self._wall_clock()).addCallback(on_cancelled))

    def _forget(self, job: Job) -> None:
        """
        Remove a job that was cancelled from its queue, and interrupt it if it runs.
        """
        queue = self._queues.get(job.agent)
        unfinished = None if queue is None else queue.jobs.get(job.id)
        if queue is None or unfinished is None:
            return
        unfinished.cancelled = True
        if queue.waiting.remove(unfinished):
            del queue.jobs[job.id]
        elif unfinished.execution is not None:
            unfinished.execution.cancel()

    def _enqueue(self, job: Job) -> _QueuedJob:
        queue = self._queues[job.agent]
        # A job that seems to come from the future must not wait until then.
        arrived = min(job.created, self._wall_clock())
        unfinished = _QueuedJob(
            job.id, job.client, attempts=job.attempts, priority=job.priority, arrived=arrived
        )
        queue.jobs[job.id] = unfinished
        queue.waiting.add(unfinished, job.client, job.priority, arrived)
        return unfinished

    def _start_jobs(self, queue: _AgentQueue, new_job: Job | None = None) -> None:
        """
        Start as many jobs as the pool has workers for.

        Args:
            queue: The jobs of an agent.
            new_job: A job in `queue` that need not be read again from the store.
        """
        while not self._stopping and queue.can_start:
            job = queue.waiting.pop()
            queue.started.add(job)
            known = new_job if new_job is not None and new_job.id == job.id else None
            execution = Deferred.fromCoroutine(self._run(queue.group, job, known))
            job.execution = execution
            execution.addBoth(self._on_run_finished, queue, job)

    def _on_run_finished(
        self, retry_delay: float | Failure | None, queue: _AgentQueue, job: _QueuedJob
    ) -> None:
        """
        Release the place of `job`, and queue it again if it is to be retried.

        Args:
            retry_delay: Seconds after which to retry, None if the job has ended, or an
                unexpected failure.
            queue: The job's queue.
            job: The job that was run.
        """
        queue.started.remove(job)
        queue.waiting.end_turn(job.client)
        was_asked, job.running, job.execution = job.running, False, None
        if isinstance(retry_delay, Failure):
            # The server stops; what was to be stored is stored before the store is closed, and
            # otherwise the next server runs the job again.
            if retry_delay.check(CancelledError, StorageUnavailable) is None:
                self._log.failure("job {id}: internal error", retry_delay, id=job.id)
            retry_delay = None
        if retry_delay is None or job.cancelled:
            del queue.jobs[job.id]
        elif not self._stopping:
            if was_asked:
                # It may itself be why its turn failed, and must not delay the others for ever.
                queue.waiting.add(job, job.client, job.priority, self._wall_clock())
            else:
                queue.waiting.put_back(job, job.client, job.priority)
            if queue.pause is None:
                queue.pause = self._clock.callLater(retry_delay, self._end_pause, queue)
        # Not immediately: many jobs that end at once would recurse.
        self._clock.callLater(0, self._start_jobs, queue)

    def _end_pause(self, queue: _AgentQueue) -> None:
        queue.pause = None
        self._start_jobs(queue)

    async def _run(
        self, group: AgentGroup, unfinished: _QueuedJob, job: Job | None
    ) -> float | None:
        """
        Run a job, and record its end if it has ended.

        Args:
            group: The agent to use, and its pool.
            unfinished: The job.
            job: The job as it is stored; None if it must be read.

        Returns:
            None if the job has ended, or else the seconds after which to retry it.
        """

        async def load() -> Job | None:
            if job is not None:
                return job
            # Otherwise the answer could not be stored.
            self._store.check_available()
            return await self._store.get(unfinished.id)

        def on_started() -> None:
            started = self._store.mark_started(unfinished.id, unfinished.attempts)
            started.addErrback(self._ignore_unavailable)

        outcome = await self._attempts.run(group, unfinished, load, on_started)
        match outcome:
            case Postponed(delay):
                await self._store.requeue(unfinished.id)
                return delay
            case Ended(state, result):
                ended = await self._store.mark_ended(
                    unfinished.id, state, result, self._wall_clock()
                )
                if ended is not None:
                    self._report_end(ended)
        return None

    def _report_end(self, job: Job) -> None:
        """
        Report a job that has ended, whose end is stored.
        """
        self._events.end(job)
        self._on_ended(job)

    def _fail(self, id: str, error: WorkError) -> None:
        """
        Record that a job that is in no queue has failed.
        """
        ended = self._store.mark_ended(id, "failed", job_failure(error), self._wall_clock())
        ended.addCallback(lambda job: None if job is None else self._report_end(job))
        ended.addErrback(self._ignore_unavailable)

    def _ignore_unavailable(self, failure: Failure) -> None:
        """
        Ignore that the server stops while its storage fails; log everything else.
        """
        if failure.check(StorageUnavailable) is None:
            self._log.failure("cannot store the state of a job", failure)


def shielded(pending: Deferred[T]) -> Deferred[T]:
    """
    Return a Deferred that fires with the result of `pending`, and can be cancelled alone.
    """

    def forward(result: T | Failure) -> None:
        if not outer.called:
            outer.callback(result)

    outer: Deferred[T] = Deferred()
    pending.addBoth(forward)
    return outer
