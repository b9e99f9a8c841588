"""
Define the interface of the table of events, which all servers share.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from attrs import frozen
from twisted.internet.defer import Deferred

from kiroworkers.cluster.event_cursor import EventRow
from kiroworkers.jobs.job import Job
from kiroworkers.jobs.job_events import EventId

#: The maximum number of rows that are read at once.
MAX_ROWS = 200


@frozen
class EventBatch:
    """
    Hold events of one run of a job that are to be stored.

    Attributes:
        job: The job's id.
        run: The number of the run.
        first: The number of the first event that is kept; earlier ones are dropped.
        rows: The events.
    """

    job: str
    run: int
    first: int
    rows: Sequence[EventRow]


@frozen
class StoredEvents:
    """
    Hold what the database knows of a job.

    Attributes:
        claims: The number of runs of the job.
        state: Its state.
        ended: Whether it has ended.
        rows: Events, in their order; there may be more if these are `MAX_ROWS`.
    """

    claims: int
    state: str
    ended: bool
    rows: Sequence[EventRow]


class EventTable(Protocol):
    """
    Store events of jobs, and read them.

    Each Deferred fails with `StorageUnavailable` while the database fails.
    """

    def watch(self, id: str) -> Deferred[None]:
        """
        Have the events of a job stored from now on, if it is unfinished.
        """

    def read(self, id: str, first: EventId) -> Deferred[StoredEvents | None]:
        """
        Return the events of a job from `first` on; None if the job was deleted.
        """

    def job(self, id: str) -> Deferred[Job | None]:
        """
        Return a job, or None if it was deleted.
        """

    def store(self, batches: Sequence[EventBatch]) -> Deferred[set[str]]:
        """
        Store events, and return the ids of the jobs whose events were accepted.

        Those of a job that has ended, or was begun anew, are not.  Events that are stored
        already are ignored.
        """

    def keep(self, batch: EventBatch) -> Deferred[set[str]]:
        """
        Store events as `store` does, before everything that is given to the database later.

        This persists.
        """

    def changed(
        self, seen: Sequence[tuple[str, EventId]], unwatched: Collection[str]
    ) -> Deferred[set[str]]:
        """
        Return the ids of jobs that changed without this server's knowledge.

        Args:
            seen: Jobs to which somebody listens here, with the last events that were read.
            unwatched: Jobs that run here, to which nobody listens as far as is known.
        """
