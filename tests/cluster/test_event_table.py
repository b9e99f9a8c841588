"""
Run the contract of tables of events on the one in memory that other tests use.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.cluster import event_table_contract
from tests.cluster.memory_events import EventDatabase, MemoryEventTable


class MemoryEventTableTests(event_table_contract.EventTableContract):
    """
    Tests for `MemoryEventTable`.
    """

    def setUp(self) -> None:
        self.database = EventDatabase()
        self.table = MemoryEventTable(self.database)
        self.heard = []
        topics = self.database.new_topics()
        for topic in ("watch", "events", "ended"):
            topics.subscribe(topic, self.listener(topic))

    def listener(self, topic: str) -> Callable[[str], None]:
        return lambda id: self.heard.append(f"{topic} {id}")

    async def add(self, id: str) -> None:
        self.database.add(id)

    async def claim(self) -> tuple[str, int, bool]:
        queued = (row.job.id for row in self.database.jobs.values() if row.job.state == "queued")
        job, claims, watched = self.database.claim(next(queued))
        return job.id, claims, watched

    async def put_back(self, id: str) -> None:
        self.database.put_back(id)

    async def cancel(self, id: str) -> None:
        self.database.end(id, self.database.jobs[id].claims, "cancelled")

    async def delete(self, id: str) -> None:
        self.database.delete(id)

    async def hear(self, notification: str) -> None:
        self.assertIn(notification, self.heard)
