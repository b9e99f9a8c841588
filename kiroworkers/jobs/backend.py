"""
Define what keeps and distributes jobs: the embedded database, or one that servers share.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from attrs import frozen
from twisted.application.service import IService
from twisted.internet.defer import Deferred

from kiroworkers.jobs.idempotency import KeyChanges
from kiroworkers.jobs.job import Job
from kiroworkers.jobs.job_events import JobEventSource
from kiroworkers.jobs.presence import Presence
from kiroworkers.jobs.runner import JobCounts
from kiroworkers.jobs.store import JobLimits, JobStore
from kiroworkers.jobs.stored_response import IdempotencyKey
from kiroworkers.offload.call import Runner
from kiroworkers.pool.agent_groups import AgentGroups
from kiroworkers.pool.shared_outage import SharedOutage
from kiroworkers.request_record import OnRequestEvent
from kiroworkers.tasks import Task
from kiroworkers.telemetry.request_history import HistoryStorage, SavedHistory


@frozen
class RunnerParts:
    """
    Hold what runs jobs, whatever keeps them.

    Attributes:
        groups: The agents and their pools.
        tasks: The tasks by their names.
        limits: What may be stored.
        on_ended: Called with each job that has ended on this server.
        offload: Runs searches for answers that may take long.
        on_event: Called with the events of each attempt, as if it were a request; None if
            nobody observes them.
    """

    groups: AgentGroups
    tasks: Mapping[str, Task]
    limits: JobLimits
    on_ended: Callable[[Job], None]
    offload: Runner
    on_event: OnRequestEvent | None


class JobRunning(Protocol):
    """
    Accept jobs, and run them; see `JobRunner`.
    """

    async def accept(
        self, job: Job, key: IdempotencyKey | None = None, fingerprint: str = ""
    ) -> tuple[Job, bool]:
        """
        Store a new job; see `JobRunner.accept`.
        """

    def cancel(self, job: Job) -> Deferred[Job | None]:
        """
        Cancel an unfinished job; see `JobRunner.cancel`.
        """

    def counts(self) -> JobCounts:
        """
        Return how many jobs are unfinished.
        """

    def stop_dispatch(self) -> None:
        """
        Start no more jobs, and accept none; see `JobRunner.stop_dispatch`.
        """

    def requeue_running(self) -> None:
        """
        Stop dispatching, and leave the running jobs to another server.
        """


@frozen
class Distribution:
    """
    Hold what distributes and runs jobs.

    Attributes:
        runner: Accepts jobs, and runs them.
        presence: Tells which servers there are.
        services: What has to run for that, in the order in which it starts.
    """

    runner: JobRunning
    presence: Presence
    services: Sequence[IService]


@frozen
class SavedState:
    """
    Hold what earlier servers have saved.

    Attributes:
        history: The request history.
        storage: Saves it from now on; None if it is not saved.
    """

    history: SavedHistory
    storage: HistoryStorage | None


class RateLimits(Protocol):
    """
    Limit how often each client may send requests; see `RateLimiter`.

    Attributes:
        depth: The seconds in which an empty bucket refills.
        on_taken: Called with a client and the seconds in which its bucket regains what a request
            took.
    """

    depth: float
    on_taken: Callable[[str, float], None]

    def learn(self, client: str, level: float, /) -> None:
        """
        Take note that the bucket of `client` will not be full for another `level` seconds.
        """


class Backend(Protocol):
    """
    Keep the jobs, and distribute them.

    Attributes:
        store: Holds jobs and responses.
        events: Passes on what happens to jobs.
        key_changes: Tells of the idempotency keys of other servers; None if there are none.
    """

    @property
    def store(self) -> JobStore:
        """
        Return what holds jobs and responses.
        """

    @property
    def events(self) -> JobEventSource:
        """
        Return what passes on the events of jobs.
        """

    @property
    def key_changes(self) -> KeyChanges | None:
        """
        Return what tells of the idempotency keys of other servers; None if there are none.
        """

    def distribute(self, parts: RunnerParts) -> Distribution:
        """
        Return what distributes the jobs, and runs those of this server.
        """

    def on_adopted(self, call: Callable[[], None]) -> None:
        """
        Call `call` whenever webhooks of other servers may have become this server's.
        """

    def shared_outage(self, agent: str) -> SharedOutage | None:
        """
        Return what shares the outages of the account that `agent` uses; None to share none.
        """

    def share_rates(self, limits: RateLimits) -> None:
        """
        Count the requests of each client with those that other servers have counted.
        """

    def open(
        self, file: Path | None, keep_webhooks: bool, history_limit: int, history_age: float
    ) -> SavedState:
        """
        Open the database.  This blocks.

        Args:
            file: The path of an embedded database; None keeps it in memory.
            keep_webhooks: Whether webhooks of ended jobs are still to be called.
            history_limit: The number of requests whose history is kept.
            history_age: The age up to which it is kept, in seconds.

        Raises:
            CannotStart: The database cannot be used.
        """

    def close(self) -> Deferred[None]:
        """
        Store what is still to be stored, if that is possible, and close the database.
        """
