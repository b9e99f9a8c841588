"""
Run operations on an SQLite database outside the reactor's thread, many in one transaction.

Operations that arrive while others run are run together afterwards, and committed
together (group commit), so a slow disk costs one wait for all of them.

If the storage fails, most operations fail with `StorageUnavailable`, and their caller
decides what to do.  Those that must not be lost are *kept*: they stay in memory, in their
order, and are repeated with a growing delay until they succeed.  While the storage fails,
writes that are not kept are refused at once, so nothing accumulates and no client waits.
The callers must bound how many operations are kept.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from math import ceil
from typing import Any, TypeAlias, TypeVar

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from kiroworkers.clocks import WallClock
from kiroworkers.errors import StorageUnavailable
from kiroworkers.jobs.executor import Executor
from kiroworkers.jobs.store import StorageStatus

T = TypeVar("T")

#: Performs an operation on the database, in the executor.
Function: TypeAlias = Callable[[sqlite3.Connection], T]

#: Seconds until storage that has failed is tried again: at first, and at most after
#: doubling.
_FIRST_DELAY, _MAX_DELAY = 0.5, 5.0

#: Seconds after which storage counts as failing that does not answer at all, such as a disk
#: on another machine.  It is longer than SQLite waits for a lock.
_STALL_TIMEOUT = 15.0

#: The maximum number of operations in one transaction.
_MAX_BATCH = 100

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


@define(eq=False)
class _Operation:
    """
    Hold an operation on the database.

    Attributes:
        function: Performs it.
        writes: Whether it may change the database.
        kept: Whether it is repeated until it succeeds.
        done: Fires with its result.
        started: Whether the executor has it.
        result: What `function` returned or raised.
    """

    function: Function[Any]
    writes: bool
    kept: bool
    done: Deferred[Any] = field(init=False)
    started: bool = False
    result: Any = None

    def finish(self, result: Any) -> None:
        """
        Fire `done`, unless it was cancelled.
        """
        if not self.done.called:
            self.done.callback(result)


class CommitQueue:
    """
    Run operations on one database connection, in the order in which they are given.

    Args:
        clock: Schedules repetitions.
        wall_clock: Returns the time in seconds since the epoch.
        executor: Runs the operations, and nothing else.
        database: The connection; from now on only the executor uses it.
        check_file: Raises `OSError`, in the executor, if what is written would be lost.

    Attributes:
        status: Whether the storage works.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        wall_clock: WallClock,
        executor: Executor,
        database: sqlite3.Connection,
        check_file: Callable[[], None] = lambda: None,
    ) -> None:
        self.status = StorageStatus()
        self._failing_since = 0.0
        self._clock = clock
        self._wall_clock = wall_clock
        self._executor = executor
        self._database = database
        self._check_file = check_file
        self._waiting: deque[_Operation] = deque()
        self._kept: list[_Operation] = []
        self._running = False
        self._stall_timer: IDelayedCall | None = None
        self._used = False
        self._closed: Deferred[None] | None = None
        self._delay = _FIRST_DELAY
        self._retry: IDelayedCall | None = None
        self._last_attempt = False
        self._unused_pages = 0
        # Their number when the file was to shrink last; 0 if that had an effect.
        self._unused_before = 0
        # Operations whose results are still to be reported.
        self._done: deque[_Operation] = deque()
        self._delivery: IDelayedCall | None = None

    def read(self, function: Function[T]) -> Deferred[T]:
        """
        Call `function`, which only reads.

        Returns:
            A Deferred that fires with what the function returns or raises, or with
            `StorageUnavailable`.
        """
        return self._add(_Operation(function, writes=False, kept=False))

    def write(self, function: Function[T]) -> Deferred[T]:
        """
        Call `function` in a transaction.

        If the Deferred is cancelled before the function is called, it is not called.

        Returns:
            A Deferred that fires, after the commit, with what the function returns or
            raises, or with `StorageUnavailable`.
        """
        operation = _Operation(function, writes=True, kept=False)
        if self.status.reason is not None:
            operation.done = Deferred()
            operation.done.errback(self.unavailable())
            return operation.done
        return self._add(operation)

    def keep(self, function: Function[T]) -> Deferred[T]:
        """
        Call `function` in a transaction, as often as necessary until it is committed.

        Cancelling the Deferred does not prevent that.  A kept operation may be committed
        after those that were given later.

        Returns:
            A Deferred that fires, after the commit, with what the function returns or
            raises; or with `StorageUnavailable` when the queue is closed before that.
        """
        return self._add(_Operation(function, writes=True, kept=True))

    def unavailable(self) -> StorageUnavailable:
        """
        Return the error for requests that need the storage while it fails.
        """
        seconds = 1.0 if self._retry is None else self._retry.getTime() - self._clock.seconds()
        return StorageUnavailable(self.status.reason or "", max(1, ceil(seconds)))

    def close(self) -> Deferred[None]:
        """
        Run what waits, try once more what is kept, and close the connection.
        """
        self._closed = Deferred()
        if not self._used:
            # The server could not start, and the executor may not work.
            self._database.close()
            self._closed.callback(None)
            return self._closed
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if self._stall_timer is not None and self._stall_timer.active():
            self._stall_timer.cancel()
            self._stall_timer = None
        self._run_next()
        return self._closed

    def _add(self, operation: _Operation) -> Deferred[Any]:
        operation.done = Deferred(lambda _: self._withdraw(operation))
        if self._closed is not None and self._closed.called:
            operation.finish(Failure(StorageUnavailable("it is closed", 1)))
            return operation.done
        if operation.kept and self.status.reason is not None:
            self._kept.append(operation)
        elif self._stalled:
            operation.finish(Failure(self.unavailable()))
        else:
            self._waiting.append(operation)
        self._run_next()
        return operation.done

    def _withdraw(self, operation: _Operation) -> None:
        if not operation.kept and operation in self._waiting:
            self._waiting.remove(operation)

    def _run_next(self) -> None:
        """
        Give the executor what waits, unless it is busy.
        """
        if self._running:
            return
        if self._waiting:
            size = min(len(self._waiting), _MAX_BATCH)
            self._run([self._waiting.popleft() for _ in range(size)], _run_together)
        elif self._closed is not None:
            if self._kept:
                self._last_attempt = True
                self._retry_kept()
            else:
                # Nothing runs any more.
                self._running = True
                self._executor.call(self._database.close).addBoth(self._on_closed)
        elif (
            _SPARE_PAGES < self._unused_pages != self._unused_before and self.status.reason is None
        ):
            # Not again if it had no effect.
            self._unused_before = self._unused_pages
            # `_on_failed` reports a failure.
            self.write(_shrink).addErrback(lambda _: None)

    def _run(
        self,
        batch: list[_Operation],
        run: Callable[[sqlite3.Connection, Callable[[], None], Sequence[_Operation]], int],
    ) -> None:
        self._running = self._used = True
        for operation in batch:
            operation.started = True
        if self._closed is None:
            self._stall_timer = self._clock.callLater(_STALL_TIMEOUT, self._on_stalled)
        running = self._executor.call(lambda: run(self._database, self._check_file, batch))
        running.addBoth(self._on_run, batch)

    def _on_run(self, unused_pages: int | Failure, batch: list[_Operation]) -> None:
        """
        Report the results of `batch`, and run what waits.
        """
        self._running = False
        if self._stall_timer is not None and self._stall_timer.active():
            self._stall_timer.cancel()
        self._stall_timer = None
        if isinstance(unused_pages, Failure):
            for operation in batch:
                operation.result = unused_pages
        else:
            self._unused_pages = unused_pages
            if unused_pages != self._unused_before:
                self._unused_before = 0
        failed: list[_Operation] = []
        done: list[_Operation] = []
        for operation in batch:
            (done if _storage_error(operation.result) is None else failed).append(operation)
        if failed:
            self._on_failed(failed)
        elif self.status.reason is not None and any(operation.writes for operation in batch):
            self._on_recovered()
        self._done.extend(done)
        if self._delivery is None:
            self._deliver()
        self._run_next()

    def _deliver(self) -> None:
        """
        Report the next result, and the others later, after other events are handled.
        """
        self._delivery = None
        if self._done:
            operation = self._done.popleft()
            operation.finish(operation.result)
        if self._done and self._delivery is None:
            self._delivery = self._clock.callLater(0, self._deliver)

    def _on_failed(self, failed: list[_Operation]) -> None:
        """
        Schedule the next attempt, and refuse what need not be kept.
        """
        self._set_failing(str(_storage_error(failed[0].result)))
        # Nothing else is to be written now.  What has just failed is older than what waits.
        waiting = [operation for operation in self._waiting if operation.writes]
        self._waiting = deque(operation for operation in self._waiting if not operation.writes)
        failed = [*failed, *waiting]
        self._kept[:0] = [operation for operation in failed if operation.kept]
        if self._last_attempt:
            for operation in self._kept:
                operation.finish(Failure(self.unavailable()))
            self._log.error("storage: {n} change(s) could not be stored", n=len(self._kept))
            self._kept.clear()
        else:
            self._schedule_retry()
        for operation in failed:
            if not operation.kept:
                operation.finish(Failure(self.unavailable()))

    def _on_stalled(self) -> None:
        """
        Refuse what waits, because what runs has not ended for long; it may still succeed.
        """
        self._set_failing(f"it has not answered for {_STALL_TIMEOUT:g} seconds")
        waiting = list(self._waiting)
        self._waiting.clear()
        self._kept += [operation for operation in waiting if operation.kept]
        self._schedule_retry()
        for operation in waiting:
            if not operation.kept and not operation.done.called:
                operation.finish(Failure(self.unavailable()))

    @property
    def _stalled(self) -> bool:
        """
        Return whether what runs has not ended for long.
        """
        return self._stall_timer is not None and not self._stall_timer.active()

    def _set_failing(self, reason: str) -> None:
        if self.status.reason is None:
            self.status = StorageStatus(reason, self._wall_clock())
            self._failing_since = self._clock.seconds()
            self._log.error(
                "storage: {reason}; requests for jobs are refused until it works again",
                reason=reason,
            )
        else:
            self.status = StorageStatus(reason, self.status.since)

    def _schedule_retry(self) -> None:
        if self._retry is None and self._closed is None:
            self._retry = self._clock.callLater(self._delay, self._retry_kept)
            self._delay = min(2 * self._delay, _MAX_DELAY)

    def _retry_kept(self) -> None:
        """
        Try again what is kept, or else whether anything can be written.
        """
        self._retry = None
        if self._running:
            self._retry = self._clock.callLater(_FIRST_DELAY, self._retry_kept)
            return
        batch, self._kept = self._kept, []
        if not batch:
            probe = _Operation(_probe, writes=True, kept=False)
            probe.done = Deferred()
            # `_on_failed` reports a failure.
            probe.done.addErrback(lambda _: None)
            batch.append(probe)
        self._run(batch, _run_each)

    def _on_recovered(self) -> None:
        self.status = StorageStatus()
        self._delay = _FIRST_DELAY
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        self._waiting.extendleft(reversed(self._kept))
        self._kept.clear()
        seconds = self._clock.seconds() - self._failing_since
        self._log.info("storage works again, after {seconds:.1f} s", seconds=seconds)

    def _on_closed(self, result: object) -> None:
        if isinstance(result, Failure):
            self._log.failure("storage: cannot close the database", result)
        self._executor.stop()
        if self._delivery is not None:
            self._delivery.cancel()
        for operation in self._done:
            operation.finish(operation.result)
        assert self._closed is not None, "close() was called"
        self._closed.callback(None)


