"""
Tests for `kiroworkers.jobs.sqlite_history`.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.errors import StorageUnavailable
from kiroworkers.jobs.sqlite_store import SqliteStore
from kiroworkers.request_record import RequestRecord
from kiroworkers.telemetry.observers import RequestObservers
from kiroworkers.telemetry.request_history import HistoryGap, RequestHistory, SavedEntry
from tests.jobs.faults import Faults
from tests.jobs.support import UNLIMITED, InlineExecutor, new_job


class SqliteHistoryTests(SynchronousTestCase):
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

    def save(self, store: SqliteStore, *numbers: int, removed: tuple[int, ...] = ()) -> None:
        now = self.clock.seconds()
        entries = [SavedEntry(number, now, {"a": (1, "ü")}) for number in numbers]
        self.successResultOf(store.history_storage().save(entries, removed))

    def numbers(self, store: SqliteStore) -> list[int]:
        return [entry.number for entry in store.history.entries]

    def test_saved(self) -> None:
        """
        What is saved is read by the next server, and what is removed is gone, but its number is
        not used again.
        """
        first = self.opened()
        self.assertEqual((first.server, first.history.last_number), (1, 0))
        self.save(first, 1, 2, 3)
        self.save(first, 2, removed=(1, 3))
        self.successResultOf(first.history_storage().end())
        second = self.opened()
        self.assertEqual((second.server, second.history.last_number), (2, 3))
        self.assertEqual(second.history.entries, [SavedEntry(2, 1000.0, {"a": [1, "ü"]})])
        self.assertEqual(second.history.gaps, [])

    def test_expired(self) -> None:
        """
        Entries that are too old, or too many, are not read again; a time in the future does not
        keep an entry for ever.
        """
        store = self.opened()
        self.save(store, 1)
        self.clock.advance(60)
        self.save(store, *range(2, 9))
        self.clock.advance(60)
        self.assertEqual(self.numbers(self.opened()), [*range(2, 9)])
        self.assertEqual(self.numbers(self.opened(limit=3)), [6, 7, 8])
        self.clock.rightNow = 500.0
        self.assertEqual([entry.ended for entry in self.opened().history.entries], [500.0] * 3)

    def test_gap(self) -> None:
        """
        A server that ends without saving leaves a gap, from when it saved last, which is known
        until it is too old.
        """
        self.save(self.opened(), 1)
        self.clock.advance(50)
        store = self.opened()
        reason = "The server ended without saving what had happened last"
        self.assertEqual(store.history.gaps, [HistoryGap(reason, 1000.0, 1050.0)])
        self.clock.advance(10)
        self.assertEqual(len(self.opened().history.gaps), 1)
        self.clock.advance(91)
        self.assertEqual(self.opened().history.gaps, [])

    def test_unreadable(self) -> None:
        """
        An entry that is not JSON does not keep the server from starting.
        """
        store = self.opened()
        self.save(store, 1, 2)
        self.successResultOf(store.close())
        with sqlite3.connect(self.file) as db:
            db.execute("UPDATE history SET content = '{' WHERE number = 1")
        db.close()
        self.assertEqual(
            [dict(entry.content) for entry in self.opened().history.entries], [{}, {"a": [1, "ü"]}]
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
        self.assertEqual(self.numbers(self.opened()), [1])
