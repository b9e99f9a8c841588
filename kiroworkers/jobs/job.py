"""
Define jobs and their results as immutable values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from attrs import Factory, frozen

from kiroworkers.errors import FailureCode
from kiroworkers.pool.fair_queue import DEFAULT_PRIORITY

JobState = Literal["queued", "running", "done", "failed", "cancelled"]

#: How many seconds earlier a job counts as having arrived for each step of its priority.
HEAD_START = 60.0

#: The states of jobs that are still to be run or finished.
UNFINISHED: tuple[JobState, ...] = ("queued", "running")


@frozen
class JobAnswer:
    """
    Hold the answer of a job that is done, and how it came about.

    Except for `value`, the attributes are None in an answer that was stored by a version
    of the server which did not record them.

    Attributes:
        value: The answer, which fits the answer schema of the job's task.
        worker: The name of the worker that answered.
        attempts: The number of workers that were asked, this one included.
        repairs: The number of times that the worker was asked to correct its answer.
        seconds: The duration of the last attempt.
        credits: The credits that all turns of its execution used; None if the agent does not say.
        context_percent: How much of the model's context the conversation filled after the
            last turn, from 0 to 100; None if the agent does not say.
    """

    value: Mapping[str, Any]
    worker: str | None = None
    attempts: int | None = None
    repairs: int | None = None
    seconds: float | None = None
    credits: float | None = None
    context_percent: float | None = None


@frozen
class JobFailure:
    """
    Hold why a job has no answer.

    Attributes:
        code: The failure's entry in the catalogue.
        message: A sentence for people.
        retry_after: Seconds after which the same request may succeed, where the failure
            itself says so.
        details: What else a client learns about the failure, by the names of JSON fields.
    """

    code: FailureCode
    message: str
    retry_after: int | None = None
    details: Mapping[str, Any] = Factory(dict)

    def __str__(self) -> str:
        return self.message


@frozen
class Webhook:
    """
    Hold where to report the end of a job, and how many attempts were made.

    Attributes:
        url: The URL to post to.
        tries: The number of attempts that were made.
        due: When to try next, in seconds since the epoch; None if no attempt is due.
    """

    url: str
    tries: int = 0
    due: float | None = None


@frozen
class Job:
    """
    Hold a request whose result its client fetches later.

    All times are in seconds since the epoch.

    Attributes:
        id: A random identifier that cannot be guessed.
        client: The client that owns the job.
        agent: The name of the agent to use.
        task: The name of the task.
        payload: The input, as the task accepted it; empty once the job has ended, because it
            is deleted then.
        created: When the job was accepted.
        priority: From 0 (least urgent) to 9.
        timeout: Seconds for the turn, if the client set a limit; otherwise None.
        state: The current state of the job.
        attempts: The number of times a worker was asked.
        ended: When the job ended; None until then.
        result: The answer, or the failure; None until the job is done or has failed.
        callback: The webhook to call when the job has ended, if any.
        model: The model that the client or the task chose; empty for the agent's own.
        request_id: The identifier of the request that created the job; empty for a job that a
            server stored which did not record it.
        traceparent: The trace that this request belongs to, as its header says; empty for none.
        number: The job's place in the order of arrival, which the store assigns.
        position: The place of a queued job among its agent's queued jobs, by arrival; None if
            it is not known.
    """

    id: str
    client: str
    agent: str
    task: str
    payload: Mapping[str, Any]
    created: float
    priority: int = DEFAULT_PRIORITY
    timeout: float | None = None
    state: JobState = "queued"
    attempts: int = 0
    ended: float | None = None
    result: JobAnswer | JobFailure | None = None
    callback: Webhook | None = None
    model: str = ""
    request_id: str = ""
    traceparent: str = ""
    number: int = 0
    position: int | None = None

    @property
    def unfinished(self) -> bool:
        """
        Return whether the job is queued or running.
        """
        return self.state in UNFINISHED
