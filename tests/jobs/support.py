"""
Helpers for tests of jobs.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, execute, fail
from twisted.internet.interfaces import IReactorTime

from kiroworkers.clocks import WallClock
from kiroworkers.jobs.embedded import EmbeddedBackend
from kiroworkers.jobs.job import Job
from kiroworkers.jobs.service import JobService
from kiroworkers.jobs.sqlite_store import SqliteStore
from kiroworkers.jobs.store import JobLimits
from kiroworkers.pool.agent_groups import AgentGroups
from kiroworkers.settings import Settings
from kiroworkers.tasks import Task
from kiroworkers.web.jobs import job_json

T = TypeVar("T")

#: Limits that no test reaches.
UNLIMITED = JobLimits(unfinished=10**6, total_bytes=10**12, client_bytes=10**12)


class InlineExecutor:
    """
    Run each function at once, in the thread of the test; this is an `Executor`.

    Attributes:
        error: What to fail with instead, as if the storage did; None while it works.
    """

    def __init__(self) -> None:
        self.error: OSError | None = None

    def call(self, function: Callable[[], T]) -> Deferred[T]:
        if self.error is not None:
            return fail(self.error)
        called: Deferred[T] = execute(function)
        return called

    def stop(self) -> None:
        pass


class HeldExecutor:
    """
    Run a function when the test says so, in the thread of the test; this is an `Executor`.

    Attributes:
        held: Runs what was given, if anything is; there is at most one at a time.
    """

    def __init__(self) -> None:
        self.held: Callable[[], None] | None = None

    def call(self, function: Callable[[], T]) -> Deferred[T]:
        assert self.held is None, "one at a time"
        called: Deferred[T] = Deferred()

        def run() -> None:
            self.held = None
            called.callback(function())

        self.held = run
        return called

    def run(self) -> None:
        """
        Run what was given.
        """
        assert self.held is not None
        self.held()

    def stop(self) -> None:
        pass


def memory_store(
    clock: IReactorTime,
    wall_clock: WallClock | None = None,
    file: Path | None = None,
    factory: type[sqlite3.Connection] = sqlite3.Connection,
) -> SqliteStore:
    """
    Return an open store that does everything at once, in memory or in `file`.
    """
    store = SqliteStore(clock, wall_clock or clock.seconds, InlineExecutor(), factory)
    store.open(file)
    return store


def job_service_in(
    reactor: Any,
    groups: AgentGroups,
    tasks: Mapping[str, Task],
    state: Path | None = None,
    /,
    executor: InlineExecutor | None = None,
    **flags: str,
) -> JobService:
    """
    Return a running service that keeps jobs in the folder `state`, or else in memory.

    Args:
        reactor: The reactor, whose clock is the wall clock as well.
        groups: The agents and their pools.
        tasks: The tasks by their names.
        state: The state folder, if any.
        executor: Works, or fails when the test says so.
        **flags: Settings.
    """
    settings = Settings.read({"port": "0", **flags}, {})
    backend = EmbeddedBackend(reactor, reactor.seconds, executor or InlineExecutor())
    job_service = JobService(reactor, settings, backend, groups, tasks, job_json, reactor.seconds)
    job_service.open(state)
    job_service.startService()
    return job_service


def new_job(id: str, **fields: Any) -> Job:
    """
    Return a job of the task generate-story.
    """
    defaults = {
        "client": "ann",
        "agent": "kiro",
        "task": "generate-story",
        "payload": {"idea": id},
        "created": 1000.0,
    }
    return Job(id=id, **{**defaults, **fields})
