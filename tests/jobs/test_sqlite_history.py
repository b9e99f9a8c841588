"""
Tests for `kiroworkers.jobs.sqlite_history`.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from twisted.internet.task import Clock

from kiroworkers.errors import StorageUnavailable
from kiroworkers.jobs.sqlite_store import SqliteStore
from kiroworkers.request_record import RequestRecord
from kiroworkers.telemetry.observers import RequestObservers
from kiroworkers.telemetry.request_history import HistoryStorage, RequestHistory, SavedHistory
from tests.jobs import history_contract
from tests.jobs.faults import Faults
from tests.jobs.support import UNLIMITED, InlineExecutor, new_job


class SqliteHistoryTests(history_contract.HistoryContract):
    """
    Tests for `SqliteHistory` and `read_history`.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.file = Path(self.mktemp())
        self.faults = Faults()

    def opened(self, limit: int = 10) -> SqliteStore:
        """
        Return the store of the next server.
        """
        store = SqliteStore(
            self.clock, self.clock.seconds, InlineExecutor(), self.faults.connection
        )
        store.open(self.file, history_limit=limit, history_age=100.0)
        self.addCleanup(store.close)
        return store

    async def open(self, limit: int = 10) -> tuple[HistoryStorage, SavedHistory]:
        store = self.opened(limit)
        return store.history_storage(), store.history

    def test_counted(self) -> None:
        """
        The servers that have opened a file are counted.
        """
        self.assertEqual([self.opened().server for _ in range(3)], [1, 2, 3])

    async def test_unreadable(self) -> None:
        """
        An entry that is not JSON does not keep the server from starting.
        """
        store = self.opened()
        await self.save(store.history_storage(), 1, 2)
        with sqlite3.connect(self.file) as db:
            db.execute("UPDATE history SET content = '{' WHERE number = 1")
        db.close()
        self.assertEqual(
            [dict(entry.content) for entry in self.opened().history.entries],
            [{}, {"a": [1, "ü\0\ud800"]}],
        )

    def test_storage_fails(self) -> None:
        """
        While the disk is full nothing is saved, and jobs of the same file are not lost by that.
        """
        store = self.opened()
        history = RequestHistory(self.clock, self.clock.seconds, 10, 100.0)
        history.open(store.history_storage(), store.history)
        observers = RequestObservers(self.clock, [history])
        self.faults.fault = "full"
        record = RequestRecord("a", on_event=observers)
        record.report("received", method="POST", path="/kiro/x")
        self.clock.pump([1] * 20)
        self.failureResultOf(store.add(new_job("a"), UNLIMITED), StorageUnavailable)
        self.faults.fault = None
        self.clock.pump([1] * 20)
        self.successResultOf(store.add(new_job("a"), UNLIMITED))
        self.successResultOf(history.close())
        self.assertEqual([entry.number for entry in self.opened().history.entries], [1])
