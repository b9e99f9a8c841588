"""
Tests for `kiroworkers.jobs.operation_queue`, with the engine of SQLite.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.errors import StorageUnavailable
from kiroworkers.jobs.sqlite_engine import SqliteEngine, SqliteQueue
from kiroworkers.jobs.store import StorageStatus
from tests.jobs.faults import Faults
from tests.jobs.support import HeldExecutor


class QueueTests(SynchronousTestCase):
    """
    Tests for `OperationQueue`, whose executor runs when the test says so.
    """

    def setUp(self) -> None:
        self.clock, self.faults, self.executor = Clock(), Faults(), HeldExecutor()
        self.statements: list[str] = []
        self.database = self.faults.connection(":memory:", isolation_level=None)
        self.database.execute("CREATE TABLE numbers (number INTEGER UNIQUE)")
        self.database.set_trace_callback(self.statements.append)
        self.queue = SqliteQueue(
            self.clock,
            lambda: 1e9 + self.clock.seconds(),
            self.executor,
            SqliteEngine(self.database),
        )

    def run_all(self) -> None:
        while self.executor.held is not None:
            self.executor.run()
        self.clock.advance(0)

    def advance(self, seconds: int) -> None:
        for _ in range(seconds * 2):
            self.clock.advance(0.5)
            self.run_all()

    def insert(self, number: int, kept: bool = False) -> Deferred[None]:
        def insert(db: sqlite3.Connection) -> None:
            db.execute("INSERT INTO numbers VALUES (?)", (number,))

        return self.queue.keep(insert) if kept else self.queue.write(insert)

    def read(self, function: Callable[[sqlite3.Connection], Any]) -> Deferred[Any]:
        return self.queue.read(function)

    def numbers(self) -> list[int]:
        """
        Return what another connection would see: it is called between transactions.
        """
        self.assertFalse(self.database.in_transaction)
        query = "SELECT number FROM numbers ORDER BY rowid"
        return [number for [number] in sqlite3.Connection.execute(self.database, query)]

    def test_stalled(self) -> None:
        """
        Storage that does not answer counts as failing: what waits is refused, reads included,
        or kept; when it answers at last, that is stored.
        """
        running = self.insert(1)
        waiting, kept, read = self.insert(2), self.insert(3, kept=True), self.read(lambda db: 0)
        self.clock.advance(14.9)
        self.assertNoResult(waiting)
        self.clock.advance(0.1)
        self.assertEqual(
            self.queue.status,
            StorageStatus("it has not answered for 15 seconds", 1e9 + 15),
        )
        for refused in (waiting, read, self.insert(4), self.read(lambda db: 0)):
            self.failureResultOf(refused, StorageUnavailable)
        late = self.insert(5, kept=True)
        self.clock.advance(60)
        self.assertNoResult(running)
        self.assertNoResult(kept)
        self.run_all()
        self.assertEqual(self.queue.status, StorageStatus())
        for stored in (running, kept, late):
            self.successResultOf(stored)
        self.assertEqual(self.numbers(), [1, 3, 5])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stopped(self) -> None:
        """
        Storage that has not answered while this process was stopped gets its time once more.
        """
        running = self.insert(1)
        self.clock.advance(17)
        self.assertEqual(self.queue.status, StorageStatus())
        self.clock.advance(14.9)
        self.assertEqual(self.queue.status, StorageStatus())
        self.clock.advance(0.1)
        self.assertIsNotNone(self.queue.status.reason)
        self.run_all()
        self.successResultOf(running)

    def test_stalled_read(self) -> None:
        """
        If only reads were slow, a write shows that the storage works again.
        """
        read = self.read(lambda db: 0)
        self.clock.advance(15)
        self.executor.run()
        self.assertEqual(self.successResultOf(read), 0)
        self.failureResultOf(self.insert(1), StorageUnavailable)
        self.advance(1)
        stored = self.insert(1)
        self.run_all()
        self.successResultOf(stored)

    def test_group(self) -> None:
        """
        Operations that arrive while others run are committed in one transaction, in their
        order, and fire only afterwards; other events are handled between their results.
        """
        first = self.insert(1)
        others = [self.insert(number) for number in (2, 3, 4)]
        self.executor.run()
        self.successResultOf(first)
        for other in others:
            self.assertNoResult(other)
        self.executor.run()
        self.successResultOf(others[0])
        self.assertNoResult(others[1])
        self.clock.advance(0)
        for other in others[1:]:
            self.successResultOf(other)
        self.assertEqual(self.numbers(), [1, 2, 3, 4])
        self.assertEqual(self.statements.count("COMMIT"), 2)

    def test_group_size(self) -> None:
        """
        The engine gets no more operations at a time than it wants: the others are not among
        those that are too slow together.
        """
        self.patch(SqliteEngine, "max_batch", 2)
        results = [self.insert(number) for number in range(5)]
        for done in (1, 3, 5):
            self.executor.run()
            self.clock.advance(0)
            self.assertEqual(sum(result.called for result in results), done)

    def test_one_fails(self) -> None:
        """
        An operation that raises changes nothing, and the others of its transaction are
        committed.
        """

        def fail(db: sqlite3.Connection) -> None:
            db.execute("INSERT INTO numbers VALUES (7)")
            raise KeyError

        self.insert(0)
        first, failing, twice, last = (
            self.insert(1), self.queue.write(fail), self.insert(1), self.insert(2)
        )  # fmt: skip
        self.run_all()
        self.failureResultOf(failing, KeyError)
        self.failureResultOf(twice, sqlite3.IntegrityError)
        for succeeding in (first, last):
            self.successResultOf(succeeding)
        self.assertEqual(self.numbers(), [0, 1, 2])
        self.assertEqual(self.queue.status, StorageStatus())

    def test_bug(self) -> None:
        """
        A wrong statement is a bug rather than a fault of the storage.
        """
        wrong = self.queue.keep(lambda db: db.execute("SELECT nothing FROM nowhere"))
        self.run_all()
        self.failureResultOf(wrong, sqlite3.OperationalError)
        self.assertEqual(self.queue.status, StorageStatus())

    def test_fails(self) -> None:
        """
        While the storage fails, what writes is refused with a reason and a time, and what
        only reads is tried.
        """
        for fault, message in [
            ("full", "database or disk is full"),
            ("io", "disk I/O error"),
            ("locked", "database is locked"),
        ]:
            self.setUp()
            self.faults.fault = fault  # type: ignore[assignment]
            failing = self.insert(1)
            self.run_all()
            error = self.failureResultOf(failing, StorageUnavailable).value
            self.assertEqual((error.reason, error.retry_after), (message, 1))
            self.assertEqual(self.queue.status, StorageStatus(message, 1e9))
            attempts = len(self.statements)
            self.failureResultOf(self.insert(2), StorageUnavailable)
            self.assertIsNone(self.executor.held)
            self.assertEqual(len(self.statements), attempts)
            reading = self.read(lambda db: db.execute("SELECT 1").fetchone())
            self.run_all()
            if fault == "io":
                self.failureResultOf(reading, StorageUnavailable)
            else:
                self.assertEqual(self.successResultOf(reading), (1,))

    def test_outage(self) -> None:
        """
        The log says for how long the storage failed, even if the wall clock is set meanwhile.
        """
        wall = [1e9]
        engine = SqliteEngine(self.database)
        queue = self.queue = SqliteQueue(self.clock, lambda: wall[0], self.executor, engine)
        self.faults.fault = "full"
        self.insert(1).addErrback(lambda _: None)
        self.run_all()
        wall[0] += 3600
        self.faults.fault = None
        with capturedLogs() as logs:
            self.advance(2)
        self.assertEqual(queue.status, StorageStatus())
        self.assertEqual(
            [formatEvent(event) for event in logs], ["storage works again, after 0.5 s"]
        )

    def test_heals(self) -> None:
        """
        Storage that fails is tried again with a growing delay, and used when it works.
        """
        self.faults.fault = "full"
        self.insert(1).addErrback(lambda _: None)
        self.run_all()
        tried = []
        for quarter in range(120):
            self.clock.advance(0.25)
            if self.executor.held is not None:
                tried.append((quarter + 1) / 4)
                self.run_all()
        self.assertEqual(tried, [0.5, 1.5, 3.5, 7.5, 12.5, 17.5, 22.5, 27.5])
        self.faults.fault = None
        self.advance(5)
        self.assertEqual(self.queue.status, StorageStatus())
        inserted = self.insert(2)
        self.run_all()
        self.successResultOf(inserted)
        self.assertEqual(self.numbers(), [2])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_kept(self) -> None:
        """
        What is kept is written when the storage works again, in the order in which it was
        given, also if nobody waits for it any more.
        """
        self.faults.fault = "full"
        kept = [self.insert(number, kept=True) for number in (1, 2)]
        self.run_all()
        kept.append(self.insert(3, kept=True))
        kept[1].cancel()
        self.failureResultOf(kept[1], CancelledError)
        self.advance(20)
        self.assertEqual(self.numbers(), [])
        for waiting in (kept[0], kept[2]):
            self.assertNoResult(waiting)
        self.faults.fault = None
        self.advance(5)
        for waiting in (kept[0], kept[2]):
            self.successResultOf(waiting)
        self.assertEqual(self.numbers(), [1, 2, 3])

    def test_kept_apart(self) -> None:
        """
        A change that is too large to be written does not keep others from being written.
        """

        def insert_much(db: sqlite3.Connection) -> None:
            self.faults.check("INSERT")

        self.faults.fault = "full"
        large, small = self.queue.keep(insert_much), self.insert(1, kept=True)
        self.run_all()
        attempts = iter([True, False, False])
        self.faults.strikes = lambda: next(attempts)
        self.clock.advance(0.5)
        self.run_all()
        self.assertNoResult(large)
        self.successResultOf(small)
        self.assertEqual(self.numbers(), [1])

    def test_cancelled(self) -> None:
        """
        An operation that is cancelled before it has begun is not run.
        """
        self.insert(1)
        second = self.insert(2)
        second.cancel()
        self.failureResultOf(second, CancelledError)
        self.run_all()
        self.assertEqual(self.numbers(), [1])

    def test_close(self) -> None:
        """
        When the queue is closed, what waits is run and what is kept is tried once more.
        """
        self.faults.fault = "full"
        kept = self.insert(1, kept=True)
        self.run_all()
        self.faults.fault = None
        closed = self.queue.close()
        self.executor.run()
        self.assertNoResult(closed)
        self.successResultOf(kept)
        self.assertEqual(self.numbers(), [1])
        self.run_all()
        self.successResultOf(closed)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.failureResultOf(self.insert(2), StorageUnavailable)

    def test_closed_in_vain(self) -> None:
        """
        A change that cannot be stored before the end fails, and the log has their number.
        """
        self.faults.fault = "full"
        kept = [self.insert(number, kept=True) for number in (1, 2)]
        self.run_all()
        closed = self.queue.close()
        self.run_all()
        self.successResultOf(closed)
        for lost in kept:
            self.failureResultOf(lost, StorageUnavailable)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_cannot_shrink(self) -> None:
        """
        A file that cannot shrink is left as it is.
        """

        def fill_and_empty(db: sqlite3.Connection) -> None:
            db.execute("CREATE TABLE texts (text TEXT)")
            db.execute("INSERT INTO texts VALUES (?)", ("x" * 10**6,))
            db.execute("DELETE FROM texts")

        self.queue.write(fill_and_empty)
        self.executor.run()
        self.assertIsNone(self.executor.held)

    def test_close_while_failing(self) -> None:
        """
        Kept changes are tried once more at the end, whatever else fails before.
        """
        self.faults.fault = "io"
        kept = self.insert(1, kept=True)
        self.run_all()
        reading = self.read(lambda db: db.execute("SELECT 1").fetchone())
        closed = self.queue.close()
        self.executor.run()
        self.failureResultOf(reading, StorageUnavailable)
        self.faults.fault = None
        self.run_all()
        self.successResultOf(kept)
        self.successResultOf(closed)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_close_while_stalled(self) -> None:
        """
        What does not answer while the queue is closed is interrupted, so that the server can end.
        """
        interrupted: list[float] = []
        self.patch(SqliteEngine, "interrupt", lambda _: interrupted.append(self.clock.seconds()))
        self.insert(1)
        self.clock.advance(10)
        closed = self.queue.close()
        self.clock.advance(5)
        self.assertEqual(interrupted, [15.0])
        last = self.insert(2, kept=True)
        self.executor.run()
        self.clock.advance(15)
        self.assertEqual(interrupted, [15.0, 30.0])
        self.run_all()
        self.successResultOf(last)
        self.successResultOf(closed)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_never_used(self) -> None:
        """
        A queue that was never used closes at once: the reactor may not run.
        """
        self.successResultOf(self.queue.close())
        self.assertIsNone(self.executor.held)
