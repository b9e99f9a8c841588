"""
Tests for `kiroworkers.cluster.history`, with real databases.
"""

from __future__ import annotations

from itertools import count
from typing import Any

from twisted.internet import reactor
from twisted.internet.task import Clock

from kiroworkers.errors import StorageUnavailable
from kiroworkers.jobs.executor import ThreadExecutor
from kiroworkers.telemetry.request_history import (
    ENDED_WITHOUT_SAVING,
    HistoryGap,
    HistoryStorage,
    SavedEntry,
    SavedHistory,
)
from tests import postgres
from tests.jobs import history_contract

if postgres.SKIP is None:
    from kiroworkers.cluster.engine import PostgresEngine, PostgresQueue
    from kiroworkers.cluster.history import HistoryTakenOver, PostgresHistory


class PostgresHistoryTests(postgres.DatabaseTestCase, history_contract.HistoryContract):
    """
    Run the contract of all storages on PostgreSQL.
    """

    def setUp(self) -> None:
        super().setUp()
        self.clock = Clock()
        self.clock.advance(1000)
        self.owners = count(1)
        real: Any = reactor
        engine = PostgresEngine(self.address, 10.0)
        self.queue = PostgresQueue(real, self.clock.seconds, ThreadExecutor(real), engine)
        self.addCleanup(self.queue.close)

    def history(self, name: str = "a") -> PostgresHistory:
        return PostgresHistory(self.queue, self.clock.seconds, name, next(self.owners))

    async def open(self, limit: int = 10, name: str = "a") -> tuple[HistoryStorage, SavedHistory]:
        history = self.history(name)
        oldest = self.clock.seconds() - 100
        return history, await self.queue.write(lambda db: history.read(db, limit, oldest))

    async def test_of_each_name(self) -> None:
        """
        Servers with different names have different histories.
        """
        first, _ = await self.open(name="a")
        second, _ = await self.open(name="b")
        await self.save(first, 1, 2)
        await self.save(second, 2, 3, removed=(1,))
        await second.end()
        for name, numbers, gaps in (("a", [1, 2], 1), ("b", [2, 3], 0)):
            _, saved = await self.open(name=name)
            self.assertEqual([entry.number for entry in saved.entries], numbers)
            self.assertEqual(len(saved.gaps), gaps)

    async def test_taken_over(self) -> None:
        """
        A server saves no more when another one has opened the history of the same name, and does
        not end its history.
        """
        first, _ = await self.open()
        await self.save(first, 1)
        second, _ = await self.open()
        await self.save(second, 2)
        error: Any = await self.assertFailure(
            first.save([SavedEntry(2, 1000.0, {})], [1]), HistoryTakenOver
        )
        self.assertEqual(str(error), "another server has the name a; set --server-name")
        await first.end()
        _, saved = await self.open()
        self.assertEqual([entry.number for entry in saved.entries], [1, 2])
        self.assertEqual(saved.entries[1].content, {"a": [1, "ü\0\ud800"]})
        self.assertEqual(len(saved.gaps), 2)

    async def test_not_read(self) -> None:
        """
        A server that could not read its history at its start replaces nothing in it.
        """
        first, _ = await self.open()
        await self.save(first, 1, 2)
        self.clock.advance(5)
        late = self.history()
        await self.save(late, 1, 2, 3)
        await self.save(late, 4, removed=(1, 3))
        await late.end()
        _, saved = await self.open()
        self.assertEqual([entry.number for entry in saved.entries], [1, 2, 4, 6])
        self.assertEqual(saved.last_number, 6)
        self.assertEqual(saved.gaps, [HistoryGap(ENDED_WITHOUT_SAVING, 1000.0, 1005.0)])

    async def test_database_fails(self) -> None:
        """
        While the database is read-only nothing is saved; then it is.
        """
        storage, _ = await self.open()
        await self.queue.read(lambda db: db.execute("SET default_transaction_read_only = on"))
        entry = SavedEntry(1, 1000.0, {})
        await self.assertFailure(storage.save([entry], []), StorageUnavailable)
        await self.queue.read(lambda db: db.execute("SET default_transaction_read_only = off"))
        await self.queue.keep(lambda db: None)
        await storage.save([entry], [])
        self.assertEqual(await self.numbers(), [1])
