"""
Tests for `kiroworkers.cluster.event_rows`, with a real database.
"""

from __future__ import annotations

import time
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred

from kiroworkers.jobs.executor import ThreadExecutor
from tests import postgres
from tests.cluster import event_table_contract
from tests.jobs.support import UNLIMITED, new_job

if postgres.SKIP is None:
    from kiroworkers.cluster import statements
    from kiroworkers.cluster.claimed_job import ClaimedJob
    from kiroworkers.cluster.engine import PostgresEngine, PostgresQueue
    from kiroworkers.cluster.event_rows import PostgresEventTable
    from kiroworkers.cluster.notifications import Notifications
    from kiroworkers.cluster.store import PostgresStore

#: Seconds for which the lease of a server lasts.
_LEASE = 3600.0


class PostgresEventTableTests(postgres.DatabaseTestCase, event_table_contract.EventTableContract):
    """
    Tests for `PostgresEventTable`.
    """

    async def setUp(self) -> None:  # type: ignore[override]
        super().setUp()
        real: Any = reactor
        self.queue = PostgresQueue(
            real, time.time, ThreadExecutor(real), PostgresEngine(self.address, 10.0)
        )
        self.addCleanup(self.queue.close)
        self.server = await self.queue.write(
            lambda db: statements.register_server(db, _LEASE, "a", "1", "here", "", "running", {})
        )
        self.store = PostgresStore(self.queue, lambda: self.server)
        self.table = PostgresEventTable(self.queue)
        self.heard = []
        self.awaited: dict[str, Deferred[None]] = {}
        self.claimed: dict[str, ClaimedJob] = {}
        notifications = Notifications(real, self.address, 10.0)
        for topic in ("watch", "events", "ended"):
            self.subscribe(notifications, topic)
        connected: Deferred[None] = Deferred()
        notifications.on_connected(lambda: connected.callback(None))
        notifications.startService()
        self.addCleanup(notifications.stopService)
        await connected

    def subscribe(self, notifications: Notifications, topic: str) -> None:
        def receive(id: str) -> None:
            self.heard.append(f"{topic} {id}")
            if self.heard[-1] in self.awaited:
                self.awaited.pop(self.heard[-1]).callback(None)

        notifications.subscribe(topic, receive)

    async def hear(self, notification: str) -> None:
        if notification not in self.heard:
            self.awaited[notification] = Deferred()
            await self.awaited[notification]

    async def add(self, id: str) -> None:
        await self.store.add(new_job(id), UNLIMITED)

    async def claim(self) -> tuple[str, int, bool]:
        [claimed] = await self.queue.write(
            lambda db: statements.claim_jobs(db, self.server, {"kiro": 1})
        )
        self.claimed[claimed.job.id] = claimed
        return claimed.job.id, claimed.claims, claimed.watched

    async def put_back(self, id: str) -> None:
        held = self.claimed[id]
        await self.queue.keep(
            lambda db: statements.release_job(
                db, self.server, id, held.claims, held.job.attempts, held.failures, first=True
            )
        )

    async def cancel(self, id: str) -> None:
        await self.store.cancel(id, time.time())

    async def delete(self, id: str) -> None:
        await self.store.delete(id)

    async def test_tidied(self) -> None:
        """
        The database deletes the events of a job a minute after its end.
        """
        for id in ("ended", "ending", "running"):
            await self.running(id)
            await self.table.store([event_table_contract.batch(id, event_table_contract.row(1, 1))])
        await self.store.cancel("ended", time.time())
        await self.store.cancel("ending", time.time())
        with self.connect() as db:
            db.execute("UPDATE jobs SET ended = ended - 61 WHERE id = 'ended'")
            db.execute("UPDATE maintenance SET tidied = '-infinity'")
            db.execute("SELECT tidy()")
            left = db.execute("SELECT DISTINCT job FROM job_events ORDER BY job").fetchall()
        self.assertEqual(left, [("ending",), ("running",)])
