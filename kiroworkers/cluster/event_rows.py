"""
Store the events of watched jobs in PostgreSQL, and read them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from twisted.internet.defer import Deferred

from kiroworkers.cluster.engine import Connection, PostgresQueue
from kiroworkers.cluster.event_cursor import EventRow
from kiroworkers.cluster.event_table import MAX_ROWS, EventBatch, StoredEvents
from kiroworkers.cluster.rows import JOB_COLUMNS, job_from_row
from kiroworkers.jobs.job import Job
from kiroworkers.jobs.job_events import EventId

#: Tell the server that runs the job, by a trigger, that its events are to be stored.
_WATCH = "UPDATE jobs SET watched = true WHERE id = %s AND NOT watched AND ended IS NULL"

_READ = """
    SELECT claims, state, ended IS NOT NULL, event.run, event.number, event.name, event.data
    FROM jobs LEFT JOIN LATERAL (
        SELECT run, number, name, data FROM job_events
        WHERE job = jobs.id AND (run, number) >= (%s::bigint, %s::int)
        ORDER BY run, number LIMIT %s
    ) AS event ON true
    WHERE jobs.id = %s
    ORDER BY event.run, event.number
"""

_READ_JOB = f"SELECT {JOB_COLUMNS} FROM jobs WHERE id = %s"

#: Store events, unless the job has ended or was begun anew; drop old ones; notify listeners.
_STORE = """
    WITH batch AS (
        SELECT * FROM unnest(%(jobs)s::text[], %(runs)s::bigint[], %(firsts)s::int[])
            AS batch (job, run, first)
    ), ours AS (
        SELECT jobs.id, batch.run, batch.first
        FROM batch JOIN jobs ON jobs.id = batch.job AND jobs.claims = batch.run
        WHERE jobs.ended IS NULL
    ), added AS (
        INSERT INTO job_events (job, run, number, name, data)
        SELECT event.job, ours.run, event.number, event.name, event.data
        FROM unnest(%(event_jobs)s::text[], %(numbers)s::int[], %(names)s::text[],
            %(data)s::text[]) AS event (job, number, name, data)
        JOIN ours ON ours.id = event.job
        ON CONFLICT DO NOTHING
    ), dropped AS (
        DELETE FROM job_events USING ours
        WHERE job_events.job = ours.id
            AND job_events.run = ours.run AND job_events.number < ours.first
    ), dropped_runs AS (
        DELETE FROM job_events USING ours
        WHERE job_events.job = ours.id AND job_events.run < ours.run - 1
    )
    SELECT id, pg_notify('kiroworkers', 'events ' || id) FROM ours
"""

#: Return the listed jobs that a notification may have been missed of.  OFFSET prevents that the
#: database reads all jobs, if many are listed.
_LOOK = """
    SELECT seen.id
    FROM unnest(%(ids)s::text[], %(runs)s::bigint[], %(numbers)s::int[])
        AS seen (id, run, number)
    LEFT JOIN LATERAL (
        SELECT jobs.id, jobs.ended FROM jobs WHERE jobs.id = seen.id OFFSET 0
    ) AS job ON true
    WHERE job.id IS NULL OR job.ended IS NOT NULL OR EXISTS (
        SELECT FROM job_events AS event
        WHERE event.job = seen.id AND (event.run, event.number) > (seen.run, seen.number)
    )
    UNION
    SELECT id FROM jobs WHERE id = ANY(%(unwatched)s::text[]) AND watched
"""


class PostgresEventTable:
    """
    Store the events of jobs in PostgreSQL; this is an `EventTable`.

    Args:
        queue: Runs operations on the database.
    """

    def __init__(self, queue: PostgresQueue) -> None:
        self._queue = queue

    def watch(self, id: str) -> Deferred[None]:
        """
        Have the events of a job stored from now on; see `EventTable.watch`.
        """

        def watch(db: Connection) -> None:
            db.execute(_WATCH, (id,))

        return self._queue.write(watch)

    def read(self, id: str, first: EventId) -> Deferred[StoredEvents | None]:
        """
        Return the events of a job; see `EventTable.read`.
        """

        def read(db: Connection) -> StoredEvents | None:
            found = db.execute(_READ, (first.run, first.number, MAX_ROWS, id)).fetchall()
            if not found:
                return None
            claims, state, ended = found[0][:3]
            rows = [
                EventRow(EventId(run, number), name, data)
                for *_, run, number, name, data in found
                if run is not None
            ]
            return StoredEvents(claims, state, ended, rows)

        return self._queue.read(read)

    def job(self, id: str) -> Deferred[Job | None]:
        """
        Return a job, or None if it was deleted.
        """

        def read(db: Connection) -> Job | None:
            row = db.execute(_READ_JOB.encode(), (id,)).fetchone()
            return None if row is None else job_from_row(row)

        return self._queue.read(read)

    def store(self, batches: Sequence[EventBatch]) -> Deferred[set[str]]:
        """
        Store events; see `EventTable.store`.
        """
        return self._queue.write(lambda db: _store(db, batches))

    def keep(self, batch: EventBatch) -> Deferred[set[str]]:
        """
        Store events; see `EventTable.keep`.
        """
        return self._queue.keep(lambda db: _store(db, [batch]))

    def changed(
        self, seen: Sequence[tuple[str, EventId]], unwatched: Collection[str]
    ) -> Deferred[set[str]]:
        """
        Return the ids of jobs that changed; see `EventTable.changed`.
        """
        values = {
            "ids": [id for id, _ in seen],
            "runs": [event.run for _, event in seen],
            "numbers": [event.number for _, event in seen],
            "unwatched": [*unwatched],
        }
        return self._queue.read(lambda db: {id for [id] in db.execute(_LOOK, values)})


def _store(db: Connection, batches: Sequence[EventBatch]) -> set[str]:
    rows = [(batch.job, row) for batch in batches for row in batch.rows]
    values = {
        "jobs": [batch.job for batch in batches],
        "runs": [batch.run for batch in batches],
        "firsts": [batch.first for batch in batches],
        "event_jobs": [job for job, _ in rows],
        "numbers": [row.id.number for _, row in rows],
        "names": [row.name for _, row in rows],
        "data": [row.data for _, row in rows],
    }
    return {id for id, _ in db.execute(_STORE, values)}
