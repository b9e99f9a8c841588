"""
Run the contract of `kiroworkers.jobs.store` on SQLite.
"""

from __future__ import annotations

from pathlib import Path

from twisted.internet import reactor
from twisted.internet.task import Clock

from kiroworkers.jobs.executor import ThreadExecutor
from kiroworkers.jobs.sqlite_store import SqliteStore
from tests.jobs import store_contract
from tests.jobs.support import memory_store


class MemoryStoreTests(store_contract.QueueStoreContract):
    """
    Tests for `SqliteStore` in memory, where everything happens at once.
    """

    def setUp(self) -> None:
        super().setUp()
        store = memory_store(Clock())
        self.addCleanup(store.close)
        self.store = store


class ThreadStoreTests(store_contract.QueueStoreContract):
    """
    Tests for `SqliteStore` with a file and a thread.
    """

    def setUp(self) -> None:
        super().setUp()
        store = SqliteStore(reactor, lambda: 1000.0, ThreadExecutor(reactor))
        store.open(Path(self.mktemp()))
        self.addCleanup(store.close)
        self.store = store
