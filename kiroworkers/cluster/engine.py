"""
Run operations on a PostgreSQL database, through one connection that is made again when it breaks.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from select import POLLRDHUP, poll
from threading import Lock, Timer
from typing import Any, LiteralString, TypeAlias

import psycopg
from psycopg import errors
from twisted.python.failure import Failure

from kiroworkers.errors import CannotStart
from kiroworkers.jobs.operation_queue import Operation, OperationQueue

#: A connection in autocommit mode, whose search path is the schema of this package.
Connection: TypeAlias = psycopg.Connection[Any]

#: Runs operations on PostgreSQL.
PostgresQueue: TypeAlias = OperationQueue[Connection]

#: The schema of the database that has all tables and functions.
SCHEMA = "kiroworkers"

#: Close a socket at once, without delivering what is still to be sent (``struct linger``).
_RESET = struct.pack("ii", 1, 0)

#: How often a statement is run that other statements prevented from running.
_MAX_RUNS = 3

#: The errors of a database that others can repair, besides `psycopg.OperationalError`: it is
#: read-only, the rights were withdrawn, or the tables are not there (a backup is restored) or do
#: not fit.
_STORAGE_ERRORS = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    errors.ReadOnlySqlTransaction,
    errors.InsufficientPrivilege,
    errors.InvalidSchemaName,
    errors.UndefinedTable,
    errors.UndefinedFunction,
    CannotStart,
    OSError,
)

#: The part of the time for a statement during which the end of the last session is awaited.
_END_WAIT = 1 / 4

#: Identify the session of a connection; and end that of an earlier one, and wait for some
#: milliseconds until it has ended.
_SESSION = "SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()"
_END_SESSION = """
    SELECT pg_terminate_backend(pid, %s) FROM pg_stat_activity
    WHERE pid = %s AND backend_start = %s
