"""
Pass the events of jobs on to listeners on every server.

Once somebody listens to a job on any server, the job is *watched*: the server that runs it stores
its events, and listeners read them from the database.  So they get the same events with the
same identifiers everywhere.  The database deletes them a minute after the end of the job.

Notifications only tell when to look.  A server also looks at regular intervals, while it has
listeners or runs jobs, and whenever its connection for notifications was made again.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from kiroworkers.cluster.event_followers import EventFollowers
from kiroworkers.cluster.event_recorder import EventRecorder
from kiroworkers.cluster.event_table import EventTable
from kiroworkers.cluster.topics import Topics
from kiroworkers.errors import StorageUnavailable
from kiroworkers.jobs.job import Job
from kiroworkers.jobs.job_events import OnJobEvent
from kiroworkers.pool.progress import Progress


class ClusterJobEvents:
    """
    Pass on the events of all jobs; this is a `JobProgress` and a `JobEventSource`.

    Args:
        clock: Schedules calls.
        table: Has the events, for all servers.
        notifications: Tells of changes that others make.
        interval: Seconds between two looks for changes without a notification.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        table: EventTable,
        notifications: Topics,
        interval: float,
    ) -> None:
        self._clock = clock
        self._table = table
        self._interval = interval
        self._recorder = EventRecorder(clock, table, self._schedule_look)
        self._followers = EventFollowers(table)
        self._look_timer: IDelayedCall | None = None
        self._looking = False
        self._closed = False
        notifications.subscribe("watch", self._recorder.watch)
        notifications.subscribe("events", self._followers.wake)
        notifications.subscribe("ended", self._followers.wake)
        notifications.on_connected(self._on_connected)

    def close(self) -> None:
        """
        Store what there is, and end all listening.
        """
        self._closed = True
        self._recorder.close()
        self._followers.close()
        self._stop_look_timer()

    # The jobs that this server runs.

    def begin(self, job: Job, claims: int, watched: bool) -> None:
        """
        Take note of a job that this server has claimed.

        Args:
            job: The job.
            claims: The number of times that it was claimed, this one included.
            watched: Whether somebody listens to it.
        """
        self._recorder.begin(job, claims, watched)
        self._schedule_look()

    def report(self, id: str, progress: Progress) -> None:
        """
        Report the progress of a job that runs.
        """
        self._recorder.report(id, progress)

    def retry(self, id: str, reason: str) -> None:
        """
        Report that a job will be run again.
        """
        self._recorder.retry(id, reason)

    def queue_again(self, id: str) -> None:
        """
        Report that a job waits until it is run again.
        """
        self._recorder.queue_again(id)

    def complete(self, id: str) -> None:
        """
        Store all events of a job before its end is stored.
        """
        self._recorder.complete(id)

    def release(self, id: str) -> None:
        """
        Store all events of a job before it is given back to be claimed again, and forget it.
        """
        self._recorder.release(id)

    def end(self, job: Job) -> None:
        """
        Note that a job has ended, and that this server has stored its end.
        """
        self._recorder.forget(job.id)
        self._followers.wake(job.id)

    def forget(self, id: str) -> None:
        """
        Drop a job that is not this server's any more.
        """
        self._recorder.forget(id)

    # Those who listen on this server.

    def listen(self, job: Job, after: str | None, on_event: OnJobEvent) -> Deferred[Job | None]:
        """
        Call `on_event` with the events of a job, wherever it runs; see `JobEventSource.listen`.

        While the database cannot be read there are no events.
        """
        if self._closed:
            return succeed(None)
        ended = self._followers.listen(job, after, on_event)
        self._schedule_look()
        return ended

    def replay(self, job: Job, after: str | None, on_event: OnJobEvent) -> Deferred[None]:
        """
        Call `on_event` with the events of a job that has ended; see `JobEventSource.replay`.
        """
        return self.listen(job, after, on_event).addCallback(lambda _: None)

    # What notifications may have missed.

    def _on_connected(self) -> None:
        self._recorder.save_everything_again()
        self._look()

    def _schedule_look(self) -> None:
        if self._look_timer is None and not (self._looking or self._closed):
            self._look_timer = self._clock.callLater(self._interval, self._look)

    def _stop_look_timer(self) -> None:
        timer, self._look_timer = self._look_timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def _look(self) -> None:
        """
        Look for changes of jobs that were not notified of, if there are any jobs.
        """
        self._stop_look_timer()
        seen, unwatched = self._followers.seen, self._recorder.unwatched
        if self._looking or self._closed or not (seen or unwatched or self._recorder.has_unsaved):
            return
        self._looking = True
        looking = self._table.changed(seen, unwatched)
        looking.addCallbacks(self._on_looked, self._log_unexpected)
        looking.addBoth(self._end_look)

    def _on_looked(self, changed: set[str]) -> None:
        for id in changed.intersection(self._recorder.unwatched):
            self._recorder.watch(id)
        self._recorder.save_again()
        self._followers.wake_changed(changed)

    def _end_look(self, _: object) -> None:
        self._looking = False
        self._schedule_look()

    def _log_unexpected(self, failure: Failure) -> None:
        if failure.check(StorageUnavailable) is None:
            self._log.failure("internal error while looking for events of jobs", failure)