def _run_together(
    database: sqlite3.Connection, check_file: Callable[[], None], batch: Sequence[_Operation]
) -> int:
    """
    Run `batch` in one transaction, and return the number of unused pages of the file.

    If the storage fails, all operations that write fail; the others are run nonetheless.
    """
    try:
        if any(operation.writes for operation in batch):
            check_file()
            with _transaction(database):
                for operation in batch:
                    _run_one(database, operation)
        else:
            for operation in batch:
                _run_read(database, operation)
        return _count_unused(database)
    except (sqlite3.Error, OSError) as error:
        for operation in batch:
            if operation.writes:
                operation.result = Failure(error)
            else:
                _run_read(database, operation)
    return 0


def _run_each(
    database: sqlite3.Connection, check_file: Callable[[], None], batch: Sequence[_Operation]
) -> int:
    """
    Run each operation in a transaction of its own, and return the number of unused pages.

    One that cannot be stored, because it is large, does not keep others from being stored.
    """
    locked: Failure | None = None
    for operation in batch:
        if locked is not None:
            # It would wait for as long as the one before.
            operation.result = locked
            continue
        try:
            check_file()
            with _transaction(database):
                _run_one(database, operation)
        except (sqlite3.Error, OSError) as error:
            operation.result = Failure(error)
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY:
                locked = operation.result
    return 0


