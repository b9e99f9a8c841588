"""
Collect the events of the jobs that this server runs, and store those of watched jobs.

`JobEvents` collects and numbers them, for each claim of a job as a run of its own.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from attrs import define
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from kiroworkers.cluster.event_cursor import MARK, EventRow
from kiroworkers.cluster.event_table import EventBatch, EventTable
from kiroworkers.errors import StorageUnavailable
from kiroworkers.jobs.job import Job
from kiroworkers.jobs.job_events import EventId, JobEvents, event_size
from kiroworkers.pool.progress import PartialText, Progress, Started

#: Seconds for which events are collected until they are stored.  Texts were collected before.
_DELAY = 0.1

#: The estimated bytes of events after which no other job's are stored in the same statement.
_MAX_BATCH = 1024**2

#: The number of notifications that are remembered for jobs whose claim is still to be answered.
_MAX_EARLY = 1000


@define(eq=False)
class _Run:
    """
    Represent a run of a job on this server.

    Attributes:
        job: The job.
        number: The number of the run.
        watched: Whether its events are stored.
        stored: The number of the last event that is stored.
        can_follow: Whether nothing need be said if the job is begun anew after this run.
        over: Whether no more events are stored.
    """

    job: Job
    number: int
    watched: bool = False
    stored: int = 0
    can_follow: bool = True
    over: bool = False


class EventRecorder:
    """
    Record the events of the jobs that this server runs; this is a `JobProgress`.

    Args:
        clock: Schedules calls.
        table: Stores events.
        on_failed: Called when events could not be stored; then `save_again` must be called later.
    """

    _log = Logger()

    def __init__(
        self, clock: IReactorTime, table: EventTable, on_failed: Callable[[], None]
    ) -> None:
        self._clock = clock
        self._table = table
        self._on_failed = on_failed
        self._events = JobEvents(clock)
        self._runs: dict[str, _Run] = {}
        self._early: deque[str] = deque(maxlen=_MAX_EARLY)
        # The jobs with events that are still to be stored; whether some are being stored, and
        # whether that failed.
        self._unsaved: dict[str, None] = {}
        self._saving = self._failing = False
        self._timer: IDelayedCall | None = None
        self._closed = False

    @property
    def unwatched(self) -> list[str]:
        """
        Return the ids of the jobs whose events are not stored.
        """
        return [id for id, run in self._runs.items() if not run.watched]

    @property
    def has_unsaved(self) -> bool:
        """
        Return whether there are events that are still to be stored.
        """
        return bool(self._unsaved)

    def begin(self, job: Job, run: int, watched: bool) -> None:
        """
        Take note of a job that this server has claimed.

        Args:
            job: The job.
            run: The number of times that it was claimed, this one included.
            watched: Whether somebody listens to it.
        """
        self._runs[job.id] = _Run(job, run)
        self._events.begin(job.id, run)
        if watched or job.id in self._early:
            self.watch(job.id)

    def watch(self, id: str) -> None:
        """
        Store the events of a job from now on, those so far included, if it runs here.
        """
        run = self._runs.get(id)
        if run is None:
            # Perhaps it was claimed a moment ago.
            self._early.append(id)
        elif not (run.watched or run.over):
            run.watched = True
            self._events.listen(run.job, None, lambda _: self._save_later([id]))
            self._save_later([id])

    def report(self, id: str, progress: Progress) -> None:
        """
        Report the progress of a job that runs.
        """
        run = self._runs.get(id)
        if run is not None and not run.over:
            if isinstance(progress, PartialText | Started):
                run.can_follow = False
            self._events.report(id, progress)

    def retry(self, id: str, reason: str) -> None:
        """
        Report that a job will be run again.
        """
        run = self._runs.get(id)
        if run is not None and not run.over:
            run.can_follow = True
            self._events.retry(id, reason)

    def queue_again(self, id: str) -> None:
        """
        Report that a job waits until it is run again.
        """
        run = self._runs.get(id)
        if run is not None and not run.over:
            self._events.queue_again(id)

    def complete(self, id: str) -> None:
        """
        Store all events of a job before its end is stored.
        """
        run = self._runs.get(id)
        if run is not None:
            self._finish(run, marked=True)

    def release(self, id: str) -> None:
        """
        Store all events of a job before it is given back to be claimed again, and forget it.
        """
        run = self._runs.get(id)
        if run is not None:
            self._finish(run, marked=run.can_follow)
            self.forget(id)

    def forget(self, id: str) -> None:
        """
        Drop a job that has ended, or is not this server's any more.
        """
        self._runs.pop(id, None)
        self._unsaved.pop(id, None)
        self._events.forget(id)

    def save_again(self) -> None:
        """
        Store the events that could not be stored: perhaps the database works again.
        """
        self._failing = False
        self._save_later(())

    def save_everything_again(self) -> None:
        """
        Store all events once more: after a crash the database has lost them.
        """
        self._failing = False
        for run in self._runs.values():
            run.stored = 0
        self._save_later([id for id, run in self._runs.items() if run.watched])

    def close(self) -> None:
        """
        Store what there is, and nothing more.
        """
        for run in self._runs.values():
            self._finish(run, marked=run.can_follow)
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._events.close()

    def _save_later(self, ids: Iterable[str]) -> None:
        """
        Store the new events of the jobs `ids`, and those that could not be stored, in a moment.
        """
        self._unsaved.update(dict.fromkeys(ids))
        busy = self._timer is not None or self._saving or self._failing or self._closed
        if self._unsaved and not busy:
            self._timer = self._clock.callLater(_DELAY, self._save)

    def _save(self) -> None:
        """
        Store the events of several jobs at once.
        """
        self._timer = None
        batches: list[tuple[_Run, EventBatch]] = []
        size = 0
        for id in [*self._unsaved]:
            run = self._runs.get(id)
            if run is None or run.over:
                self._unsaved.pop(id, None)
            elif size < _MAX_BATCH:
                batch, batch_size = self._new_events(run)
                # Not before: reading them may have made another event of the text so far.
                self._unsaved.pop(id, None)
                if batch.rows:
                    batches.append((run, batch))
                    size += batch_size
        if batches:
            self._saving = True
            saving = self._table.store([batch for _, batch in batches])
            saving.addBoth(self._on_saved, batches)

    def _on_saved(
        self, result: set[str] | Failure, batches: Sequence[tuple[_Run, EventBatch]]
    ) -> None:
        self._saving = False
        if isinstance(result, Failure):
            self._failing = True
            self._unsaved.update(dict.fromkeys(batch.job for _, batch in batches))
            self._log_unexpected(result)
            self._on_failed()
            return
        for run, batch in batches:
            if batch.job in result:
                run.stored = max(run.stored, batch.rows[-1].id.number)
            else:
                # Another server has begun the job anew, or the job has ended.
                run.over = True
        self._save_later(())

    def _new_events(self, run: _Run) -> tuple[EventBatch, int]:
        """
        Return the events of a run that are still to be stored, and their estimated bytes.
        """
        kept = self._events.kept(run.job.id)
        events = [event for event in kept if event.id.number > run.stored]
        rows = [EventRow(event.id, event.name, json.dumps(event.data)) for event in events]
        first = kept[0].id.number if kept else 1
        return EventBatch(run.job.id, run.number, first, rows), sum(map(event_size, events))

    def _finish(self, run: _Run, *, marked: bool) -> None:
        """
        Store all events of a run, before anything else that is given to the database.

        Args:
            run: The run.
            marked: Whether listeners are told that these are all.
        """
        if run.watched and not run.over:
            batch, _ = self._new_events(run)
            rows = [*batch.rows]
            if marked:
                last = rows[-1].id.number if rows else run.stored
                rows.append(EventRow(EventId(run.number, last + 1), MARK, ""))
            whole = EventBatch(batch.job, batch.run, batch.first, rows)
            storing = self._table.keep(whole)
            storing.addErrback(self._log_unexpected)
        run.over = True

    def _log_unexpected(self, failure: Failure) -> None:
        if failure.check(StorageUnavailable) is None:
            self._log.failure("internal error while storing the events of jobs", failure)
