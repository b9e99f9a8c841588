"""
Define the types of jobs, and read them from what the server sends.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from kiroworkers_client.base_errors import InvalidResponseError, JobCancelledError, KiroError
from kiroworkers_client.responses import error_within

_EPOCH = datetime.fromtimestamp(0, UTC)
_ENDED = ("done", "failed", "cancelled")


@dataclass(frozen=True)
class JobReceipt:
    """
    Confirm that the server has stored a job, and will run it.

    Attributes:
        id: The identifier of the job, with which to ask for it.
        state: Its state at that time.
        location: Its path.
        replayed: Whether an earlier request with the same idempotency key made the job.
        ignored: The fields of the input that the task does not have.
        request_id: The identifier of the request that made the job; None if the server does not
            say.
    """

    id: str
    state: str
    location: str
    replayed: bool = False
    ignored: tuple[str, ...] = ()
    request_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class Job:
    """
    Represent a request that runs without an open connection.

    Attributes:
        id: Its identifier.
        task: The name of the task.
        agent: The name of the agent that answers.
        model: The model that was chosen; None for the agent's own.
        state: ``queued``, ``running``, ``done``, ``failed`` or ``cancelled``.
        created: When the server accepted it.
        ended: When it ended; None while it is unfinished.
        attempts: How often it was given to an agent.
        position: Its place among the jobs for its agent, while it is queued.
        value: The answer of a job that is done.  A list of jobs leaves it out.
        error: Why a job failed.  A list of jobs leaves it out.
        credits: The credits that the job used, as the agent reported them.
        context_percent: How much of the model's context was filled in the end, from 0 to 100.
        request_id: The identifier of the request that made the job; None if the server does not
            say.
    """

    id: str
    task: str
    agent: str
    model: str | None
    state: str
    created: datetime
    ended: datetime | None
    attempts: int
    position: int | None = None
    value: dict[str, Any] | None = None
    error: KiroError | None = None
    credits: float | None = None
    context_percent: float | None = None
    request_id: str | None = None

    @property
    def finished(self) -> bool:
        """
        Return whether the job has ended, in whatever way.
        """
        return self.state in _ENDED

    def result(self) -> dict[str, Any]:
        """
        Return the answer.

        Raises:
            KiroError: If the job failed or was cancelled.
            ValueError: If it is unfinished, or is from a list of jobs, which has no answers.
        """
        if self.error is not None:
            raise self.error
        if self.state == "cancelled":
            raise JobCancelledError(f"the job {self.id} was cancelled")
        if self.value is None:
            raise ValueError(f"the job {self.id} ({self.state}) has no answer here")
        return self.value


@dataclass(frozen=True)
class JobPage:
    """
    Hold a part of the list of jobs, newest first.

    Attributes:
        jobs: The jobs, without their answers.
        next: What to pass as `before` to get the next page; None if this is the last one.
    """

    jobs: tuple[Job, ...]
    next: str | None


def job_from(body: Mapping[str, Any]) -> Job:
    """
    Return the job that a JSON object describes.

    Raises:
        InvalidResponseError: If it describes none.
    """
    try:
        job = _job_from(body)
    except OverflowError:
        # A time is out of range.
        job = None
    if job is None:
        raise InvalidResponseError(f"the server described no job: {str(dict(body))[:80]}")
    return job


def _job_from(body: Mapping[str, Any]) -> Job | None:
    match body:
        case {
            "id": str(id),
            "task": str(task),
            "agent": str(agent),
            "state": str(state),
            "created": int(created),
        }:
            usage = _object(body.get("usage"))
            error = body.get("error")
            model, position = body.get("model"), body.get("position")
            ended, value = body.get("ended"), body.get("result")
            attempts, request_id = body.get("attempts"), body.get("requestId")
            return Job(
                id=id,
                task=task,
                agent=agent,
                model=model if isinstance(model, str) else None,
                state=state,
                created=_time(created),
                ended=_time(ended) if isinstance(ended, int) else None,
                attempts=attempts if isinstance(attempts, int) else 0,
                position=position if isinstance(position, int) else None,
                value=value if isinstance(value, dict) else None,
                error=error_within(error) if isinstance(error, dict) else None,
                credits=_number(usage.get("credits")),
                context_percent=_number(usage.get("contextPercent")),
                request_id=request_id if isinstance(request_id, str) else None,
            )
    return None


def page_from(body: Mapping[str, Any]) -> JobPage:
    """
    Return the page of jobs that a JSON object describes.

    Raises:
        InvalidResponseError: If it describes none.
    """
    items = body.get("jobs")
    if not isinstance(items, list):
        raise InvalidResponseError("the server sent no list of jobs")
    jobs = tuple(job_from(_object(item)) for item in items)
    has_more = isinstance(body.get("next"), str) and jobs
    return JobPage(jobs, jobs[-1].id if has_more else None)


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _number(value: Any) -> float | None:
    return value if isinstance(value, (int, float)) else None


def _time(milliseconds: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=milliseconds)
