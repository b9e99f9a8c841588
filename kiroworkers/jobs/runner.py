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

from attrs import define, evolve, field
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from kiroworkers.errors import (
    AgentUnavailable,
    DeadlineUnachievable,
    ErrorCode,
    InvalidInput,
    NoWorkerFree,
    SessionLost,
    ShuttingDown,
    TooManyJobs,
    UnknownTask,
    WorkError,
)
from kiroworkers.execution import execute
from kiroworkers.jobs.job import Job, JobAnswer, JobFailure, JobState
from kiroworkers.jobs.store import JobStore
from kiroworkers.jobs.stored_response import IdempotencyKey
from kiroworkers.pool.agent_groups import AgentGroup, AgentGroups
from kiroworkers.pool.dispatcher import RequestOptions
from kiroworkers.pool.fair_queue import FairQueue
from kiroworkers.pool.progress import Progress, Started
from kiroworkers.tasks import Task

#: Seconds of earlier arrival that one step of priority is worth.
_HEAD_START = 60.0

#: The maximum number of attempts of a job.  A job that was running when so many servers
#: ended may be the reason why they did.
_MAX_ATTEMPTS = 10

#: Seconds for which an agent gets no jobs after its pool rejected one: the minimum, the
#: maximum, and the number if the pool did not suggest one.
_MIN_PAUSE, _MAX_PAUSE, _DEFAULT_PAUSE = 1, 300, 60


@define(eq=False)
class _AgentQueue:
    """
    Hold the unfinished jobs of one agent.

    Attributes:
        group: The agent and its pool.
        waiting: The ids of the jobs that wait.
        running: The execution of each running job, by the job's id.
        pause: The end of a pause during which no job is started; None without a pause.
    """

    group: AgentGroup
    waiting: FairQueue[str] = field(factory=lambda: FairQueue(_HEAD_START))
    running: dict[str, Deferred[float | None]] = field(factory=dict)
    pause: IDelayedCall | None = None

    @property
    def can_start(self) -> bool:
        """
        Return whether a job waits and may be started now.
        """
        return (
            self.pause is None
            and len(self.waiting) > 0
            and len(self.running) < self.group.dispatcher.autoscale_policy.max_workers
        )


