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
    AgentPerhapsUnavailable,
    DeadlineUnachievable,
    ErrorCode,
    FailureKind,
    InvalidInput,
    SessionLost,
    ShuttingDown,
    StorageUnavailable,
    UnknownModel,
    UnknownTask,
    WorkError,
)
from kiroworkers.execution import accept, execute
from kiroworkers.jobs.job import Job, JobAnswer, JobFailure, JobState
from kiroworkers.jobs.job_events import JobEvents
from kiroworkers.jobs.store import JobLimits, JobStore
from kiroworkers.jobs.stored_response import IdempotencyKey
from kiroworkers.offload.call import Runner, run_here
from kiroworkers.pool.agent_groups import AgentGroup, AgentGroups
from kiroworkers.pool.dispatcher import RequestOptions
from kiroworkers.pool.fair_queue import FairQueue
from kiroworkers.pool.progress import Progress, Started
from kiroworkers.request_record import CLIENT_CLOSED_REQUEST, OnRequestEvent, RequestRecord
from kiroworkers.tasks import Task
from kiroworkers.telemetry.access_log import write_record
from kiroworkers.trace_context import parse_traceparent

#: Seconds of earlier arrival that one step of priority is worth.
_HEAD_START = 60.0

#: The maximum number of attempts of a job.  A job that was running when so many servers
#: ended may be the reason why they did.
_MAX_ATTEMPTS = 10

#: Seconds for which an agent gets no jobs after its pool rejected one: the minimum, the
#: maximum, and the number if the pool did not suggest one.
_MIN_PAUSE, _MAX_PAUSE, _DEFAULT_PAUSE = 1, 300, 60

