"""
Run the contract of `kiroworkers.jobs.store` on each store.
"""

from __future__ import annotations

from pathlib import Path

from twisted.internet import reactor
from twisted.internet.task import Clock

from kiroworkers.jobs.executor import ThreadExecutor
from kiroworkers.jobs.sqlite_store import SqliteStore
from tests.jobs import store_contract
from tests.jobs.support import memory_store


class MemoryStoreTests(store_contract.StoreContract):
    """
    Tests for `SqliteStore` in memory, where everything happens at once.
    """

    def setUp(self) -> None:
        store = memory_store(Clock())
        self.addCleanup(store.close)
        self.store = store


class ThreadStoreTests(store_contract.StoreContract):
    """
    Tests for `SqliteStore` with a file and a thread.
    """

    def setUp(self) -> None:
        store = SqliteStore(reactor, lambda: 1000.0, ThreadExecutor(reactor))
        store.open(Path(self.mktemp()))
        self.addCleanup(store.close)
        self.store = store
