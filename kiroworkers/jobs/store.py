"""
Store jobs with their results, and responses by their idempotency keys, in SQLite.

The store is called in the reactor's thread, where each call takes less than a
millisecond.  Measured on a virtual disk, a commit takes 0.03 to 0.13 ms, and one in a
hundred, at a checkpoint, takes 4 to 20 ms.

``synchronous=NORMAL`` leaves it to the operating system when the log of a commit reaches
the disk.  What is committed survives the end of the process, however it ends, but a power
failure may lose the last commits.  With ``FULL`` a commit takes ten times as long.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import asdict

from kiroworkers.errors import CATALOGUE, CannotStart, ErrorCode, FailureCode
from kiroworkers.jobs.job import Job, JobAnswer, JobFailure, JobState, Webhook
from kiroworkers.jobs.stored_response import IdempotencyKey, IdempotencyRecord, StoredResponse

#: The scripts that migrate the schema from each version to the next.  New ones are only
#: ever appended.  `result_of_response` in them is the function of that name below.
_MIGRATIONS: Sequence[str] = (
    """
    CREATE TABLE jobs (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        client TEXT NOT NULL,
        agent TEXT NOT NULL,
        task TEXT NOT NULL,
        created REAL NOT NULL,
        priority INTEGER NOT NULL,
        timeout REAL,
        state TEXT NOT NULL,
        attempts INTEGER NOT NULL,
        ended REAL,
        callback TEXT,
        tries INTEGER NOT NULL DEFAULT 0,
        due REAL,
        asked TEXT NOT NULL,
        said TEXT
    );
    CREATE INDEX jobs_unfinished ON jobs (agent, number, state)
        WHERE state IN ('queued', 'running');
    CREATE INDEX jobs_client ON jobs (client, number);
    CREATE INDEX jobs_ended ON jobs (ended) WHERE ended IS NOT NULL AND due IS NULL;
    CREATE INDEX jobs_due ON jobs (due) WHERE due IS NOT NULL;
    CREATE TABLE keys (
        client TEXT NOT NULL,
        task TEXT NOT NULL,
        word TEXT NOT NULL,
        fingerprint TEXT NOT NULL,
        job TEXT REFERENCES jobs (id) ON DELETE CASCADE,
        said TEXT,
        kept REAL,
        PRIMARY KEY (client, task, word)
    ) WITHOUT ROWID;
    CREATE INDEX keys_job ON keys (job) WHERE job IS NOT NULL;
    CREATE INDEX keys_kept ON keys (kept) WHERE kept IS NOT NULL;
    """,
    """
    ALTER TABLE jobs RENAME COLUMN said TO result;
    UPDATE jobs SET result = result_of_response(state, result) WHERE result IS NOT NULL;
    """,
)

_COLUMNS = (
    "id, client, agent, task, asked, created, priority, timeout, state, attempts, ended, "
    "result, callback, tries, due, number"
)
_EXPIRABLE = "ended IS NOT NULL AND due IS NULL"
_UNFINISHED = "state IN ('queued', 'running')"


class JobStore:
    """
    Store jobs, and the responses and jobs of idempotency keys.

    Call `open` before anything else.
    """

    def __init__(self) -> None:
        self._db: sqlite3.Connection | None = None

    def open(self, file: Path | None) -> None:
        """
        Open the database, and create or migrate its tables.

        Args:
            file: The path of the database; None keeps it in memory.

        Raises:
            CannotStart: The file cannot be opened, is not a database, or was written by a
                newer server.
        """
        try:
            self._db = _connect(file)
        except (sqlite3.Error, ValueError) as error:
            raise CannotStart(f"kiroworkers: cannot open the jobs in {file}: {error}") from None

    def close(self) -> None:
        """
        Close the database, if it is open.
        """
        if self._db is not None:
            self._db.close()
            self._db = None

    # Jobs.

    def add(self, job: Job, key: IdempotencyKey | None = None, fingerprint: str = "") -> None:
        """
        Add a new job, and record it under its idempotency key.

        Args:
            job: The job, with an id of its own.
            key: The idempotency key, if the request had one.
            fingerprint: Identifies what was asked under the key.
        """
        row = {
            "id": job.id,
            "client": job.client,
            "agent": job.agent,
            "task": job.task,
            "asked": _to_json(job.payload),
            "created": job.created,
            "priority": job.priority,
            "timeout": job.timeout,
            "state": job.state,
            "attempts": job.attempts,
            "callback": None if job.callback is None else job.callback.url,
        }
        marks = ", ".join("?" for _ in row)
        with self._transaction():
            self._execute(f"INSERT INTO jobs ({', '.join(row)}) VALUES ({marks})", *row.values())
            if key is not None:
                self._execute(
                    "INSERT OR REPLACE INTO keys (client, task, word, fingerprint, job) "
                    "VALUES (?, ?, ?, ?, ?)",
                    *(key.client, key.task, key.key, fingerprint, job.id),
                )

    def get(self, id: str) -> Job | None:
        """
        Return the job `id`, or None if there is none.
        """
        return next(self._select_jobs("id = ?", id), None)

    def unfinished(self) -> list[Job]:
        """
        Return the jobs that are queued or running, oldest first.
        """
        return list(self._select_jobs(f"{_UNFINISHED} ORDER BY number"))

    def count_unfinished(self) -> int:
        """
        Return the number of jobs that are queued or running.
        """
        return self._count(f"SELECT COUNT(*) FROM jobs WHERE {_UNFINISHED}")

    def list_jobs(self, client: str | None, before: int | None, limit: int) -> list[Job]:
        """
        Return jobs without their payloads and results, newest first.

        Args:
            client: The client whose jobs to return; None for all clients.
            before: Only jobs with a smaller number than this; None for the newest.
            limit: The maximum number of jobs to return.
        """
        return list(
            self._select_jobs(
                "(?1 IS NULL OR client = ?1) AND (?2 IS NULL OR number < ?2) "
                "ORDER BY number DESC LIMIT ?3",
                *(client, before, limit),
                columns=_COLUMNS.replace("asked", "'{}'").replace("result", "NULL"),
            )
        )

    def position(self, job: Job) -> int:
        """
        Return a queued job's position by arrival among its agent's jobs; 1 is the first.
        """
        return 1 + self._count(
            f"SELECT COUNT(*) FROM jobs WHERE {_UNFINISHED} AND state = 'queued' "
            "AND agent = ? AND number < ?",
            *(job.agent, job.number),
        )

    def mark_started(self, id: str) -> None:
        """
        Record that the job `id` was given to a worker and is running.
        """
        self._execute("UPDATE jobs SET state = 'running', attempts = attempts + 1 WHERE id = ?", id)

    def requeue(self, id: str) -> None:
        """
        Record that the job `id` is queued again, to be run later.
        """
        self._execute("UPDATE jobs SET state = 'queued' WHERE id = ?", id)

    def mark_ended(
        self, id: str, state: JobState, result: JobAnswer | JobFailure | None, now: float
    ) -> None:
        """
        Record the end of the job `id`; its webhook, if it has one, is due at once.

        Args:
            id: The job's id.
            state: Its final state.
            result: The answer, or the failure; None for a job that was cancelled.
            now: The current time in seconds since the epoch.
        """
        self._execute(
            "UPDATE jobs SET state = ?, result = ?, ended = ?, "
            "due = CASE WHEN callback IS NULL THEN NULL ELSE ? END WHERE id = ?",
            *(state, None if result is None else _to_json(asdict(result, recurse=False))),
            *(now, now, id),
        )

    def delete(self, id: str) -> None:
        """
        Delete the job `id`, and its idempotency key with it.
        """
        self._execute("DELETE FROM jobs WHERE id = ?", id)

    # Webhooks.

    def pending_webhooks(self) -> list[Job]:
        """
        Return the jobs whose webhooks are still to be called, in the order in which they are due.
        """
        return list(self._select_jobs("due IS NOT NULL ORDER BY due"))

    def record_webhook_attempt(self, id: str, due: float | None) -> None:
        """
        Record an attempt to call the webhook of the job `id`.

        Args:
            id: The job's id.
            due: When to try again, in seconds since the epoch; None for never.
        """
        self._execute("UPDATE jobs SET tries = tries + 1, due = ? WHERE id = ?", due, id)

    def cancel_webhooks(self) -> None:
        """
        Record that no pending webhook is to be called any more.
        """
        self._execute("UPDATE jobs SET due = NULL WHERE due IS NOT NULL")

    # Idempotency keys.

    def find_record(self, key: IdempotencyKey) -> IdempotencyRecord | None:
        """
        Return what was asked under `key`, or None if nothing was.
        """
        row = self._execute(
            "SELECT fingerprint, job, said FROM keys WHERE client = ? AND task = ? AND word = ?",
            *(key.client, key.task, key.key),
        ).fetchone()
        if row is None:
            return None
        fingerprint, job, response = row
        return IdempotencyRecord(fingerprint, job, _response_from_json(response))

    def save_response(
        self, key: IdempotencyKey, fingerprint: str, response: StoredResponse, now: float
    ) -> None:
        """
        Save the response to the request under `key`.

        Args:
            key: The idempotency key.
            fingerprint: Identifies what was asked.
            response: The response.
            now: The current time in seconds since the epoch.
        """
        self._execute(
            "INSERT OR REPLACE INTO keys (client, task, word, fingerprint, said, kept) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            *(key.client, key.task, key.key, fingerprint, _response_to_json(response), now),
        )

    # Expiry.

    def oldest(self) -> float | None:
        """
        Return when the oldest record that can expire was made, or None if there is none.

        The time is in seconds since the epoch: the end of a job, or when a response was
        saved.
        """
        oldest: float | None
        [oldest] = self._execute(
            f"SELECT MIN(at) FROM (SELECT MIN(ended) AS at FROM jobs WHERE {_EXPIRABLE} "
            "UNION ALL SELECT MIN(kept) FROM keys WHERE kept IS NOT NULL)"
        ).fetchone()
        return oldest

    def delete_expired(self, until: float, limit: int = 100) -> None:
        """
        Delete old jobs and responses.

        A job whose webhook is still to be called stays.

        Args:
            until: Delete what ended or was saved up to this time, in seconds since the epoch.
            limit: The maximum number of jobs, and of responses, to delete in one call.
        """
        with self._transaction():
            self._execute(
                "DELETE FROM jobs WHERE number IN "
                f"(SELECT number FROM jobs WHERE {_EXPIRABLE} AND ended <= ? LIMIT ?)",
                *(until, limit),
            )
            self._execute(
                "DELETE FROM keys WHERE (client, task, word) IN "
                "(SELECT client, task, word FROM keys WHERE kept <= ? LIMIT ?)",
                *(until, limit),
            )

    def _select_jobs(self, where: str, *values: Any, columns: str = _COLUMNS) -> Iterator[Job]:
        return map(
            _job_from_row, self._execute(f"SELECT {columns} FROM jobs WHERE {where}", *values)
        )

    def _count(self, query: str, *values: Any) -> int:
        [number] = self._execute(query, *values).fetchone()
        return int(number)

    def _execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        assert self._db is not None, "open() was called"
        return self._db.execute(statement, values)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._execute("ROLLBACK")
            raise
        self._execute("COMMIT")


def _connect(file: Path | None) -> sqlite3.Connection:
    """
    Return a connection to the database in `file`, migrated to the current schema.

    Raises:
        sqlite3.Error: The file cannot be opened, or is not a database.
        ValueError: The schema is that of a newer server.
    """
    db = sqlite3.connect(":memory:" if file is None else file, isolation_level=None)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("PRAGMA foreign_keys = ON")
        db.create_function("result_of_response", 2, _result_of_response)
        _migrate(db)
    except BaseException:
        db.close()
        raise
    return db


def _migrate(db: sqlite3.Connection) -> None:
    """
    Migrate the schema to the current version, one version at a time.

    Raises:
        ValueError: The schema is that of a newer server.
    """
    [version] = db.execute("PRAGMA user_version").fetchone()
    if version > len(_MIGRATIONS):
        raise ValueError(f"they were written by a newer server (schema version {version})")
    for number, script in enumerate(_MIGRATIONS[version:], version + 1):
        db.executescript(f"BEGIN IMMEDIATE; {script}; PRAGMA user_version = {number}; COMMIT;")


def _job_from_row(row: tuple[Any, ...]) -> Job:
    """
    Return the job in a row of `_COLUMNS`.
    """
    fields = dict(zip(_COLUMNS.split(", "), row, strict=True))
    url, tries, due = (fields.pop(column) for column in ("callback", "tries", "due"))
    fields["payload"] = json.loads(fields.pop("asked"))
    if fields["result"] is not None:
        result = json.loads(fields["result"])
        if fields["state"] == "done":
            fields["result"] = JobAnswer(**result)
        else:
            fields["result"] = JobFailure(_failure_code(result.pop("code")), **result)
    return Job(**fields, callback=None if url is None else Webhook(url, tries, due))


def _failure_code(name: str) -> FailureCode:
    """
    Return the entry called `name` of the catalogue.

    A later version of the server may have stored a code that this one does not know.
    """
    return next((code for code in CATALOGUE if code == name), ErrorCode.FAULT)


def _result_of_response(state: str, response: str) -> str:
    """
    Return the result of an ended job whose HTTP response was stored.

    Version 1 of the schema stored for each job that was done or had failed the status,
    the body and the headers of a response.

    Args:
        state: The job's state.
        response: The response as JSON.

    Returns:
        The result as JSON.
    """
    body = json.loads(response)["body"]
    if state == "done":
        return _to_json({"value": body})
    failure = {
        "code": body.pop("code"),
        "message": body.pop("error"),
        "retry_after": body.pop("retryAfter", None),
        "details": body,
    }
    return _to_json(failure)


def _to_json(value: Any) -> str:
    # ASCII, because a lone surrogate cannot be encoded as UTF-8.
    return json.dumps(value, separators=(",", ":"))


def _response_to_json(response: StoredResponse) -> str:
    return _to_json(
        {"status": response.status, "body": response.body, "headers": dict(response.headers)}
    )


def _response_from_json(text: str | None) -> StoredResponse | None:
    return None if text is None else StoredResponse(**json.loads(text), cacheable=True)
