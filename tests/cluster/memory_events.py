"""
A table of events in memory, and the connections of several servers to it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeVar

from attrs import define, evolve, field, frozen
from twisted.internet.defer import Deferred, fail

from kiroworkers.cluster.event_cursor import EventRow
from kiroworkers.cluster.event_table import MAX_ROWS, EventBatch, StoredEvents
from kiroworkers.errors import StorageUnavailable
from kiroworkers.jobs.job import Job, JobAnswer, JobState
from kiroworkers.jobs.job_events import EventId
from tests.jobs.support import new_job

T = TypeVar("T")


class MemoryTopics:
    """
    Pass on notifications; this is a `Topics`.

    Attributes:
        connected: Whether notifications come; the others are lost.
    """

    def __init__(self) -> None:
        self.connected = True
        self._subscribers: list[tuple[str, Callable[[str], None]]] = []
        self._on_connected: list[Callable[[], None]] = []

    def subscribe(self, topic: str, on_notification: Callable[[str], None], /) -> None:
        self._subscribers.append((topic, on_notification))

    def on_connected(self, call: Callable[[], None], /) -> None:
        self._on_connected.append(call)

    def receive(self, topic: str, argument: str) -> None:
        if self.connected:
            for name, call in self._subscribers:
                if name == topic:
                    call(argument)

    def reconnect(self) -> None:
        self.connected = True
        for call in self._on_connected:
            call()


@define
class _Row:
    """
    A row of the table of jobs, with its events.
    """

    job: Job
    claims: int = 0
    watched: bool = False
    events: dict[EventId, EventRow] = field(factory=dict)


class EventDatabase:
    """
    The jobs and their events.
    """

    def __init__(self) -> None:
        self.jobs: dict[str, _Row] = {}
        self.topics: list[MemoryTopics] = []

    def new_topics(self) -> MemoryTopics:
        """
        Return the notifications of another server.
        """
        self.topics.append(MemoryTopics())
        return self.topics[-1]

    def notify(self, topic: str, argument: str) -> None:
        for topics in self.topics:
            topics.receive(topic, argument)

    def add(self, id: str) -> Job:
        self.jobs[id] = _Row(new_job(id, position=1))
        return self.jobs[id].job

    def claim(self, id: str) -> tuple[Job, int, bool]:
        """
        Claim a job, and return it with the number of its claims, and whether it is watched.
        """
        row = self.jobs[id]
        row.job = evolve(row.job, state="running", attempts=row.job.attempts + 1, position=None)
        row.claims += 1
        return row.job, row.claims, row.watched

    def put_back(self, id: str) -> None:
        self.jobs[id].job = evolve(self.jobs[id].job, state="queued")

    def end(self, id: str, claims: int, state: JobState = "done") -> Job | None:
        """
        Record the end of a job, and return the job; None if it was begun anew or has ended.
        """
        row = self.jobs.get(id)
        if row is None or row.claims != claims or not row.job.unfinished:
            return None
        result = JobAnswer({"run": claims}) if state == "done" else None
        row.job = evolve(row.job, state=state, result=result, ended=5.0)
        if row.watched:
            self.notify("ended", id)
        return row.job

    def delete(self, id: str) -> None:
        if self.jobs.pop(id).watched:
            self.notify("ended", id)

    def crash(self) -> None:
        """
        Lose all events.
        """
        for row in self.jobs.values():
            row.events.clear()


@frozen
class _Operation:
    function: Callable[[], Any]
    done: Deferred[Any]
    kept: bool


class MemoryEventTable:
    """
    The connection of a server to the database; this is an `EventTable`.

    Attributes:
        held: Whether operations wait until `run`.
        failing: Whether the connection is broken.
    """

    def __init__(self, database: EventDatabase) -> None:
        self.held = self.failing = False
        self._database = database
        self._waiting: deque[_Operation] = deque()

    def run(self) -> bool:
        """
        Run the next operation, and return whether there was one.
        """
        if self.failing or not self._waiting:
            return False
        operation = self._waiting.popleft()
        self._perform(operation)
        return True

    def break_(self, answers_lost: int = 0) -> None:
        """
        Break the connection.

        Args:
            answers_lost: The number of operations that wait whose answers alone are lost.
        """
        self.failing = True
        waiting, self._waiting = self._waiting, deque()
        for number, operation in enumerate(waiting):
            if number < answers_lost:
                operation.function()
            if operation.kept:
                self._waiting.append(operation)
            elif not operation.done.called:
                operation.done.errback(StorageUnavailable("it is away", 1))

    def heal(self) -> None:
        """
        Repair the connection, and run what was kept.
        """
        self.failing = False
        while not self.held and self.run():
            pass

    def end(self, id: str, claims: int) -> Deferred[Job | None]:
        """
        Record the end of a job, as `Claims.end` does.
        """
        return self._add(lambda: self._database.end(id, claims), kept=True)

    def put_back(self, id: str, claims: int) -> Deferred[None]:
        """
        Give a job back, as `Claims.release` does.
        """

        def put_back() -> None:
            row = self._database.jobs.get(id)
            if row is not None and row.claims == claims and row.job.unfinished:
                self._database.put_back(id)

        return self._add(put_back, kept=True)

    def watch(self, id: str) -> Deferred[None]:
        def watch() -> None:
            row = self._database.jobs.get(id)
            if row is not None and row.job.unfinished and not row.watched:
                row.watched = True
                self._database.notify("watch", id)

        return self._add(watch)

    def read(self, id: str, first: EventId) -> Deferred[StoredEvents | None]:
        def read() -> StoredEvents | None:
            row = self._database.jobs.get(id)
            if row is None:
                return None
            found = [row.events[event] for event in sorted(row.events) if event >= first]
            ended = not row.job.unfinished
            return StoredEvents(row.claims, row.job.state, ended, found[:MAX_ROWS])

        return self._add(read)

    def job(self, id: str) -> Deferred[Job | None]:
        def read() -> Job | None:
            row = self._database.jobs.get(id)
            return None if row is None else row.job

        return self._add(read)

    def store(self, batches: Sequence[EventBatch]) -> Deferred[set[str]]:
        return self._add(lambda: {batch.job for batch in batches if self._store(batch)})

    def keep(self, batch: EventBatch) -> Deferred[set[str]]:
        return self._add(lambda: {batch.job} if self._store(batch) else set(), kept=True)

    def changed(
        self, seen: Sequence[tuple[str, EventId]], unwatched: Collection[str]
    ) -> Deferred[set[str]]:
        def look() -> set[str]:
            jobs = self._database.jobs
            changed = {
                id
                for id, last in seen
                if id not in jobs
                or not jobs[id].job.unfinished
                or any(event > last for event in jobs[id].events)
            }
            return changed | {id for id in unwatched if id in jobs and jobs[id].watched}

        return self._add(look)

    def _store(self, batch: EventBatch) -> bool:
        row = self._database.jobs.get(batch.job)
        if row is None or row.claims != batch.run or not row.job.unfinished:
            return False
        for event in batch.rows:
            row.events.setdefault(event.id, event)
        for id in [*row.events]:
            if id.run < batch.run - 1 or (id.run == batch.run and id.number < batch.first):
                del row.events[id]
        self._database.notify("events", batch.job)
        return True

    def _add(self, function: Callable[[], T], kept: bool = False) -> Deferred[T]:
        if self.failing and not kept:
            return fail(StorageUnavailable("it is away", 1))
        operation = _Operation(function, Deferred(lambda _: None), kept)
        if self.held or self.failing:
            self._waiting.append(operation)
        else:
            self._perform(operation)
        return operation.done

    def _perform(self, operation: _Operation) -> None:
        result = operation.function()
        if not operation.done.called:
            operation.done.callback(result)
