"""
Run operations on an SQLite database, many in one transaction.

Those that write are committed together (group commit), so a slow disk costs one wait for all of
them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from twisted.python.failure import Failure

from kiroworkers.jobs.operation_queue import Operation, OperationQueue

#: Runs operations on SQLite.
SqliteQueue: TypeAlias = OperationQueue[sqlite3.Connection]

#: An operation on SQLite.
_SqliteOperation: TypeAlias = Operation[sqlite3.Connection]

#: Seconds after which a disk counts as failing that does not answer at all, such as one on
#: another machine.  It is longer than SQLite waits for a lock.
_STALL_TIMEOUT = 15.0

#: The number of unused pages that the file may keep for later use, and the number that one
#: step gives back to the file system.
_SPARE_PAGES, _PAGES_PER_STEP = 64, 256

#: Primary result codes of SQLite that mean a fault of the storage rather than a bug.
_STORAGE_ERRORS = {
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_NOTADB,
}


class SqliteEngine:
    """
    Run operations on a connection to SQLite; this is an `Engine`.

    Args:
        database: The connection; from now on only the executor uses it.
        check_file: Raises `OSError`, in the executor, if what is written would be lost.
    """

    stall_timeout = _STALL_TIMEOUT
    max_batch = 100

    def __init__(
        self, database: sqlite3.Connection, check_file: Callable[[], None] = lambda: None
    ) -> None:
        self._database = database
        self._check_file = check_file
        self._unused_pages = 0
        # Their number when the file was to shrink last; 0 if that had an effect.
        self._unused_before = 0

    def run_together(self, batch: Sequence[_SqliteOperation]) -> None:
        """
        Run `batch` in one transaction.

        If the storage fails, all operations that write fail; the others are run nonetheless.
        """
        try:
            if any(operation.writes for operation in batch):
                self._check_file()
                with _transaction(self._database):
                    for operation in batch:
                        self._run_one(operation)
            else:
                for operation in batch:
                    self._run_read(operation)
            self._note_unused(_count_unused(self._database))
        except (sqlite3.Error, OSError) as error:
            for operation in batch:
                if operation.writes:
                    operation.result = Failure(error)
                else:
                    self._run_read(operation)
            self._note_unused(0)

    def run_each(self, batch: Sequence[_SqliteOperation]) -> None:
        """
        Run each operation in a transaction of its own.

        One that cannot be stored, because it is large, does not keep others from being stored.
        """
        locked: Failure | None = None
        for operation in batch:
            if locked is not None:
                # It would wait for as long as the one before.
                operation.result = locked
                continue
            try:
                self._check_file()
                with _transaction(self._database):
                    self._run_one(operation)
            except (sqlite3.Error, OSError) as error:
                operation.result = Failure(error)
                if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY:
                    locked = operation.result
        self._note_unused(0)

    def probe(self, connection: sqlite3.Connection, /) -> None:
        """
        Write something that changes nothing.
        """
        [version] = connection.execute("PRAGMA user_version").fetchone()
        connection.execute(f"PRAGMA user_version = {version}")

    def is_storage_error(self, error: Exception) -> bool:
        """
        Return whether `error` is a fault of the storage rather than a bug.
        """
        if isinstance(error, sqlite3.Error):
            return getattr(error, "sqlite_errorcode", 0) & 0xFF in _STORAGE_ERRORS
        return isinstance(error, OSError)

    def reason(self, error: Exception) -> str:
        """
        Return what SQLite or the operating system says.
        """
        return str(error)

    def upkeep(self) -> Callable[[sqlite3.Connection], Any] | None:
        """
        Return what lets the file shrink, if it has many unused pages.
        """
        if not _SPARE_PAGES < self._unused_pages != self._unused_before:
            return None
        # Not again if it had no effect.
        self._unused_before = self._unused_pages
        return _shrink

    def interrupt(self) -> None:
        """
        Do nothing: a disk that does not answer cannot be interrupted.
        """

    def close(self) -> None:
        """
        Close the connection.
        """
        self._database.close()

    def _note_unused(self, pages: int) -> None:
        self._unused_pages = pages
        if pages != self._unused_before:
            self._unused_before = 0

    def _run_one(self, operation: _SqliteOperation) -> None:
        """
        Run an operation within a transaction; one that raises changes nothing.

        Raises:
            sqlite3.Error: The storage failed.
            OSError: Likewise.
        """
        self._database.execute("SAVEPOINT operation")
        try:
            operation.result = operation.function(self._database)
        except Exception as error:
            operation.result = Failure()
            if self.is_storage_error(error):
                raise
            self._database.execute("ROLLBACK TO operation")
        self._database.execute("RELEASE operation")

    def _run_read(self, operation: _SqliteOperation) -> None:
        try:
            operation.result = operation.function(self._database)
        except Exception:
            operation.result = Failure()


class _transaction:
    """
    Begin a transaction, and commit it; if anything is raised, roll it back.
    """

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def __enter__(self) -> None:
        self._database.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._database.execute("COMMIT")
        finally:
            # After some errors SQLite has rolled back already; a COMMIT may fail, too.
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")


def _shrink(database: sqlite3.Connection) -> None:
    """
    Give some of the file's unused pages back to the file system.
    """
    # Python 3.11 gives back one page for each statement, whatever number it names.
    for _ in range(_PAGES_PER_STEP):
        database.execute("PRAGMA incremental_vacuum(1)").fetchall()


def _count_unused(database: sqlite3.Connection) -> int:
    """
    Return the number of pages of the file that could be given back.
    """
    # Only a file whose `auto_vacuum` is incremental can shrink.
    query = (
        "SELECT freelist_count * (auto_vacuum = 2) FROM pragma_freelist_count, pragma_auto_vacuum"
    )
    try:
        [number] = database.execute(query).fetchone()
    except sqlite3.Error:
        # What was committed before stays committed.
        return 0
    return int(number)