"""


def connect(address: str, statement_timeout: float, *statements: LiteralString) -> Connection:
    """
    Return a new connection.  This blocks.

    Args:
        address: The connection string.
        statement_timeout: Seconds after which the database gives up a statement, and half of
            which it waits for a lock.
        *statements: Are executed first.

    Raises:
        psycopg.Error: The database cannot be reached, or refuses the connection.
    """
    connection = psycopg.connect(address, autocommit=True)
    try:
        # The database cannot give up anything if it hangs itself, or a pooler before it.
        with _broken_after(connection, statement_timeout):
            _configure(connection, statement_timeout)
            for statement in statements:
                connection.execute(statement)
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def _broken_after(connection: Connection, seconds: float) -> Iterator[None]:
    """
    Break a connection if the block has not ended within some seconds.
    """
    with socket.socket(fileno=os.dup(connection.fileno())) as duplicate:

        def interrupt() -> None:
            with suppress(OSError):
                duplicate.shutdown(socket.SHUT_RDWR)

        timer = Timer(seconds, interrupt)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()


def _configure(connection: Connection, statement_timeout: float) -> None:
    """
    Set the parameters of a new connection.
    """
    # Not when it is made: a pooler may not know them.  A server that is stopped within a
    # transaction must not keep its locks.
    milliseconds = round(statement_timeout * 1000)
    connection.execute(
        "SELECT set_config('search_path', %s, false), "
        "set_config('statement_timeout', %s, false), "
        "set_config('lock_timeout', %s, false), "
        "set_config('idle_in_transaction_session_timeout', %s, false), "
        # The schema's functions rely on it, and a database may have another default.
        "set_config('default_transaction_isolation', 'read committed', false)",
        (SCHEMA, str(milliseconds), str(milliseconds // 2), str(milliseconds)),
    )


class PostgresEngine:
    """
    Run operations on one connection at a time; this is an `Engine`.

    An operation whose connection breaks may have been committed all the same.  So those that are
    kept must have the same effect if they are run twice.

    Attributes:
        stall_timeout: Seconds after which a database counts as failing that does not answer.
        max_batch: The maximum number of operations that are run together.
        connections: The number of connections that were made so far.

    Args:
        address: The connection string.
        stall_timeout: See above.
        check: Called with each new connection; raises `CannotStart` if its schema does not fit.
    """

    # Each commits by itself, so many would only make a slow database seem to hang.
    max_batch = 10

    def __init__(
        self,
        address: str,
        stall_timeout: float,
        check: Callable[[Connection], None] = lambda connection: None,
    ) -> None:
        self._check = check
        self.stall_timeout = stall_timeout
        self.connections = 0
        self._address = address
        self._connection: Connection | None = None
        # A duplicate of the connection's socket: its number stays ours whatever libpq does.
        self._socket: socket.socket | None = None
        self._lock = Lock()
        # Identifies the session of the last connection.
        self._session: tuple[Any, ...] | None = None

    def open(self) -> Connection:
        """
        Return the connection, and make one if there is none that works.  This blocks.

        Raises:
            psycopg.Error: The database cannot be reached, or refuses the connection.
            CannotStart: Its schema does not fit.
        """
        connection = self._connection
        if connection is not None and not self._has_ended(connection):
            return connection
        self.close()
        connection = psycopg.connect(self._address, autocommit=True)
        self.connections += 1
        with self._lock:
            self._connection = connection
            self._socket = socket.socket(fileno=os.dup(connection.fileno()))
        try:
            # The first connection is made by no operation, so nothing else interrupts it.
            with _broken_after(connection, 2 * self.stall_timeout):
                _configure(connection, 2 * self.stall_timeout)
                self._end_last_session(connection)
                self._check(connection)
        except BaseException:
            self.close()
            raise
        return connection

    def run_together(self, batch: Sequence[Operation[Connection]]) -> None:
        """
        Run the operations of `batch`, each by itself.

        Once one finds that the connection is broken, the others fail as well.
        """
        broken: Failure | None = None
        for operation in batch:
            if broken is not None:
                operation.result = broken
                continue
            operation.result = self._run(operation)
            if isinstance(operation.result, Failure) and self._is_broken():
                broken = operation.result
        if broken is not None:
            self.close()

    def run_each(self, batch: Sequence[Operation[Connection]]) -> None:
        """
        Run the operations of `batch`, as `run_together` does.
        """
        self.run_together(batch)

    def probe(self, connection: Connection, /) -> None:
        """
        Check that the database can be written.
        """
        connection.execute("DELETE FROM keys WHERE false")

    def is_storage_error(self, error: Exception) -> bool:
        """
        Return whether `error` is a fault of the database rather than a bug.
        """
        return isinstance(error, _STORAGE_ERRORS)

    def reason(self, error: Exception) -> str:
        """
        Return what is wrong, without the names of hosts and users in the database's own words.
        """
        match error:
            case errors.ReadOnlySqlTransaction():
                return "the database is read-only"
            case errors.QueryCanceled() | errors.LockNotAvailable():
                return "the database was too slow"
            case errors.DiskFull():
                return "the database's disk is full"
            case psycopg.OperationalError() | psycopg.InterfaceError():
                return "the database cannot be reached"
        return "the database has no tables that this server may use"

    def upkeep(self) -> None:
        """
        Return nothing to do: the database looks after itself.
        """

    def interrupt(self) -> None:
        """
        Break the connection, so that a statement that hangs fails.

        What was not delivered yet must not be executed later, when the network works again: the
        connection is reset when it is closed.
        """
        with self._lock:
            if self._socket is not None:
                with suppress(OSError):
                    self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                    self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """
        Close the connection, if there is one.
        """
        with self._lock:
            connection, self._connection = self._connection, None
            duplicate, self._socket = self._socket, None
        if duplicate is not None:
            duplicate.close()
        if connection is not None:
            connection.close()

    def _run(self, operation: Operation[Connection]) -> Any:
        """
        Return what the operation returns, or a `Failure`.
        """
        for number in range(1, _MAX_RUNS + 1):
            try:
                return operation.function(self.open())
            except (errors.DeadlockDetected, errors.SerializationFailure):
                # It was rolled back as a whole.
                if number == _MAX_RUNS:
                    return Failure()
            except Exception:
                return Failure()
        raise AssertionError("the loop returns")

    def _end_last_session(self, connection: Connection) -> None:
        """
        Make sure that what the last connection was executing when it broke is not executed later.

        The database's process may have a statement that it has not read or finished yet.
        """
        if self._session is not None:
            # A process that is stopped does not end, but it will before it goes on.
            wait = round(1000 * self.stall_timeout * _END_WAIT)
            connection.execute(_END_SESSION, (wait, *self._session))
        self._session = connection.execute(_SESSION).fetchone()

    def _is_broken(self) -> bool:
        return self._connection is None or self._connection.broken

    def _has_ended(self, connection: Connection) -> bool:
        """
        Return whether a connection, which was not used for a while, has ended meanwhile.
        """
        if connection.closed:
            return True
        ended = poll()
        ended.register(connection.fileno(), POLLRDHUP)
        return bool(ended.poll(0))
