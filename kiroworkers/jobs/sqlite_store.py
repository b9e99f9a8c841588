"""
Store jobs with their results, and responses by their idempotency keys, in SQLite.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime

from kiroworkers.clocks import WallClock
from kiroworkers.errors import (
    CannotStart,
    IdempotencyKeyMismatch,
    JobsTooLarge,
    TooManyJobs,
)
from kiroworkers.jobs.executor import Executor
from kiroworkers.jobs.job import Job, JobAnswer, JobFailure, JobState, Webhook
from kiroworkers.jobs.json_rows import (
    response_from_json,
    response_to_json,
    result_from_json,
    result_to_json,
    to_json,
)
from kiroworkers.jobs.schema import file_check, open_database, server_number
from kiroworkers.jobs.sqlite_engine import SqliteEngine, SqliteQueue
from kiroworkers.jobs.sqlite_history import SqliteHistory, read_history
from kiroworkers.jobs.store import JobLimits, StorageStatus
from kiroworkers.jobs.stored_response import IdempotencyKey, IdempotencyRecord, StoredResponse
from kiroworkers.telemetry.request_history import SavedHistory

_COLUMNS = (
    "id, client, agent, task, asked, created, priority, timeout, state, attempts, ended, "
    "result, callback, tries, due, model, request_id, traceparent, number"
)
_WITHOUT_RESULT = _COLUMNS.replace("asked", "'{}'").replace("result", "NULL")
_EXPIRABLE = "ended IS NOT NULL AND due IS NULL"
_UNFINISHED = "state IN ('queued', 'running')"

#: Seconds after which to retry when the jobs reach a limit.
_RETRY_AFTER = 60


class SqliteStore:
    """
    Store jobs, and the responses and jobs of idempotency keys; this is a `QueueStore`.

    Call `open` before anything else.

    Attributes:
        server: The number of servers that have opened the database, this one included.
        history: The request history that earlier servers have saved.

    Args:
        clock: Schedules repetitions of what could not be stored.
        wall_clock: Returns the time in seconds since the epoch.
        executor: Runs everything that waits for the disk.
        factory: The class of the database connection.
    """

    def __init__(
        self,
        clock: IReactorTime,
        wall_clock: WallClock,
        executor: Executor,
        factory: type[sqlite3.Connection] = sqlite3.Connection,
    ) -> None:
        self._clock = clock
        self._wall_clock = wall_clock
        self._executor = executor
        self._factory = factory
        self._commits: SqliteQueue | None = None
        self.server = 0
        self.history = SavedHistory()

    def open(
        self,
        file: Path | None,
        keep_webhooks: bool = True,
        history_limit: int = 0,
        history_age: float = 0.0,
    ) -> None:
        """
        Open the database, and create or migrate its tables.  This blocks.

        Args:
            file: The path of the database; None keeps it in memory.
            keep_webhooks: Whether webhooks of ended jobs are still to be called.
            history_limit: The number of requests whose history is kept.
            history_age: The age up to which it is kept, in seconds.

        Raises:
            CannotStart: The database cannot be used.
        """
        now = self._wall_clock()
        database = open_database(file, now, keep_webhooks, self._factory)
        try:
            self.server = server_number(database)
            self.history = read_history(database, now, history_limit, now - history_age)
        except sqlite3.Error as error:
            database.close()
            raise CannotStart(f"kiroworkers: cannot open the jobs in {file}: {error}") from None
        check_file = (lambda: None) if file is None else file_check(file)
        engine = SqliteEngine(database, check_file)
        self._commits = SqliteQueue(self._clock, self._wall_clock, self._executor, engine)

    def close(self) -> Deferred[None]:
        """
        Store what is still to be stored, if that is possible, and close the database.
        """
        return succeed(None) if self._commits is None else self._commits.close()

    @property
    def status(self) -> StorageStatus:
        """
        Return whether the storage works.
        """
        return self._queue.status

    def check_available(self) -> None:
        """
        Raise `StorageUnavailable` while the storage fails.
        """
        if self.status.reason is not None:
            raise self._queue.unavailable()

    def history_storage(self) -> SqliteHistory:
        """
        Return what saves the request history in the database.
        """
        return SqliteHistory(self._queue, self._wall_clock)

    # Jobs.

    def add(
        self,
        job: Job,
        limits: JobLimits,
        key: IdempotencyKey | None = None,
        fingerprint: str = "",
    ) -> Deferred[tuple[Job, bool]]:
        """
        Add a new job; see `JobStore.add`.
        """

        def add(db: sqlite3.Connection) -> tuple[Job, bool]:
            payload = to_json(job.payload)
            if key is not None:
                record = _find_record(db, key)
                if record is not None:
                    earlier = None if record.job is None else _get(db, record.job)
                    if record.fingerprint != fingerprint or earlier is None:
                        raise IdempotencyKeyMismatch()
                    return earlier, False
            _check_limits(db, job.client, len(payload), limits)
            row = {
                "id": job.id,
                "client": job.client,
                "agent": job.agent,
                "task": job.task,
                "asked": payload,
                "created": job.created,
                "priority": job.priority,
                "timeout": job.timeout,
                "state": job.state,
                "attempts": job.attempts,
                "callback": None if job.callback is None else job.callback.url,
                "model": job.model,
                "request_id": job.request_id,
                "traceparent": job.traceparent,
                "size": len(payload),
            }
            marks = ", ".join("?" for _ in row)
            number = db.execute(
                f"INSERT INTO jobs ({', '.join(row)}) VALUES ({marks})", (*row.values(),)
            ).lastrowid
            if key is not None:
                db.execute(
                    "INSERT INTO keys (client, task, word, fingerprint, job) "
                    "VALUES (?, ?, ?, ?, ?)",
                    (key.client, key.task, key.key, fingerprint, job.id),
                )
            assert number is not None, "a row was inserted"
            return evolve(job, number=number, position=_position(db, job.agent, number)), True

        return self._queue.write(add)

    def get(self, id: str) -> Deferred[Job | None]:
        """
        Return the job `id`, with its position if it is queued; see `JobStore.get`.
        """
        return self._queue.read(lambda db: _get(db, id))

    def unfinished(self) -> Deferred[list[Job]]:
        """
        Return the jobs that are queued or running; see `JobStore.unfinished`.
        """
        return self._queue.keep(
            lambda db: list(_select(db, f"{_UNFINISHED} ORDER BY number", columns=_WITHOUT_RESULT))
        )

    def list_jobs(self, client: str | None, before: int | None, limit: int) -> Deferred[list[Job]]:
        """
        Return jobs without their payloads and results, newest first; see `JobStore.list_jobs`.
        """
        where = "(?1 IS NULL OR client = ?1) AND (?2 IS NULL OR number < ?2)"
        if client is not None:
            # SQLite uses the index only for this.
            where = "client = ?1 AND (?2 IS NULL OR number < ?2)"
        return self._queue.read(
            lambda db: list(
                _select(
                    db,
                    f"{where} ORDER BY number DESC LIMIT ?3",
                    *(client, before, limit),
                    columns=_WITHOUT_RESULT,
                )
            )
        )

    def mark_started(self, id: str, attempts: int) -> Deferred[None]:
        """
        Record that a job was given to a worker; see `JobStore.mark_started`.
        """
        return self._persist(
            f"UPDATE jobs SET state = 'running', attempts = ? WHERE id = ? AND {_UNFINISHED}",
            *(attempts, id),
        )

    def requeue(self, id: str) -> Deferred[None]:
        """
        Record that a running job is queued again; see `JobStore.requeue`.
        """
        return self._persist(
            "UPDATE jobs SET state = 'queued' WHERE id = ? AND state = 'running'", id
        )

    def mark_ended(
        self, id: str, state: JobState, result: JobAnswer | JobFailure, now: float
    ) -> Deferred[Job | None]:
        """
        Record the end of a job, and delete its payload; see `JobStore.mark_ended`.
        """
        return self._queue.keep(lambda db: _end(db, id, state, result_to_json(result), now))

    def cancel(self, id: str, now: float) -> Deferred[Job | None]:
        """
        Record that a job was cancelled; see `JobStore.cancel`.
        """
        return self._queue.write(lambda db: _end(db, id, "cancelled", None, now))

    def delete(self, id: str) -> Deferred[None]:
        """
        Delete the job `id`, and its idempotency key with it.
        """
        return self._queue.write(lambda db: _delete(db, id))

    def withdraw(self, id: str) -> Deferred[None]:
        """
        Delete a job that nobody knows of yet; see `JobStore.withdraw`.
        """
        return self._queue.keep(lambda db: _delete(db, id))

    # Webhooks.

    def pending_webhooks(self) -> Deferred[list[Job]]:
        """
        Return the jobs whose webhooks are still to be called; see `JobStore.pending_webhooks`.
        """
        return self._queue.keep(
            lambda db: list(_select(db, "due IS NOT NULL ORDER BY due", columns=_WITHOUT_RESULT))
        )

    def record_webhook_attempt(self, id: str, due: float | None) -> Deferred[Job | None]:
        """
        Record an attempt to call a webhook; see `JobStore.record_webhook_attempt`.
        """

        def record(db: sqlite3.Connection) -> Job | None:
            db.execute("UPDATE jobs SET tries = tries + 1, due = ? WHERE id = ?", (due, id))
            return next(_select(db, "id = ?", id, columns=_WITHOUT_RESULT), None)

        return self._queue.keep(record)

    # Idempotency keys.

    def find_record(self, key: IdempotencyKey) -> Deferred[IdempotencyRecord | None]:
        """
        Return what was asked under `key`, or None if nothing was.
        """
        return self._queue.read(lambda db: _find_record(db, key))

    def save_response(
        self, key: IdempotencyKey, fingerprint: str, response: StoredResponse, now: float
    ) -> Deferred[None]:
        """
        Save the response to the request under `key`; see `JobStore.save_response`.
        """

        def save(db: sqlite3.Connection) -> None:
            db.execute(
                "INSERT OR REPLACE INTO keys (client, task, word, fingerprint, said, kept) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (key.client, key.task, key.key, fingerprint, response_to_json(response), now),
            )

        return self._queue.keep(save)

    def reserve_key(
        self, key: IdempotencyKey, fingerprint: str
    ) -> Deferred[IdempotencyRecord | None]:
        """
        Return what was asked under `key`: there is no other server that could do it.
        """
        return self.find_record(key)

    def release_key(self, key: IdempotencyKey) -> Deferred[None]:
        """
        Do nothing: nothing was stored when the key was reserved.
        """
        return succeed(None)

    # Expiry.

    def oldest(self) -> Deferred[float | None]:
        """
        Return when the oldest record that can expire was made; see `JobStore.oldest`.
        """

        def oldest(db: sqlite3.Connection) -> float | None:
            at: float | None
            [at] = db.execute(
                f"SELECT MIN(at) FROM (SELECT MIN(ended) AS at FROM jobs WHERE {_EXPIRABLE} "
                "UNION ALL SELECT MIN(kept) FROM keys WHERE kept IS NOT NULL)"
            ).fetchone()
            return at

        return self._queue.read(oldest)

    def delete_expired(self, until: float, limit: int = 100) -> Deferred[bool]:
        """
        Delete old jobs and responses; see `JobStore.delete_expired`.
        """

        def delete(db: sqlite3.Connection) -> bool:
            db.execute(
                "DELETE FROM jobs WHERE number IN "
                f"(SELECT number FROM jobs WHERE {_EXPIRABLE} AND ended <= ? LIMIT ?)",
                (until, limit),
            )
            db.execute(
                "DELETE FROM keys WHERE (client, task, word) IN "
                "(SELECT client, task, word FROM keys WHERE kept <= ? LIMIT ?)",
                (until, limit),
            )
            return True

        return self._queue.write(delete)

    @property
    def _queue(self) -> SqliteQueue:
        assert self._commits is not None, "open() was called"
        return self._commits

    def _persist(self, statement: str, *values: Any) -> Deferred[None]:
        def execute(db: sqlite3.Connection) -> None:
            db.execute(statement, values)

        return self._queue.keep(execute)


def _select(
    db: sqlite3.Connection, where: str, *values: Any, columns: str = _COLUMNS
) -> Iterator[Job]:
    return map(_job_from_row, db.execute(f"SELECT {columns} FROM jobs WHERE {where}", values))


def _get(db: sqlite3.Connection, id: str) -> Job | None:
    job = next(_select(db, "id = ?", id), None)
    if job is not None and job.state == "queued":
        job = evolve(job, position=_position(db, job.agent, job.number))
    return job


def _count(db: sqlite3.Connection, query: str, *values: Any) -> int:
    [number] = db.execute(query, values).fetchone()
    return int(number)


def _position(db: sqlite3.Connection, agent: str, number: int) -> int:
    """
    Return a queued job's position by arrival among its agent's jobs; 1 is the first.
    """
    return 1 + _count(
        db,
        f"SELECT COUNT(*) FROM jobs WHERE {_UNFINISHED} AND state = 'queued' "
        "AND agent = ? AND number < ?",
        *(agent, number),
    )


def _check_limits(db: sqlite3.Connection, client: str, size: int, limits: JobLimits) -> None:
    """
    Check that another job of `size` bytes may be stored for `client`.

    Raises:
        TooManyJobs: Too many jobs are unfinished.
        JobsTooLarge: The stored jobs would become too large.
    """
    if _count(db, f"SELECT COUNT(*) FROM jobs WHERE {_UNFINISHED}") >= limits.unfinished:
        raise TooManyJobs(limits.unfinished, _RETRY_AFTER)
    own = "SELECT COALESCE(SUM(bytes), 0) FROM usage WHERE client = ?"
    if _count(db, own, client) + size > limits.client_bytes:
        raise JobsTooLarge(limits.client_bytes, "client", _RETRY_AFTER)
    if _count(db, "SELECT COALESCE(SUM(bytes), 0) FROM usage") + size > limits.total_bytes:
        raise JobsTooLarge(limits.total_bytes, "server", _RETRY_AFTER)


def _end(
    db: sqlite3.Connection, id: str, state: JobState, result: str | None, now: float
) -> Job | None:
    """
    Record the end of a job; return None if it is not unfinished.
    """
    changed = db.execute(
        "UPDATE jobs SET state = ?, result = ?, ended = ?, asked = '{}', size = ?, "
        f"due = CASE WHEN callback IS NULL THEN NULL ELSE ? END WHERE id = ? AND {_UNFINISHED}",
        (state, result, now, len("{}") + len(result or ""), now, id),
    ).rowcount
    return _get(db, id) if changed else None


def _delete(db: sqlite3.Connection, id: str) -> None:
    db.execute("DELETE FROM jobs WHERE id = ?", (id,))


def _find_record(db: sqlite3.Connection, key: IdempotencyKey) -> IdempotencyRecord | None:
    row = db.execute(
        "SELECT fingerprint, job, said FROM keys WHERE client = ? AND task = ? AND word = ?",
        (key.client, key.task, key.key),
    ).fetchone()
    if row is None:
        return None
    fingerprint, job, response = row
    return IdempotencyRecord(fingerprint, job, response_from_json(response))


def _job_from_row(row: tuple[Any, ...]) -> Job:
    """
    Return the job in a row of `_COLUMNS`.
    """
    fields = dict(zip(_COLUMNS.split(", "), row, strict=True))
    url, tries, due = (fields.pop(column) for column in ("callback", "tries", "due"))
    fields["payload"] = json.loads(fields.pop("asked"))
    if fields["result"] is not None:
        fields["result"] = result_from_json(fields["state"], fields["result"])
    return Job(**fields, callback=None if url is None else Webhook(url, tries, due))