#: Seconds for which an agent gets no jobs while the storage fails.
_STORAGE_PAUSE = 5.0

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
class _UnfinishedJob:
    """
    Represent an unfinished job, whether it waits or runs.

    Attributes:
        id: The job's id.
        client: The client that owns it.
        priority: From 0 (least urgent) to 9.
        arrived: When it was created, in seconds since the epoch.
        running: Whether a worker has it.
        attempts: The number of times that a worker was asked.
        failures: How often its turn failed in a way that may be its own fault.
        cancelled: Whether its client cancelled it.
        execution: Fires when the job has been run; None while it waits.
    """

    id: str
    client: str
    priority: int
    arrived: float
    running: bool = False
    attempts: int = 0
    failures: int = 0
    cancelled: bool = False
    execution: Deferred[float | None] | None = None


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
    jobs: dict[str, _UnfinishedJob] = field(factory=dict)
    waiting: FairQueue[_UnfinishedJob] = field(factory=lambda: FairQueue(_HEAD_START))
    started: set[_UnfinishedJob] = field(factory=set)
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
        store: JobStore,
        limits: JobLimits,
        on_ended: Callable[[Job], None],
        offload: Runner = run_here,
        events: JobEvents | None = None,
        on_event: OnRequestEvent | None = None,
    ) -> None:
        self._clock = clock
        self._events = JobEvents(clock) if events is None else events
        self._on_event = on_event
        self._offload = offload
        self._wall_clock = wall_clock
        self._tasks = tasks
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
        elif job.state == "running" and job.attempts >= _MAX_ATTEMPTS:
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
        self._stopping = True
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

    def _enqueue(self, job: Job) -> _UnfinishedJob:
        queue = self._queues[job.agent]
        # A job that seems to come from the future must not wait until then.
        arrived = min(job.created, self._wall_clock())
        unfinished = _UnfinishedJob(
            job.id, job.client, job.priority, arrived, attempts=job.attempts
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
        self, retry_delay: float | Failure | None, queue: _AgentQueue, job: _UnfinishedJob
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
        self, group: AgentGroup, unfinished: _UnfinishedJob, job: Job | None
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
        record = RequestRecord(
            user=unfinished.client,
            method="JOB",
            path=f"/jobs/{unfinished.id}",
            protocol="-",
            agent=group.name,
            job=unfinished.id,
            client=unfinished.client,
            on_event=self._on_event,
        )
        began = self._clock.seconds()
        ended = await self._execute(group, unfinished, job, record)
        record.total = self._clock.seconds() - began
        if isinstance(ended, tuple) or record.worker is not None:
            write_record(record, self._wall_clock())
        if record.task is not None:
            record.report("ended", status=record.status, total=record.total)
        if ended is None:
            return None
        if isinstance(ended, float):
            if record.worker is not None and not (self._stopping or unfinished.cancelled):
                why = "it was interrupted" if record.code is None else f"it failed ({record.code})"
                self._events.retry(unfinished.id, f"{why}, and is run again later")
                self._events.queue_again(unfinished.id)
            await self._store.requeue(unfinished.id)
            return ended
        state, result = ended
        stored = await self._store.mark_ended(unfinished.id, state, result, self._wall_clock())
        if stored is not None:
            self._report_end(stored)
        return None

    async def _execute(
        self,
        group: AgentGroup,
        unfinished: _UnfinishedJob,
        job: Job | None,
        record: RequestRecord,
    ) -> float | tuple[JobState, JobAnswer | JobFailure] | None:
        """
        Ask the agent to do a job.

        Args:
            group: The agent to use, and its pool.
            unfinished: The job.
            job: The job as it is stored; None if it must be read.
            record: Filled in, for the log.

        Returns:
            The job's final state and its result; or the seconds after which to retry it; or
            None if it has ended before.
        """

        def on_progress(progress: Progress) -> None:
            if isinstance(progress, Started):
                unfinished.running = True
                unfinished.attempts += 1
                started = self._store.mark_started(unfinished.id, unfinished.attempts)
                started.addErrback(self._ignore_unavailable)
            self._events.report(unfinished.id, progress)

        try:
            if job is None:
                if self._store.status.reason is not None:
                    # The answer could not be stored.
                    return _STORAGE_PAUSE
                job = await self._store.get(unfinished.id)
                if job is None or not job.unfinished:
                    return None
            record.task, record.model = job.task, job.model or None
            record.id, record.trace = job.request_id, parse_traceparent(job.traceparent)
            record.report("received", method="JOB", path=record.path)
            options = RequestOptions(
                job.timeout, job.priority, job.client, job.task, record, job.model
            )
            task = self._tasks.get(job.task)
            if task is None:
                raise UnknownTask(job.task)
            if job.model and not group.offers_model(job.model):
                # The job was accepted by a server with another version of the agent.
                raise UnknownModel("model", job.model, group.name)
            # The task may have changed since the job was accepted.
            payload, options = await accept(task, job.payload, options, self._offload, self._clock)
            result = await execute(group, task, payload, options, on_progress, self._offload)
        except CancelledError:
            record.status, record.aborted = CLIENT_CLOSED_REQUEST, True
            record.report("cancelled")
            return 0.0
        except StorageUnavailable:
            return _STORAGE_PAUSE
        except WorkError as error:
            assert job is not None, "it was read"
            record.status = error.code.status
            record.fail(error.code.value, str(error))
            delay = _retry_delay(error, job)
            if unfinished.running and _may_repeat(error):
                unfinished.failures += 1
                delay = None if unfinished.failures >= _MAX_ATTEMPTS else delay
            return ("failed", _failure(error)) if delay is None else delay
        except Exception:
            self._log.failure(
                "job {id}: internal error (request {requestId})",
                log_without_message=True,
                id=unfinished.id,
                requestId=record.id,
            )
            failure = JobFailure(ErrorCode.FAULT, "Internal server error")
            record.status = ErrorCode.FAULT.status
            record.fail(ErrorCode.FAULT.value, str(failure))
            return "failed", failure
        record.status = 200
        answer = JobAnswer(
            result.answer.value,
            result.worker,
            result.attempts,
            result.repairs,
            result.seconds,
            result.credits,
            result.reply.usage.context_percent,
        )
        return "done", answer

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
        ended = self._store.mark_ended(id, "failed", _failure(error), self._wall_clock())
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


def _failure(error: WorkError) -> JobFailure:
    return JobFailure(error.code, str(error), error.retry_after, error.details)


def _may_repeat(error: WorkError) -> bool:
    """
    Return whether the turn of a job may end with `error` each time because of the job itself.
    """
    return isinstance(error, AgentPerhapsUnavailable) or error.code is FailureKind.STREAM_TIMEOUT


def _retry_delay(error: WorkError, job: Job) -> float | None:
    """
    Return the seconds after which to retry `job`, or None if `error` is final.
    """
    own_deadline = isinstance(error, DeadlineUnachievable) and job.timeout is not None
    if own_deadline or not error.code.retryable:
        return None
    delay = _DEFAULT_PAUSE if error.retry_after is None else error.retry_after
    return float(min(max(delay, _MIN_PAUSE), _MAX_PAUSE))
