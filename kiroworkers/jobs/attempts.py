"""
Ask agents to do jobs, one attempt at a time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

from attrs import define, frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from kiroworkers.clocks import WallClock
from kiroworkers.errors import (
    AgentPerhapsUnavailable,
    DeadlineUnachievable,
    ErrorCode,
    FailureKind,
    StorageUnavailable,
    UnknownModel,
    UnknownTask,
    WorkError,
)
from kiroworkers.execution import accept, execute
from kiroworkers.jobs.job import Job, JobAnswer, JobFailure, JobState
from kiroworkers.jobs.job_events import JobProgress
from kiroworkers.offload.call import Runner
from kiroworkers.pool.agent_groups import AgentGroup
from kiroworkers.pool.dispatcher import RequestOptions
from kiroworkers.pool.progress import Progress, Queued, Started
from kiroworkers.request_record import CLIENT_CLOSED_REQUEST, OnRequestEvent, RequestRecord
from kiroworkers.tasks import Task
from kiroworkers.telemetry.access_log import write_record
from kiroworkers.trace_context import parse_traceparent

#: The maximum number of attempts of a job.  A job that was running when so many servers
#: ended may be the reason why they did.
MAX_ATTEMPTS = 10

#: Seconds for which an agent gets no jobs after its pool rejected one: the minimum, the
#: maximum, and the number if the pool did not suggest one.
_MIN_PAUSE, _MAX_PAUSE, _DEFAULT_PAUSE = 1, 300, 60

#: Seconds for which an agent gets no jobs while the storage fails.
STORAGE_PAUSE = 5.0


@define(eq=False)
class UnfinishedJob:
    """
    Represent an unfinished job that this server runs, or will run.

    Attributes:
        id: The job's id.
        client: The client that owns it.
        running: Whether a worker has it.
        attempts: The number of times that a worker was asked.
        failures: How often its turn failed in a way that may be its own fault.
        cancelled: Whether its client cancelled it.
        execution: Fires when the attempt is over; None while the job waits.
    """

    id: str
    client: str
    running: bool = False
    attempts: int = 0
    failures: int = 0
    cancelled: bool = False
    execution: Deferred[float | None] | None = None


@frozen
class Ended:
    """
    Hold how a job has ended.

    Attributes:
        state: Its final state.
        result: The answer, or the failure.
    """

    state: JobState
    result: JobAnswer | JobFailure


@frozen
class Postponed:
    """
    Hold when to attempt a job again.

    Attributes:
        delay: Seconds after which to do so.
    """

    delay: float


#: How an attempt went; None if the job had ended before.
Outcome: TypeAlias = Ended | Postponed | None


class JobAttempts:
    """
    Attempt jobs, each as if it were a request.

    Attributes:
        stopping: Whether the server stops, so that nobody need be told that a job waits again.

    Args:
        clock: Schedules calls.
        wall_clock: Returns the time in seconds since the epoch.
        tasks: The tasks by their names.
        offload: Runs searches for answers that may take long.
        events: Told what happens to the jobs, for those who listen.
        on_event: Called with the events of each attempt, as if it were a request; None if
            nobody observes them.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        wall_clock: WallClock,
        tasks: Mapping[str, Task],
        offload: Runner,
        events: JobProgress,
        on_event: OnRequestEvent | None = None,
    ) -> None:
        self._clock = clock
        self._wall_clock = wall_clock
        self._tasks = tasks
        self._offload = offload
        self._events = events
        self._on_event = on_event
        self.stopping = False

    async def run(
        self,
        group: AgentGroup,
        unfinished: UnfinishedJob,
        load: Callable[[], Awaitable[Job | None]],
        on_started: Callable[[], None],
        on_queued: Callable[[], None] | None = None,
        may_ask: Callable[[], bool] = lambda: True,
    ) -> Outcome:
        """
        Attempt a job.

        Args:
            group: The agent to use, and its pool.
            unfinished: The job.
            load: Returns the job as it is stored.
            on_started: Called each time a worker is asked.
            on_queued: Called if no worker is idle; None to report that as an event of the job.
            may_ask: Returns whether this server may still ask a worker; if not, the job is
                postponed.
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
        outcome = await self._execute(
            group, unfinished, load, on_started, on_queued, may_ask, record
        )
        record.total = self._clock.seconds() - began
        if isinstance(outcome, Ended) or record.worker is not None:
            write_record(record, self._wall_clock())
        if record.task is not None:
            record.report("ended", status=record.status, total=record.total)
        postponed = isinstance(outcome, Postponed) and record.worker is not None
        if postponed and not (self.stopping or unfinished.cancelled):
            why = "it was interrupted" if record.code is None else f"it failed ({record.code})"
            self._events.retry(unfinished.id, f"{why}, and is run again later")
            self._events.queue_again(unfinished.id)
        return outcome

    async def _execute(
        self,
        group: AgentGroup,
        unfinished: UnfinishedJob,
        load: Callable[[], Awaitable[Job | None]],
        on_started: Callable[[], None],
        on_queued: Callable[[], None] | None,
        may_ask: Callable[[], bool],
        record: RequestRecord,
    ) -> Outcome:
        """
        Ask the agent to do a job, and fill in `record` for the log.
        """
        job: Job | None = None

        def on_progress(progress: Progress) -> None:
            if isinstance(progress, Started):
                unfinished.running = True
                unfinished.attempts += 1
                on_started()
            elif isinstance(progress, Queued) and on_queued is not None:
                on_queued()
                return
            self._events.report(unfinished.id, progress)

        try:
            job = await load()
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
            if not may_ask():
                record.report("cancelled")
                return Postponed(0.0)
            result = await execute(group, task, payload, options, on_progress, self._offload)
        except CancelledError:
            record.status, record.aborted = CLIENT_CLOSED_REQUEST, True
            record.report("cancelled")
            return Postponed(0.0)
        except StorageUnavailable:
            return Postponed(STORAGE_PAUSE)
        except WorkError as error:
            assert job is not None, "it was read"
            record.status = error.code.status_for(prompted=record.prompted)
            record.fail(error.code.value, str(error))
            delay = _retry_delay(error, job)
            if unfinished.running and _may_repeat(error):
                unfinished.failures += 1
                delay = None if unfinished.failures >= MAX_ATTEMPTS else delay
            return Ended("failed", job_failure(error)) if delay is None else Postponed(delay)
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
            return Ended("failed", failure)
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
        return Ended("done", answer)


def job_failure(error: WorkError) -> JobFailure:
    """
    Return `error` as it is stored.
    """
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
