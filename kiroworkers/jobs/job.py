"""
A job, and what is kept of a request, as values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from attrs import Factory, frozen

from kiroworkers.pool.fair_queue import USUAL

JobState = Literal["queued", "running", "done", "failed", "cancelled"]

#: In these, something is still to be done.
UNFINISHED: tuple[JobState, ...] = ("queued", "running")


@frozen
class StoredResponse:
    """
    What a request came to.

    Attributes:
        status: that of HTTP.
        body: the answer, or the error as clients read it.
        headers: what else is told of the answer.
        cacheable: would asking again cost another turn for the same?
    """

    status: int
    body: Mapping[str, Any]
    headers: Mapping[str, str] = Factory(dict)
    cacheable: bool = False


@frozen
class Webhook:
    """
    Where the end of a job is told.

    Attributes:
        tries: so many were in vain.
        due: when the next is, in seconds; None when none is.
    """

    url: str
    tries: int = 0
    due: float | None = None


@frozen
class Job:
    """
    A request that somebody will ask after.  Times are in seconds since the epoch.

    Attributes:
        id: cannot be guessed.
        client: whose it is.
        agent: who is asked.
        payload: as the task accepted it.
        timeout: of its turn, where the client's own is the shorter.
        attempts: how often a worker was asked.
        said: what it came to, when it is done or has failed.
        number: its place in the order of arrival; the store gives it.
    """

    id: str
    client: str
    agent: str
    task: str
    payload: Mapping[str, Any]
    created: float
    priority: int = USUAL
    timeout: float | None = None
    state: JobState = "queued"
    attempts: int = 0
    ended: float | None = None
    said: StoredResponse | None = None
    callback: Webhook | None = None
    number: int = 0

    @property
    def unfinished(self) -> bool:
        return self.state in UNFINISHED


@frozen
class IdempotencyKey:
    """
    By what a client knows that a request is the same: one of its own words, for
    one task.
    """

    client: str
    task: str
    key: str


@frozen
class IdempotencyRecord:
    """
    What was asked under a key, by its fingerprint, and what became of it: the id
    of a job, or what was said.
    """

    fingerprint: str
    job: str | None = None
    said: StoredResponse | None = None
