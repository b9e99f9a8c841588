"""
Keep the jobs of one server in the embedded database, and queue them in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from kiroworkers.clocks import WallClock
from kiroworkers.jobs.backend import Distribution, RateLimits, RunnerParts, SavedState
from kiroworkers.jobs.executor import Executor
from kiroworkers.jobs.job_events import JobEvents
from kiroworkers.jobs.presence import SinglePresence
from kiroworkers.jobs.runner import JobRunner
from kiroworkers.jobs.sqlite_store import SqliteStore


class EmbeddedBackend:
    """
    Keep jobs in SQLite; this is a `Backend`.

    Args:
        reactor: Schedules calls.
        wall_clock: Returns the time in seconds since the epoch.
        executor: Runs everything that waits for the disk.
        name: The name of this server.
        address: The address that it listens at.
    """

    key_changes = None

    def __init__(
        self,
        reactor: Any,
        wall_clock: WallClock,
        executor: Executor,
        name: str = "",
        address: str = "",
    ) -> None:
        self._reactor = reactor
        self._wall_clock = wall_clock
        self.store = SqliteStore(reactor, wall_clock, executor)
        self.events = JobEvents(reactor)
        self._name = name
        self._address = address

    def distribute(self, parts: RunnerParts) -> Distribution:
        """
        Return what queues the jobs in memory, and runs them.
        """
        runner = JobRunner(
            self._reactor,
            self._wall_clock,
            parts.groups,
            parts.tasks,
            self.store,
            parts.limits,
            parts.on_ended,
            parts.offload,
            self.events,
            parts.on_event,
        )
        presence = SinglePresence(
            self._wall_clock,
            parts.groups,
            self._name,
            self._address,
            lambda: runner.counts().running,
        )
        return Distribution(runner, presence, (runner,))

    def on_adopted(self, call: Callable[[], None]) -> None:
        """
        Do nothing: there are no other servers.
        """

    def shared_outage(self, agent: str) -> None:
        """
        Return None: there are no other servers.
        """

    def share_rates(self, limits: RateLimits) -> None:
        """
        Do nothing: there are no other servers.
        """

    def open(
        self, file: Path | None, keep_webhooks: bool, history_limit: int, history_age: float
    ) -> SavedState:
        """
        Open the database in `file`; see `Backend.open`.
        """
        self.store.open(file, keep_webhooks, history_limit, history_age)
        self.events.server = self.store.server
        is_kept = file is not None and history_limit > 0
        return SavedState(self.store.history, self.store.history_storage() if is_kept else None)

    def close(self) -> Deferred[None]:
        """
        Store what is still to be stored, if that is possible, and close the database.
        """
        return self.store.close()
