"""
Tests for `kiroworkers.cluster.engine`, on a real database.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from threading import Thread
from typing import Any

from psycopg import errors
from twisted.internet import reactor
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.cluster.engine import Connection, PostgresEngine, PostgresQueue, connect
from kiroworkers.errors import CannotStart, StorageUnavailable
from kiroworkers.jobs.executor import ThreadExecutor
from kiroworkers.jobs.store import StorageStatus
from tests.postgres import DatabaseTestCase, postgres

_REACHED = StorageStatus()


class EngineTests(DatabaseTestCase):
    """
    Tests for `PostgresEngine` in an `OperationQueue`.
    """

    def setUp(self) -> None:
        super().setUp()
        self.engine = PostgresEngine(self.address, 0.5)
        self.queue = PostgresQueue(reactor, time.time, ThreadExecutor(reactor), self.engine)
        self.addCleanup(self.queue.close)
        self.other = self.connect()
        self.other.execute("CREATE TABLE kiroworkers.numbers (number int)")
        self.addCleanup(self.drop)

    def drop(self) -> None:
        """
        Drop the table: the next test gets the same database.
        """
        with self.connect() as connection:
            connection.execute("DROP TABLE kiroworkers.numbers")

    def numbers(self) -> list[int]:
        return [number for [number] in self.other.execute("SELECT number FROM kiroworkers.numbers")]

    async def unavailable(self, operation: Any) -> str:
        """
        Return why an operation fails.
        """
        error: Any = await self.assertFailure(operation, StorageUnavailable)
        return str(error)

    async def test_results(self) -> None:
        """
        An operation's result or exception is what its function returns or raises; a bug is not
        taken for a failure of the database.
        """
        self.assertEqual(await self.queue.read(lambda db: db.execute("SELECT 7").fetchone()), (7,))
        wrong = self.queue.write(lambda db: db.execute("SELECT wrong"))
        await self.assertFailure(wrong, errors.UndefinedColumn)
        self.assertEqual((self.queue.status, self.engine.connections), (_REACHED, 1))

    async def test_ended_while_idle(self) -> None:
        """
        A connection that ended while it was not used is replaced, and nobody notices.
        """
        pid = await self.queue.read(lambda db: db.info.backend_pid)
        self.other.execute("SELECT pg_terminate_backend(%s, 10000)", (pid,))
        await self.queue.write(insert)
        self.assertEqual((self.numbers(), self.engine.connections), ([1], 2))

    async def test_ended(self) -> None:
        """
        When the connection ends, what must be kept is stored on the next one.
        """
        pid = await self.queue.read(lambda db: db.info.backend_pid)
        hanging = self.queue.read(lambda db: db.execute("SELECT pg_sleep(60)"))
        kept = self.queue.keep(insert)
        self.other.execute("SELECT pg_terminate_backend(%s, 10000)", (pid,))
        reason = "The server's storage fails: the database cannot be reached"
        self.assertEqual(await self.unavailable(hanging), reason)
        await kept
        self.assertEqual((self.numbers(), self.queue.status), ([1], _REACHED))

    async def test_hanging(self) -> None:
        """
        A database that does not answer is given up, and tried again.
        """
        pid = await self.queue.read(lambda db: db.info.backend_pid)
        os.kill(pid, signal.SIGSTOP)
        self.addCleanup(os.kill, pid, signal.SIGCONT)
        hanging = self.queue.write(insert)
        self.assertIn("cannot be reached", await self.unavailable(hanging))
        await self.queue.keep(insert)
        self.assertEqual((self.numbers(), self.queue.status), ([1], _REACHED))

    async def test_closed_while_hanging(self) -> None:
        """
        A queue that is closed while the database does not answer stores what must be kept on
        another connection, and ends.
        """
        queue = PostgresQueue(
            reactor, time.time, ThreadExecutor(reactor), PostgresEngine(self.address, 0.5)
        )
        pid = await queue.read(lambda db: db.info.backend_pid)
        os.kill(pid, signal.SIGSTOP)
        self.addCleanup(os.kill, pid, signal.SIGCONT)
        kept = queue.keep(insert)
        await queue.close()
        await kept
        self.assertEqual(self.numbers(), [1])

    async def test_read_only(self) -> None:
        """
        A database that is read-only refuses what is written, and what must be kept is stored
        once it is not.
        """
        await self.queue.write(lambda db: db.execute("SET default_transaction_read_only = on"))
        refused = self.queue.write(insert)
        self.assertIn("the database is read-only", await self.unavailable(refused))
        kept = self.queue.keep(insert)
        await self.queue.read(lambda db: db.execute("SET default_transaction_read_only = off"))
        await kept
        self.assertEqual(self.numbers(), [1])

    async def test_tables_missing(self) -> None:
        """
        Tables that are gone, such as while a backup is restored, are a failure of the storage.
        """
        self.other.execute("ALTER SCHEMA kiroworkers RENAME TO elsewhere")
        self.assertIn("no tables", await self.unavailable(self.queue.write(insert)))
        kept = self.queue.keep(insert)
        self.other.execute("ALTER SCHEMA elsewhere RENAME TO kiroworkers")
        await kept
        self.assertEqual(self.numbers(), [1])

    async def test_schema_does_not_fit(self) -> None:
        """
        A database whose schema does not fit is used once it does: it was migrated, or replaced,
        while there was no connection.
        """

        def check(connection: Connection) -> None:
            if fits:
                return
            raise CannotStart("run the upgrade")

        fits = False
        self.engine._check = check
        refused = self.queue.write(insert)
        self.assertIn("no tables that this server may use", await self.unavailable(refused))
        kept = self.queue.keep(insert)
        fits = True
        await kept
        self.assertEqual(self.numbers(), [1])

    async def test_repeated(self) -> None:
        """
        An operation that a deadlock prevented is run again.
        """
        runs = []

        def operation(db: Connection) -> int:
            runs.append(db)
            if len(runs) < 3:
                raise errors.DeadlockDetected
            return 7

        self.assertEqual(await self.queue.write(operation), 7)

    async def test_restarted(self) -> None:
        """
        When PostgreSQL is restarted, what is kept is stored afterwards.
        """
        await self.queue.write(insert)
        self.other.close()
        postgres().stop()
        kept = self.queue.keep(insert)
        self.assertIn("cannot be reached", await self.unavailable(self.queue.write(insert)))
        postgres().start()
        await kept
        self.other = self.connect()
        self.assertEqual(self.numbers(), [1, 1])


def insert(db: Connection) -> None:
    """
    Insert a row.
    """
    db.execute("INSERT INTO numbers VALUES (1)")


class ConnectTests(SynchronousTestCase):
    """
    Tests for `connect`, with a database that lets everybody in and then does not answer.
    """

    def setUp(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        port = self.listener.getsockname()[1]
        self.address = f"postgresql://nobody@127.0.0.1:{port}/x?sslmode=disable&gssencmode=disable"
        self.server = Thread(target=self.serve)
        self.server.start()
        self.addCleanup(self.server.join, 60)
        self.addCleanup(self.listener.close)

    def serve(self) -> None:
        connection, _ = self.listener.accept()
        with connection, contextlib.suppress(OSError):
            # What the client asks for at the start; then "authenticated" and "ready".
            connection.recv(4096)
            connection.sendall(b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I")
            while connection.recv(4096):
                pass

    def test_mute(self) -> None:
        """
        A database that does not answer is given up, so that the thread is free again.
        """
        with self.assertRaises(errors.OperationalError):
            connect(self.address, 0.2)

    def test_mute_engine(self) -> None:
        """
        The same holds for the first connection of an engine: the server is to start.
        """
        with self.assertRaises(errors.OperationalError):
            PostgresEngine(self.address, 0.1).open()
