"""
Send the states of jobs to a client that subscribed to them as MCP's tasks.

`JobEventSource` says that something happened to a job, and what it came to is read from the store.
So nothing is polled, and each notification has what ``tasks/get`` would return.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from twisted.internet.defer import CancelledError, Deferred

from kiroworkers.errors import StorageUnavailable
from kiroworkers.jobs.job import Job
from kiroworkers.jobs.job_events import JobEvent, JobEventSource
from kiroworkers.jobs.store import JobStore

#: The events that are no part of a job's state.
_NO_CHANGES = ("text", "notice")

#: Sends the state of a job.
Send: TypeAlias = Callable[[Job], None]


class TaskSubscription:
    """
    Send the states of some jobs until all of them have ended.

    Args:
        store: Holds the jobs.
        events: Says what happens to the jobs.
        send: Sends the state of a job.
        drained: Returns a Deferred that fires when everything that was sent is on its way.
    """

    def __init__(
        self,
        store: JobStore,
        events: JobEventSource,
        send: Send,
        drained: Callable[[], Deferred[None]],
    ) -> None:
        self._store = store
        self._events = events
        self._send = send
        self._drained = drained

    async def run(self, ids: Sequence[str]) -> None:
        """
        Send the present state of each job in `ids`, and each later one.

        It returns when all of them have ended, or when the server stops.
        """
        following: list[Deferred[None]] = []
        try:
            for id in ids:
                job = await self._store.get(id)
                if job is None:
                    continue
                self._send(job)
                # Each may have a large result, so they are not all read at once.
                await self._drained()
                if job.unfinished:
                    following.append(Deferred.fromCoroutine(self._follow(job)))
            for each in following:
                await each
        finally:
            for each in following:
                each.addErrback(lambda failure: failure.trap(CancelledError))
                each.cancel()

    async def _follow(self, job: Job) -> None:
        """
        Send each state of `job`, which was unfinished and has been sent, until it has ended.
        """
        changes = _Changes()
        # The events that the job already has are passed on at once: the job is read again.
        listening = self._events.listen(job, None, changes.on_event)
        listening.addCallbacks(changes.on_ended, lambda failure: failure.trap(CancelledError))
        try:
            while await changes.next():
                try:
                    current = changes.ended or await self._store.get(job.id)
                except StorageUnavailable:
                    # The end of the job is reported when it is stored.
                    continue
                if current is None:
                    return
                if current != job:
                    self._send(current)
                if not current.unfinished:
                    return
                job = current
        finally:
            listening.cancel()


class _Changes:
    """
    Wait for changes of a job; several at once count as one.

    Attributes:
        ended: The job, if it has ended.
    """

    def __init__(self) -> None:
        self.ended: Job | None = None
        self._changed = False
        self._stopped = False
        self._waiting: Deferred[None] | None = None

    def on_event(self, event: JobEvent) -> None:
        """
        Note an event of the job.
        """
        if event.name not in _NO_CHANGES:
            self._changed = True
            self._wake()

    def on_ended(self, job: Job | None) -> None:
        """
        Note that the job has ended, or that the server stops if `job` is None.
        """
        self.ended = job
        self._changed = True
        self._stopped = job is None
        self._wake()

    async def next(self) -> bool:
        """
        Wait for a change, and return whether the server goes on.
        """
        if not self._changed:
            self._waiting = Deferred()
            await self._waiting
        self._changed = False
        return not self._stopped

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)
