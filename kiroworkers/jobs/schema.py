"""
Open databases of jobs, and migrate those of earlier servers.
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from twisted.logger import Logger

from kiroworkers.errors import CannotStart
from kiroworkers.jobs.json_rows import to_json

#: The scripts that migrate the schema from each version to the next.  New ones are only
#: ever appended.  `result_of_response`, `is_response` and `is_json` in them are the
#: functions of these names below.  A row that cannot be read is moved to the table
#: `unreadable_jobs`, which nothing else uses.
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
    CREATE TABLE unreadable_jobs AS SELECT * FROM jobs
        WHERE said IS NOT NULL AND NOT is_response(state, CAST(said AS BLOB));
    DELETE FROM jobs WHERE number IN (SELECT number FROM unreadable_jobs);
    ALTER TABLE jobs RENAME COLUMN said TO result;
    UPDATE jobs SET result = result_of_response(state, result) WHERE result IS NOT NULL;
    """,
    # The payload of a job is deleted when the job ends.  `usage` is the sum of the sizes of
    # each client's jobs.
    """
    CREATE TABLE IF NOT EXISTS unreadable_jobs AS SELECT * FROM jobs WHERE 0;
    INSERT INTO unreadable_jobs SELECT * FROM jobs WHERE NOT (
        is_json(CAST(asked AS BLOB)) AND (result IS NULL OR is_json(CAST(result AS BLOB)))
    );
    DELETE FROM jobs WHERE number IN (SELECT number FROM unreadable_jobs);
    ALTER TABLE jobs ADD COLUMN size INTEGER NOT NULL DEFAULT 0;
    UPDATE jobs SET asked = '{}' WHERE ended IS NOT NULL;
    UPDATE jobs SET size = LENGTH(asked) + COALESCE(LENGTH(result), 0);
    CREATE TABLE usage (client TEXT PRIMARY KEY, bytes INTEGER NOT NULL) WITHOUT ROWID;
    INSERT INTO usage SELECT client, SUM(size) FROM jobs GROUP BY client;
    CREATE TRIGGER jobs_added AFTER INSERT ON jobs BEGIN
        INSERT INTO usage VALUES (NEW.client, NEW.size)
            ON CONFLICT (client) DO UPDATE SET bytes = bytes + NEW.size;
    END;
    CREATE TRIGGER jobs_changed AFTER UPDATE OF size ON jobs BEGIN
        UPDATE usage SET bytes = bytes + NEW.size - OLD.size WHERE client = NEW.client;
    END;
    CREATE TRIGGER jobs_deleted AFTER DELETE ON jobs BEGIN
        UPDATE usage SET bytes = bytes - OLD.size WHERE client = OLD.client;
        DELETE FROM usage WHERE client = OLD.client AND bytes = 0;
    END;
    """,
    "ALTER TABLE jobs ADD COLUMN model TEXT NOT NULL DEFAULT ''",
    # `server` has one row: how many servers have opened the database, and whether the last one
    # may have ended without saving the history of its requests, with the time until which it did.
    """
    ALTER TABLE jobs ADD COLUMN request_id TEXT NOT NULL DEFAULT '';
    ALTER TABLE jobs ADD COLUMN traceparent TEXT NOT NULL DEFAULT '';
    CREATE TABLE server (starts INTEGER NOT NULL, unsaved INTEGER NOT NULL, saved_at REAL);
    INSERT INTO server VALUES (0, 0, NULL);
    CREATE TABLE history (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        ended REAL NOT NULL,
        content TEXT NOT NULL
    );
    CREATE TABLE history_gaps (reason TEXT NOT NULL, begins REAL, ends REAL NOT NULL);
    """,
)

#: The value of SQLite's ``auto_vacuum`` with which a file shrinks only when it is told to.
_INCREMENTAL = 2

#: The size to which the log of commits is cut when it has been copied into the database.
_MAX_LOG = 4 * 1024**2

_log = Logger()


def open_database(
    file: Path | None,
    now: float,
    keep_webhooks: bool = True,
    factory: type[sqlite3.Connection] = sqlite3.Connection,
) -> sqlite3.Connection:
    """
    Open the database in `file`, and create or migrate its tables.  This blocks.

    The connection may be used in any one thread at a time.

    Args:
        file: The path of the database; None keeps it in memory.
        now: The current time in seconds since the epoch.
        keep_webhooks: Whether webhooks of ended jobs are still to be called.
        factory: The class of the connection.

    Raises:
        CannotStart: The file cannot be opened, is not a database, was written by a newer
            server, or is in a file system without locks.
    """
    try:
        if file is not None:
            check_locks(file.parent)
        database = _connect(":memory:" if file is None else str(file), factory)
        # A server whose clock was ahead must not keep records for ever.
        database.execute("UPDATE jobs SET ended = ?1 WHERE ended > ?1", (now,))
        database.execute("UPDATE keys SET kept = ?1 WHERE kept > ?1", (now,))
        if not keep_webhooks:
            database.execute("UPDATE jobs SET due = NULL WHERE due IS NOT NULL")
        database.execute("UPDATE server SET starts = starts + 1")
        return database
    except (sqlite3.Error, OSError, ValueError) as error:
        raise CannotStart(f"kiroworkers: cannot open the jobs in {file}: {error}") from None


