"""
Claim jobs through the queue of operations of a server, without blocking the reactor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from twisted.internet.defer import Deferred

from kiroworkers.cluster import statements
from kiroworkers.cluster.claimed_job import ClaimedJob
from kiroworkers.cluster.engine import PostgresQueue
from kiroworkers.jobs.attempts import Ended
from kiroworkers.jobs.job import Job


class PostgresClaims:
    """
    Distribute the jobs in a PostgreSQL database; these are `Claims`.

    Args:
        queue: Runs the operations.
        server: Returns the number of this server, which may change.
    """

    def __init__(self, queue: PostgresQueue, server: Callable[[], int]) -> None:
        self._queue = queue
        self._server = server

    def claim(self, wanted: Mapping[str, int]) -> Deferred[Sequence[ClaimedJob]]:
        """
        Claim the jobs that are next; see `Claims.claim`.
        """
        server = self._server()
        return self._queue.write(
            lambda connection: statements.claim_jobs(connection, server, wanted)
        )

    def release(
        self, id: str, claims: int, attempts: int, failures: int, *, first: bool
    ) -> Deferred[None]:
        """
        Queue a job again; see `Claims.release`.
        """
        return self._queue.keep(
            lambda connection: statements.release_job(
                connection, self._server(), id, claims, attempts, failures, first=first
            )
        )

    def end(self, id: str, claims: int, attempts: int, result: Ended) -> Deferred[Job | None]:
        """
        Record the end of a job; see `Claims.end`.
        """
        return self._queue.keep(
            lambda connection: statements.end_job(
                connection, self._server(), id, claims, attempts, result.state, result.result
            )
        )