def _run_one(database: sqlite3.Connection, operation: _Operation) -> None:
    """
    Run an operation within a transaction; one that raises changes nothing.

    Raises:
        sqlite3.Error: The storage failed.
        OSError: Likewise.
    """
    database.execute("SAVEPOINT operation")
    try:
        operation.result = operation.function(database)
    except Exception as error:
        operation.result = Failure()
        if _is_storage_error(error):
            raise
        database.execute("ROLLBACK TO operation")
    database.execute("RELEASE operation")


def _run_read(database: sqlite3.Connection, operation: _Operation) -> None:
    try:
        operation.result = operation.function(database)
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


def _probe(database: sqlite3.Connection) -> None:
    """
    Write something that changes nothing.
    """
    [version] = database.execute("PRAGMA user_version").fetchone()
    database.execute(f"PRAGMA user_version = {version}")


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


def _storage_error(result: object) -> Exception | None:
    """
    Return the error if `result` is the failure of an operation because of the storage.
    """
    error = result.value if isinstance(result, Failure) else None
    return error if isinstance(error, Exception) and _is_storage_error(error) else None


def _is_storage_error(error: Exception) -> bool:
    if isinstance(error, sqlite3.Error):
        return getattr(error, "sqlite_errorcode", 0) & 0xFF in _STORAGE_ERRORS
    return isinstance(error, OSError)
