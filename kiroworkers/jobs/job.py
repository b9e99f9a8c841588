"""
Define jobs, idempotency keys and stored responses as immutable values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from attrs import Factory, frozen

from kiroworkers.pool.fair_queue import DEFAULT_PRIORITY

JobState = Literal["queued", "running", "done", "failed", "cancelled"]

#: The states of jobs that are still to be run or finished.
UNFINISHED: tuple[JobState, ...] = ("queued", "running")


@frozen
class StoredResponse:
    """
    Hold the response to a request, independent of its connection.

    Attributes:
        status: The HTTP status.
        body: The answer, or the error as clients read it.
        headers: Headers that describe the answer, named without ``X-Kiroworkers-``.
        cacheable: Whether a repeated request should get this response, because another
            attempt would cost a turn and most likely end the same.
    """

    status: int
    body: Mapping[str, Any]
    headers: Mapping[str, str] = Factory(dict)
    cacheable: bool = False


@frozen
class Webhook:
    """
    Hold where to report the end of a job, and how far that has got.

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
        payload: The input, as the task accepted it.
        created: When the job was accepted.
        priority: From 0 (least urgent) to 9.
        timeout: Seconds for the turn, if the client set a limit; otherwise None.
        state: Where the job is in its life.
        attempts: The number of times a worker was asked.
        ended: When the job ended; None until then.
        response: The answer or the error; None until the job is done or has failed.
        callback: The webhook to call when the job has ended, if any.
        number: The job's place in the order of arrival, which the store assigns.
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
    response: StoredResponse | None = None
    callback: Webhook | None = None
    number: int = 0

    @property
    def unfinished(self) -> bool:
        """
        Return whether the job is queued or running.
        """
        return self.state in UNFINISHED


@frozen
class IdempotencyKey:
    """
    Identify a request by a key that its client chose; each task has its own keys.

    Attributes:
        client: The client that chose the key.
        task: The name of the task.
        key: The value of the Idempotency-Key header, without quotes.
    """

    client: str
    task: str
    key: str


@frozen
class IdempotencyRecord:
    """
    Hold what is known about an idempotency key.

    Attributes:
        fingerprint: Identifies what was asked under the key.
        job: The id of the job that was created, if any.
        response: The response to the request, if it was no job.
    """

    fingerprint: str
    job: str | None = None
    response: StoredResponse | None = None
