"""
Where jobs and kept answers live: SQLite.

It is called in the reactor's thread, where each call takes less than a millisecond
(measured on a virtual disk: 0.03 to 0.13 ms for a commit, and 4 to 20 ms for one in
a hundred, at a checkpoint): ``synchronous=NORMAL`` leaves it to the system when the
log of a commit reaches the disk.  So what is committed outlives the process, however
it ends; a loss of power may take the last moments.  With ``FULL`` a commit takes ten
times that.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kiroworkers.errors import CannotStart
from kiroworkers.jobs.job import (
    IdempotencyKey,
    IdempotencyRecord,
    Job,
    JobState,
    StoredResponse,
    Webhook,
)

#: What brings the schema from each version to the next.  Only ever added to.
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
)

_COLUMNS = (
    "id, client, agent, task, asked, created, priority, timeout, state, attempts, ended, "
    "said, callback, tries, due, number"
)
_OVER = "ended IS NOT NULL AND due IS NULL"
_UNFINISHED = "state IN ('queued', 'running')"


class JobStore:
    """
    The jobs, and what is kept under keys.  To be opened before it is used.
    """

    def __init__(self) -> None:
        self._db: sqlite3.Connection | None = None

    def open(self, file: Path | None) -> None:
        """
        Have what is in `file`; without one, in memory.

        Raises:
            CannotStart: when it cannot be had.
        """
        try:
            db = sqlite3.connect(":memory:" if file is None else file, isolation_level=None)
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = NORMAL")
            db.execute("PRAGMA foreign_keys = ON")
            _migrate(db)
        except (sqlite3.Error, ValueError) as problem:
            raise CannotStart(f"kiroworkers: the jobs in {file}: {problem}") from None
        self._db = db

    def close(self) -> None:
        """
        Use it no more.
        """
        if self._db is not None:
            self._db.close()
            self._db = None

    # Jobs.

    def add(self, job: Job, key: IdempotencyKey | None = None, fingerprint: str = "") -> None:
        """
        `job`, which is new, by `key` where there is one.
        """
        callback = job.callback or Webhook("")
        row = {
            "id": job.id,
            "client": job.client,
            "agent": job.agent,
            "task": job.task,
            "asked": _written(job.payload),
            "created": job.created,
            "priority": job.priority,
            "timeout": job.timeout,
            "state": job.state,
            "attempts": job.attempts,
            "callback": callback.url or None,
        }
        marks = ", ".join("?" for _ in row)
        with self._all_or_nothing():
            self._do(f"INSERT INTO jobs ({', '.join(row)}) VALUES ({marks})", *row.values())
            if key is not None:
                self._do(
                    "INSERT OR REPLACE INTO keys (client, task, word, fingerprint, job) "
                    "VALUES (?, ?, ?, ?, ?)",
                    *(key.client, key.task, key.key, fingerprint, job.id),
                )

    def get(self, id: str) -> Job | None:
        """
        The job of this id.
        """
        return next(self._jobs("id = ?", id), None)

    def unfinished(self) -> list[Job]:
        """
        The jobs that wait or run, in the order in which they came.
        """
        return list(self._jobs(f"{_UNFINISHED} ORDER BY number"))

    def count_unfinished(self) -> int:
        """
        How many those are.
        """
        return self._number(f"SELECT COUNT(*) FROM jobs WHERE {_UNFINISHED}")

    def listed(self, client: str | None, before: int | None, limit: int) -> list[Job]:
        """
        At most so many jobs, of all clients or of one, the newest first; those
        with numbers `before` that.  What they ask and came to is left out.
        """
        return list(
            self._jobs(
                "(?1 IS NULL OR client = ?1) AND (?2 IS NULL OR number < ?2) "
                "ORDER BY number DESC LIMIT ?3",
                *(client, before, limit),
                columns=_COLUMNS.replace("asked", "'{}'").replace("said", "NULL"),
            )
        )

    def position(self, job: Job) -> int:
        """
        The place of a job that waits among those for the same agent, by arrival;
        1 is the first.
        """
        return 1 + self._number(
            f"SELECT COUNT(*) FROM jobs WHERE {_UNFINISHED} AND state = 'queued' "
            "AND agent = ? AND number < ?",
            *(job.agent, job.number),
        )

    def started(self, id: str) -> None:
        """
        A worker is asked.
        """
        self._do("UPDATE jobs SET state = 'running', attempts = attempts + 1 WHERE id = ?", id)

    def waits(self, id: str) -> None:
        """
        A worker is to be asked later.
        """
        self._do("UPDATE jobs SET state = 'queued' WHERE id = ?", id)

    def ended(self, id: str, state: JobState, said: StoredResponse | None, now: float) -> None:
        """
        Nothing more is to be done but to call back, where that was wanted.
        """
        self._do(
            "UPDATE jobs SET state = ?, said = ?, ended = ?, "
            "due = CASE WHEN callback IS NULL THEN NULL ELSE ? END WHERE id = ?",
            *(state, None if said is None else _written_said(said), now, now, id),
        )

    def remove(self, id: str) -> None:
        """
        There is no such job.
        """
        self._do("DELETE FROM jobs WHERE id = ?", id)

    # Callbacks.

    def to_call_back(self) -> list[Job]:
        """
        The jobs whose ends are still to be told, in the order in which they are due.
        """
        return list(self._jobs("due IS NOT NULL ORDER BY due"))

    def called_back(self, id: str, due: float | None) -> None:
        """
        It was tried to tell; once more when it is `due`.
        """
        self._do("UPDATE jobs SET tries = tries + 1, due = ? WHERE id = ?", due, id)

    def call_nobody(self) -> None:
        """
        Nothing is to be told any more.
        """
        self._do("UPDATE jobs SET due = NULL WHERE due IS NOT NULL")

    # Keys.

    def record(self, key: IdempotencyKey) -> IdempotencyRecord | None:
        """
        What was asked under `key`.
        """
        found = self._do(
            "SELECT fingerprint, job, said FROM keys WHERE client = ? AND task = ? AND word = ?",
            *(key.client, key.task, key.key),
        ).fetchone()
        if found is None:
            return None
        fingerprint, job, said = found
        return IdempotencyRecord(fingerprint, job, _read_said(said))

    def keep(self, key: IdempotencyKey, fingerprint: str, said: StoredResponse, now: float) -> None:
        """
        Keep what was `said` under `key`.
        """
        self._do(
            "INSERT OR REPLACE INTO keys (client, task, word, fingerprint, said, kept) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            *(key.client, key.task, key.key, fingerprint, _written_said(said), now),
        )

    # Age.

    def oldest(self) -> float | None:
        """
        When that was which is to go first.
        """
        [found] = self._do(
            f"SELECT MIN(at) FROM (SELECT MIN(ended) AS at FROM jobs WHERE {_OVER} "
            "UNION ALL SELECT MIN(kept) FROM keys WHERE kept IS NOT NULL)"
        ).fetchone()
        oldest: float | None = found
        return oldest

    def forget(self, until: float, limit: int = 100) -> None:
        """
        Forget what ended or was kept up to then, but not more than so much at once.
        A job whose end is still to be told stays.
        """
        with self._all_or_nothing():
            self._do(
                "DELETE FROM jobs WHERE number IN "
                f"(SELECT number FROM jobs WHERE {_OVER} AND ended <= ? LIMIT ?)",
                *(until, limit),
            )
            self._do(
                "DELETE FROM keys WHERE (client, task, word) IN "
                "(SELECT client, task, word FROM keys WHERE kept <= ? LIMIT ?)",
                *(until, limit),
            )

    def _jobs(self, where: str, *values: Any, columns: str = _COLUMNS) -> Iterator[Job]:
        return map(_job, self._do(f"SELECT {columns} FROM jobs WHERE {where}", *values))

    def _number(self, question: str, *values: Any) -> int:
        [number] = self._do(question, *values).fetchone()
        return int(number)

    def _do(self, statement: str, *values: Any) -> sqlite3.Cursor:
        assert self._db is not None, "it is open"
        return self._db.execute(statement, values)

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        self._do("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._do("ROLLBACK")
            raise
        self._do("COMMIT")


def _migrate(db: sqlite3.Connection) -> None:
    """
    Bring the schema up to date, a version at a time.

    Raises:
        ValueError: when it is of a newer server.
    """
    [version] = db.execute("PRAGMA user_version").fetchone()
    if version > len(_MIGRATIONS):
        raise ValueError(f"they are of a newer server (version {version} of the schema)")
    for number, script in enumerate(_MIGRATIONS[version:], version + 1):
        db.executescript(f"BEGIN IMMEDIATE; {script}; PRAGMA user_version = {number}; COMMIT;")


def _job(row: tuple[Any, ...]) -> Job:
    named = dict(zip(_COLUMNS.split(", "), row, strict=True))
    url, tries, due = (named.pop(each) for each in ("callback", "tries", "due"))
    named["payload"] = json.loads(named.pop("asked"))
    named["said"] = _read_said(named["said"])
    return Job(**named, callback=None if url is None else Webhook(url, tries, due))


def _written(value: Any) -> str:
    # In ASCII, since lone surrogates are no UTF-8.
    return json.dumps(value, separators=(",", ":"))


def _written_said(said: StoredResponse) -> str:
    return _written({"status": said.status, "body": said.body, "headers": dict(said.headers)})


def _read_said(text: str | None) -> StoredResponse | None:
    return None if text is None else StoredResponse(**json.loads(text), cacheable=True)