class JobRunner(Service):
    """
    Run the jobs in a store.

    Args:
        clock: Tells the time and schedules calls.
        groups: The agents and their pools.
        tasks: The tasks by their names.
        store: Holds the jobs.  It must be open when the service starts.
        limit: The maximum number of unfinished jobs.
        on_ended: Called with each job that has ended.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        groups: AgentGroups,
        tasks: Mapping[str, Task],
        store: JobStore,
        limit: int,
        on_ended: Callable[[Job], None],
    ) -> None:
        self._clock = clock
        self._tasks = tasks
        self._store = store
        self._limit = limit
        self._on_ended = on_ended
        self._queues = {group.name: _AgentQueue(group) for group in groups}
        self._stopping = False

    def startService(self) -> None:
        """
        Queue the unfinished jobs in the store, and start as many as the pools can run.
        """
        super().startService()
        for job in self._store.unfinished():
            if job.agent not in self._queues:
                self._fail(
                    job.id, InvalidInput("agent", f"This server no longer runs agent {job.agent}")
                )
            elif job.state == "running" and job.attempts >= _MAX_ATTEMPTS:
                self._fail(job.id, SessionLost("the server stopped each time", job.attempts))
            else:
                self._store.requeue(job.id)
                self._enqueue(job)
        for queue in self._queues.values():
            self._start_jobs(queue)

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
            for id, execution in list(queue.running.items()):
                job = self._store.get(id)
                if job is None or job.state == "queued":
                    execution.cancel()

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
            for execution in list(queue.running.values()):
                execution.cancel()

    def accept(self, job: Job, key: IdempotencyKey | None = None, fingerprint: str = "") -> Job:
        """
        Store a new job, and return it with its id and its time of creation.

        Once this has returned, the job will be run even if the server is restarted.

        Args:
            job: The job, without an id.
            key: The idempotency key of the request, if it had one.
            fingerprint: Identifies what was asked under the key.

        Raises:
            TooManyJobs: The limit of unfinished jobs is reached.
            ShuttingDown: The server accepts no more jobs.
        """
        if self._stopping:
            raise ShuttingDown()
        if self._store.count_unfinished() >= self._limit:
            raise TooManyJobs(self._limit, _DEFAULT_PAUSE)
        job = evolve(job, id=token_urlsafe(16), created=self._clock.seconds())
        self._store.add(job, key, fingerprint)
        self._start_jobs(self._enqueue(job))
        return self.find(job.id) or job

    def find(self, id: str) -> Job | None:
        """
        Return the job `id`, or None if there is none.
        """
        return self._store.get(id)

    def cancel(self, job: Job) -> None:
        """
        Cancel an unfinished job, whether it waits or runs.
        """
        queue = self._queues[job.agent]
        queue.waiting.remove(job.id)
        self._end(job.id, "cancelled", None)
        execution = queue.running.get(job.id)
        if execution is not None:
            execution.cancel()

    def _enqueue(self, job: Job) -> _AgentQueue:
        queue = self._queues[job.agent]
        queue.waiting.add(job.id, job.client, job.priority, job.created)
        return queue

    def _start_jobs(self, queue: _AgentQueue) -> None:
        """
        Start as many jobs as the pool has workers for.
        """
        while not self._stopping and queue.can_start:
            id = queue.waiting.pop()
            job = self._store.get(id)
            assert job is not None and job.unfinished, "it was waiting"
            execution = Deferred.fromCoroutine(self._run(queue.group, job))
            queue.running[id] = execution
            execution.addBoth(self._on_run_finished, queue, job)

    def _on_run_finished(
        self, retry_delay: float | Failure | None, queue: _AgentQueue, job: Job
    ) -> None:
        """
        Release the place of `job`, and queue it again if it is to be retried.

        Args:
            retry_delay: Seconds after which to retry, None if the job has ended, or an
                unexpected failure.
            queue: The job's queue.
            job: The job that was run.
        """
        del queue.running[job.id]
        queue.waiting.end_turn(job.client)
        if isinstance(retry_delay, Failure):
            # The job stays in the store as it is, and the next server runs it again.
            self._log.failure("job {id}: internal error", retry_delay, id=job.id)
            retry_delay = None
        if retry_delay is not None and not self._stopping:
            queue.waiting.put_back(job.id, job.client, job.priority)
            if queue.pause is None:
                queue.pause = self._clock.callLater(retry_delay, self._end_pause, queue)
        # Not immediately: many jobs that end at once would recurse.
        self._clock.callLater(0, self._start_jobs, queue)

    def _end_pause(self, queue: _AgentQueue) -> None:
        queue.pause = None
        self._start_jobs(queue)

    async def _run(self, group: AgentGroup, job: Job) -> float | None:
        """
        Run `job`, and record its end if it has ended.

        Returns:
            None if the job has ended, or else the seconds after which to retry it.
        """

        def on_progress(progress: Progress) -> None:
            if isinstance(progress, Started):
                try:
                    self._store.mark_started(job.id)
                except Exception:
                    # An exception would stop the dispatcher; the job can go on without this.
                    self._log.failure("job {id}: cannot record that it started", id=job.id)

        options = RequestOptions(job.timeout, job.priority, job.client, job.task)
        try:
            task = self._tasks.get(job.task)
            if task is None:
                raise UnknownTask(job.task)
            # The task may have changed since the job was accepted.
            result = await execute(group, task, task.accept(job.payload), options, on_progress)
        except CancelledError:
            stored = self._store.get(job.id)
            if stored is not None and stored.unfinished:
                self._store.requeue(job.id)
                return 0
        except WorkError as error:
            delay = _retry_delay(error, job)
            if delay is None:
                self._fail(job.id, error)
                return None
            self._store.requeue(job.id)
            return delay
        except Exception:
            self._log.failure("job {id}: internal error", id=job.id)
            failure = JobFailure(ErrorCode.FAULT, "Internal server error")
            self._end(job.id, "failed", failure)
        else:
            answer = JobAnswer(
                result.answer.value,
                result.worker,
                result.attempts,
                result.repairs,
                result.seconds,
            )
            self._end(job.id, "done", answer)
        return None

    def _fail(self, id: str, error: WorkError) -> None:
        failure = JobFailure(error.code, str(error), error.retry_after, error.details)
        self._end(id, "failed", failure)

    def _end(self, id: str, state: JobState, result: JobAnswer | JobFailure | None) -> None:
        self._store.mark_ended(id, state, result, self._clock.seconds())
        job = self._store.get(id)
        assert job is not None, "it was in the store a moment ago"
        self._on_ended(job)


def _retry_delay(error: WorkError, job: Job) -> float | None:
    """
    Return the seconds after which to retry `job`, or None if `error` is final.
    """
    match error:
        case DeadlineUnachievable() if job.timeout is not None:
            return None
        case NoWorkerFree(retry_after=seconds) | DeadlineUnachievable(retry_after=seconds):
            pass
        case AgentUnavailable(retry_after=seconds):
            pass
        case ShuttingDown():
            seconds = None
        case _:
            return None
    delay = _DEFAULT_PAUSE if seconds is None else seconds
    return float(min(max(delay, _MIN_PAUSE), _MAX_PAUSE))