def server_number(database: sqlite3.Connection) -> int:
    """
    Return the number of servers that have opened the database, this one included.
    """
    [number] = database.execute("SELECT starts FROM server").fetchone()
    return int(number)


def check_locks(folder: Path, lock: Callable[[int, int], None] = fcntl.lockf) -> None:
    """
    Check that files in `folder` can be locked as SQLite does it.

    Args:
        folder: The folder.
        lock: Locks the file with a descriptor; ``fcntl.lockf``.

    Raises:
        ValueError: The file system has no locks.
        OSError: No file can be created in the folder.
    """
    # Not the database itself: closing another descriptor of it would release its locks.
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            lock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ValueError(f"this file system has no locks: {error.strerror}") from None


def file_check(file: Path) -> Callable[[], None]:
    """
    Return a function that checks whether `file` is still the same file.

    SQLite does not notice that a file was removed, and writes to it what no later server
    will find.  The function raises `OSError` if the file was removed or replaced.
    """
    opened = file.stat()

    def check() -> None:
        try:
            same = os.path.samestat(file.stat(), opened)
        except (FileNotFoundError, NotADirectoryError):
            same = False
        if not same:
            raise OSError("the file of the jobs was removed or replaced")

    return check


def _connect(file: str, factory: type[sqlite3.Connection]) -> sqlite3.Connection:
    """
    Return a connection to the database in `file`, migrated to the current schema.

    Raises:
        sqlite3.Error: The file cannot be opened, or is not a database.
        ValueError: The schema is that of a newer server.
    """
    database = sqlite3.connect(file, isolation_level=None, check_same_thread=False, factory=factory)
    try:
        # Before the first table: later it takes effect with VACUUM only.
        database.execute(f"PRAGMA auto_vacuum = {_INCREMENTAL}")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute(f"PRAGMA journal_size_limit = {_MAX_LOG}")
        # What is committed survives the end of the process, however it ends.  A power failure
        # may lose the last commits; with FULL a commit takes ten times as long.
        database.execute("PRAGMA synchronous = NORMAL")
        database.execute("PRAGMA foreign_keys = ON")
        database.create_function("is_json", 1, is_json)
        database.create_function("is_response", 2, is_response)
        database.create_function("result_of_response", 2, result_of_response)
        _migrate(database)
        _enable_vacuum(database)
    except BaseException:
        database.close()
        raise
    return database


def _migrate(database: sqlite3.Connection) -> None:
    """
    Migrate the schema to the current version, one version at a time.

    Raises:
        ValueError: The schema is that of a newer server.
    """
    [version] = database.execute("PRAGMA user_version").fetchone()
    if version > len(_MIGRATIONS):
        raise ValueError(f"they were written by a newer server (schema version {version})")
    for number, script in enumerate(_MIGRATIONS[version:], version + 1):
        database.executescript(
            f"BEGIN IMMEDIATE; {script}; PRAGMA user_version = {number}; COMMIT;"
        )
    if 0 < version < len(_MIGRATIONS):
        for [id] in database.execute("SELECT id FROM unreadable_jobs"):
            _log.error("job {id}: cannot be read, and is now in the table unreadable_jobs", id=id)


def _enable_vacuum(database: sqlite3.Connection) -> None:
    """
    Write the file anew if it is one that cannot shrink step by step.
    """
    if database.execute("PRAGMA auto_vacuum").fetchone() == (_INCREMENTAL,):
        return
    try:
        database.execute("VACUUM")
    except sqlite3.OperationalError as error:
        # It needs space for a copy.  The next server tries again.
        _log.warn("the file of the jobs cannot shrink: {error}", error=error)


def is_json(text: bytes) -> bool:
    """
    Return whether `text` is JSON in UTF-8.
    """
    try:
        json.loads(text.decode())
    except ValueError:
        return False
    return True


def is_response(state: str, text: bytes) -> bool:
    """
    Return whether `text` is a response in UTF-8 that `result_of_response` can read.
    """
    try:
        result_of_response(state, text.decode())
    except (ValueError, KeyError, TypeError, AttributeError):
        return False
    return True


def result_of_response(state: str, response: str) -> str:
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
        return to_json({"value": body})
    failure = {
        "code": body.pop("code"),
        "message": body.pop("error"),
        "retry_after": body.pop("retryAfter", None),
        "details": body,
    }
    return to_json(failure)
