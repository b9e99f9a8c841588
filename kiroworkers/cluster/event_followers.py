"""
Read the events of jobs from the database for those who listen on this server.
"""

from __future__ import annotations

from collections.abc import Collection

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from kiroworkers.cluster.event_cursor import FIRST, EventCursor
from kiroworkers.cluster.event_table import MAX_ROWS, EventTable, StoredEvents
from kiroworkers.errors import StorageUnavailable
from kiroworkers.jobs.job import Job
from kiroworkers.jobs.job_events import LAST_NUMBER, EventId, JobEvent, OnJobEvent


@define(eq=False)
class _Follower:
    """
    Represent somebody who listens to a job on this server.

    Attributes:
        id: The job's id.
        cursor: What the listener has seen.
        on_event: Called with each event.
        ended: Fires with the job when there are no more events.
        listening: Whether it still listens.
        marked: Whether the database knows that somebody listens to the job.
        task: Reads the events.
        changed: Whether there may be more events.
        failed: Whether they could not be read.
        waiting: Fires when there may be more events; None unless they are awaited.
    """

    id: str
    cursor: EventCursor
    on_event: OnJobEvent
    ended: Deferred[Job | None]
    marked: bool
    listening: bool = True
    task: Deferred[Job | None] | None = None
    changed: bool = True
    failed: bool = False
    waiting: Deferred[None] | None = field(default=None)

    def wake(self) -> None:
        """
        Read again, because there may be more events.
        """
        self.changed = True
        waiting, self.waiting = self.waiting, None
        if waiting is not None:
            waiting.callback(None)

    async def change(self) -> None:
        """
        Wait until there may be more events.
        """
        if not self.changed:
            self.waiting = Deferred()
            await self.waiting
        self.changed = False


class EventFollowers:
    """
    Pass on the events in the database to those who listen.

    Args:
        table: Has the events.
    """

    _log = Logger()

    def __init__(self, table: EventTable) -> None:
        self._table = table
        # By the ids of their jobs: there may be many notifications.
        self._followers: dict[str, list[_Follower]] = {}
        # The one whose function is being called, if any.
        self._calling: _Follower | None = None

    @property
    def seen(self) -> list[tuple[str, EventId]]:
        """
        Return the jobs that somebody listens to, with the last events that were read.
        """
        return [(follower.id, follower.cursor.last) for follower in self._all()]

    def listen(self, job: Job, after: str | None, on_event: OnJobEvent) -> Deferred[Job | None]:
        """
        Call `on_event` with the events of a job; see `JobEventSource.listen`.
        """
        ended: Deferred[Job | None] = Deferred(lambda _: self._leave(follower))
        cursor = EventCursor(after, job.position)
        follower = _Follower(job.id, cursor, on_event, ended, marked=not job.unfinished)
        self._followers.setdefault(job.id, []).append(follower)
        follower.task = Deferred.fromCoroutine(self._follow(follower))
        follower.task.addBoth(self._on_followed, follower)
        return ended

    def wake(self, id: str) -> None:
        """
        Read the events of the job `id` again.
        """
        for follower in [*self._followers.get(id, ())]:
            follower.wake()

    def wake_changed(self, ids: Collection[str]) -> None:
        """
        Read the events of the jobs `ids` again, and those that could not be read.
        """
        for follower in self._all():
            if follower.failed or follower.id in ids:
                follower.wake()

    def close(self) -> None:
        """
        End all listening.
        """
        for follower in self._all():
            self._leave(follower)
            follower.ended.callback(None)

    async def _follow(self, follower: _Follower) -> Job | None:
        """
        Pass on the events of a job, and return the job when it has ended, or None if it is gone.
        """
        while follower.listening:
            await follower.change()
            try:
                if not follower.marked:
                    await self._table.watch(follower.id)
                    follower.marked = True
                stored = await self._read(follower)
                if stored is None:
                    return None
                is_last = stored.ended and len(stored.rows) < MAX_ROWS
                job = None
                if is_last:
                    job = await self._table.job(follower.id)
            except StorageUnavailable:
                follower.failed = True
                continue
            follower.failed = False
            follower.changed = follower.changed or len(stored.rows) == MAX_ROWS
            cursor = follower.cursor
            # The event of run 0 is left out if nothing else is kept of a job that has ended.
            if stored.rows or not stored.ended or stored.claims == 0:
                for event in cursor.read(stored.rows):
                    self._call(follower, event)
            if is_last:
                for event in cursor.end(stored.claims, stored.state == "cancelled"):
                    self._call(follower, event)
                return job
        return None

    async def _read(self, follower: _Follower) -> StoredEvents | None:
        """
        Read the events from the last one on; or all, if that one is unknown.
        """
        cursor = follower.cursor
        last = cursor.last
        stored = await self._table.read(follower.id, last)
        if stored is None or stored.rows or last == FIRST:
            return stored
        if stored.ended and last.number == LAST_NUMBER:
            return stored
        everything = await self._table.read(follower.id, FIRST)
        if everything is not None and everything.rows:
            cursor.begin_anew()
        return everything

    def _call(self, follower: _Follower, event: JobEvent) -> None:
        if not follower.listening:
            return
        self._calling = follower
        try:
            follower.on_event(event)
        except Exception:
            self._log.failure("internal error while passing on an event of a job")
        finally:
            self._calling = None

    def _all(self) -> list[_Follower]:
        return [follower for followers in self._followers.values() for follower in followers]

    def _remove(self, follower: _Follower) -> None:
        follower.listening = False
        followers = self._followers[follower.id]
        followers.remove(follower)
        if not followers:
            del self._followers[follower.id]

    def _on_followed(self, result: Job | Failure | None, follower: _Follower) -> None:
        if follower.listening:
            self._remove(follower)
            follower.ended.callback(result)
        elif isinstance(result, Failure) and result.check(CancelledError) is None:
            self._log.failure("internal error while reading the events of a job", result)

    def _leave(self, follower: _Follower) -> None:
        self._remove(follower)
        # A coroutine cannot be cancelled while it runs; then it finds out itself.
        if follower is not self._calling and follower.task is not None:
            follower.task.cancel()
