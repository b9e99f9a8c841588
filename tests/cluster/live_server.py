"""
A server of a cluster as far as events and idempotency keys are concerned, on a real database.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred

from kiroworkers.cluster import statements
from kiroworkers.cluster.claimed_job import ClaimedJob
from kiroworkers.cluster.engine import PostgresEngine, PostgresQueue
from kiroworkers.cluster.event_rows import PostgresEventTable
from kiroworkers.cluster.job_events import ClusterJobEvents
from kiroworkers.cluster.keys import PostgresKeyChanges
from kiroworkers.cluster.notifications import Notifications
from kiroworkers.cluster.store import PostgresStore
from kiroworkers.jobs.executor import ThreadExecutor
from kiroworkers.jobs.idempotency import IdempotencyCache
from kiroworkers.jobs.job import Job, JobAnswer
from kiroworkers.jobs.job_events import JobEvent

#: Seconds for which a lease lasts: no server loses it unless the test says so.
_LEASE = 3600.0

#: Seconds between two looks at the database.
_INTERVAL = 0.3

#: Seconds after which a database that does not answer counts as failing.
_STALL = 10.0


class LiveServer:
    """
    Represent a server.

    Attributes:
        number: Its number in the database.
        store: Its store of jobs and keys.
        events: Its events of jobs.
        cache: Executes requests once per idempotency key.
    """

    def __init__(self, address: str) -> None:
        real: Any = reactor
        self.queue = PostgresQueue(
            real, time.time, ThreadExecutor(real), PostgresEngine(address, _STALL)
        )
        self.number = 0
        self.store = PostgresStore(self.queue, lambda: self.number)
        self.notifications = Notifications(real, address, _STALL)
        self.events = ClusterJobEvents(
            real, PostgresEventTable(self.queue), self.notifications, _INTERVAL
        )
        self.cache = IdempotencyCache(
            real,
            time.time,
            self.store,
            30.0,
            PostgresKeyChanges(real, self.notifications, _INTERVAL),
        )
        self._claimed: dict[str, ClaimedJob] = {}
        # Fires when a job is queued.
        self._queued: Deferred[None] = Deferred()
        self.notifications.subscribe("queued", self._on_queued)

    async def start(self) -> None:
        """
        Register the server, and wait until it receives notifications.
        """
        self.number = await self.queue.write(
            lambda db: statements.register_server(db, _LEASE, "a", "1", "here", "", "running", {})
        )
        connected: Deferred[None] = Deferred()
        self.notifications.on_connected(
            lambda: None if connected.called else connected.callback(None)
        )
        self.notifications.startService()
        await connected

    async def stop(self) -> None:
        """
        Stop the server.
        """
        self.events.close()
        self.notifications.stopService()
        await self.queue.close()

    async def lose_lease(self) -> None:
        """
        Let the lease pass, as if the server had been stopped for long.
        """
        await self.queue.write(
            lambda db: db.execute(
                "UPDATE servers SET lease_until = '-infinity' WHERE number = %s", (self.number,)
            )
        )

    def _on_queued(self, agent: str) -> None:
        if not self._queued.called:
            self._queued.callback(None)

    async def claim(self) -> Job:
        """
        Claim the next job, as the runner does.
        """
        claimed: list[ClaimedJob] = []
        while not claimed:
            # A job that is locked, because somebody begins to listen to it, is claimed later.
            self._queued = Deferred()
            claimed = await self.queue.write(
                lambda db: statements.claim_jobs(db, self.number, {"kiro": 1})
            )
            if not claimed:
                await self._queued
        [job] = claimed
        self._claimed[job.job.id] = job
        self.events.begin(job.job, job.claims, job.watched)
        return job.job

    async def put_back(self, id: str) -> None:
        """
        Let the job `id` be queued again because the lease has passed.
        """
        held = self._claimed[id]
        await self.queue.keep(
            lambda db: statements.release_job(
                db, self.number, id, held.claims, held.job.attempts, held.failures, first=True
            )
        )

    async def end(self, id: str) -> bool:
        """
        End the job `id`, as the runner does; return whether its end was stored.
        """
        held = self._claimed[id]
        self.events.complete(id)
        ended = await self.queue.keep(
            lambda db: statements.end_job(
                db, self.number, id, held.claims, 1, "done", JobAnswer({"title": id})
            )
        )
        if ended is None:
            self.events.forget(id)
            return False
        self.events.end(ended)
        return True


class LiveListener:
    """
    Listen to a job on a server, and collect its events.

    Attributes:
        events: The events.
        ended: Fires at the end.
    """

    def __init__(self, server: LiveServer, job: Job, after: str | None = None) -> None:
        self.events: list[JobEvent] = []
        self._waiting: list[tuple[Callable[[list[JobEvent]], bool], Deferred[None]]] = []
        self.ended: Deferred[Job | None] = server.events.listen(job, after, self._on_event)

    def _on_event(self, event: JobEvent) -> None:
        self.events.append(event)
        for condition, waiting in [*self._waiting]:
            if condition(self.events) and not waiting.called:
                waiting.callback(None)

    async def until(self, text: str) -> None:
        """
        Wait until `text` is part of the text so far.
        """
        waiting: Deferred[None] = Deferred()
        self._waiting.append((lambda _: text in self.text, waiting))
        if text not in self.text:
            await waiting

    @property
    def text(self) -> str:
        return "".join(str(event.data.get("text", "")) for event in self.events)

    @property
    def ids(self) -> list[str]:
        return [str(event.id) for event in self.events]

    @property
    def names(self) -> list[str]:
        return [event.name for event in self.events]
