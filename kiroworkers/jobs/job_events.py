"""
Keep the events of unfinished jobs, and pass them on to everybody who listens.

The events of a job are numbered.  A listener says which event it has seen last, and gets
exactly those that followed, as often as its connection is lost.  If they are no longer kept,
it gets a *gap* instead, an event that declares that some are missing.

An `EventId` has the number of a run before the number of the event, so that identifiers grow
when a job is begun anew.  Of one server, the run is the number of its start.  The last event of
a job has the identifier `END`, and is made from what is stored.

The events of a job take a bounded number of bytes.  When the job has ended they are dropped,
or a minute later if anybody has listened: perhaps the connection was lost just then.
"""

from __future__ import annotations

import re
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol, TypeAlias

from attrs import define, field, frozen
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from kiroworkers.jobs.job import Job
from kiroworkers.pool.progress import (
    AgentNotice,
    PartialText,
    Progress,
    Queued,
    Retrying,
    Started,
)

#: The identifier of the last event of each job.
END = "end"

#: The bytes that the events of a job may take, and those of all jobs that have ended.
MAX_JOB_BYTES, MAX_ENDED_BYTES = 1024**2, 8 * 1024**2

#: Seconds for which the events of a job are kept after its end.
_LINGER = 60.0

#: Seconds for which pieces of text are collected into one event while somebody listens, and
#: the number of characters after which they become an event in any case.
_FLUSH_INTERVAL, _MAX_TEXT = 0.1, 16 * 1024

#: The estimated bytes of an event, besides its texts.
_EVENT_SIZE = 400

#: The number of the gap in place of all events of a job that has ended.
LAST_NUMBER = 999_999_999

#: Why events are missing.
RESTARTED = "The server was restarted"
TOO_MANY = "There were more events than the server keeps"
ENDED = "The job has ended, and only its result is kept"
UNKNOWN = "The server does not know the event after which to continue"

_ID = re.compile(r"([0-9]{1,9})-([0-9]{1,9})")

#: What an identifier consists of; an empty one stands for none.
EVENT_ID_PATTERN = f"({_ID.pattern}|{END})?"

EventName: TypeAlias = Literal["queued", "started", "text", "retry", "notice", "gap"]


@frozen(order=True)
class EventId:
    """
    Identify an event of a job; later events have greater identifiers.

    Attributes:
        run: The number of the run that the event belongs to.
        number: The number of the event in that run, from 1.
    """

    run: int
    number: int

    def __str__(self) -> str:
        return f"{self.run}-{self.number}"

    @classmethod
    def parse(cls, text: str) -> EventId | None:
        """
        Return the identifier that `text` is, or None.
        """
        match = _ID.fullmatch(text)
        return None if match is None else cls(int(match[1]), int(match[2]))


@frozen
class JobEvent:
    """
    Hold an event of a job.

    Attributes:
        id: Its identifier.
        name: What has happened.
        data: The facts, as JSON values.
    """

    id: EventId
    name: EventName
    data: Mapping[str, Any]


#: Called with each event of a job.
OnJobEvent: TypeAlias = Callable[[JobEvent], None]


@define(eq=False)
class _Listener:
    """
    Represent somebody who listens to a job.

    Attributes:
        on_event: Called with each event.
        ended: Fires when there are no more.
    """

    on_event: OnJobEvent
    ended: Deferred[Job | None]


@define(eq=False)
class _JobEvents:
    """
    Hold the events of one job.

    Attributes:
        run: The number before that of each event.
        has_gap: Why events before the first one are missing; empty if none are.
        kept: Those that are kept.
        last: The number of the last one.
        size: The bytes that they take.
        text: Pieces of text that are still to become an event, and their length.
        listeners: Those who listen.
        was_heard: Whether anybody has listened.
        timer: Ends the collection of text; after the end of the job, drops the events.
    """

    run: int
    has_gap: str = ""
    kept: deque[JobEvent] = field(factory=deque)
    last: int = 0
    size: int = 0
    text: list[str] = field(factory=list)
    text_length: int = 0
    listeners: dict[_Listener, None] = field(factory=dict)
    was_heard: bool = False
    timer: IDelayedCall | None = None


class JobProgress(Protocol):
    """
    Be told what happens to the jobs that this server runs.
    """

    def report(self, id: str, progress: Progress) -> None:
        """
        Report the progress of a job that runs.
        """

    def retry(self, id: str, reason: str) -> None:
        """
        Report that a job will be run again.
        """

    def queue_again(self, id: str) -> None:
        """
        Report that a job waits until it is run again.
        """


class JobEventSource(Protocol):
    """
    Pass on the events of jobs.
    """

    def listen(self, job: Job, after: str | None, on_event: OnJobEvent) -> Deferred[Job | None]:
        """
        Call `on_event` with the events of an unfinished job, beginning with those that it has.

        Args:
            job: The job.
            after: The identifier of the last event that the listener has seen; None for none.
            on_event: Called with each event.

        Returns:
            A Deferred that fires with the job when it has ended, or with None when the server
            stops or the job was deleted.  Cancelling it ends the calls.
        """

    def replay(self, job: Job, after: str | None, on_event: OnJobEvent) -> Deferred[None]:
        """
        Call `on_event` with the events of a job that has ended, as far as they are kept.

        The arguments are those of `listen`.
        """

    def close(self) -> None:
        """
        End all listening, and keep nothing more.
        """


class JobEvents:
    """
    Keep and pass on the events of all jobs; this is a `JobProgress` and a `JobEventSource`.

    Attributes:
        server: The number of this server's start, which is the run of each of its events.

    Args:
        clock: Schedules calls.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime) -> None:
        self.server = 1
        self._clock = clock
        self._unfinished: dict[str, _JobEvents] = {}
        self._ended: OrderedDict[str, _JobEvents] = OrderedDict()
        self._ended_bytes = 0

    def resume(self, job: Job) -> None:
        """
        Take note of an unfinished job that an earlier server has left.
        """
        if job.attempts and job.id not in self._unfinished:
            self._unfinished[job.id] = _JobEvents(self.server, RESTARTED)
            self._add(job.id, "queued", {"position": job.position, "estimate": None})

    def begin(self, id: str, run: int) -> None:
        """
        Take note of a job whose events have a run of their own, and forget those of earlier ones.
        """
        self.forget(id)
        self._unfinished[id] = _JobEvents(run)

    def queue_again(self, id: str) -> None:
        """
        Report that a job waits until it is run again.
        """
        self._add(id, "queued", {"position": None, "estimate": None})

    def retry(self, id: str, reason: str) -> None:
        """
        Report that a job will be run again.
        """
        self._add(id, "retry", {"reason": reason, "where": "new_conversation"})

    def report(self, id: str, progress: Progress) -> None:
        """
        Report the progress of a job that runs.
        """
        match progress:
            case PartialText(text):
                self._add_text(id, text)
            case Queued(position, seconds):
                self._add(id, "queued", {"position": position, "estimate": round(seconds, 1)})
            case Started(worker, attempt):
                self._add(id, "started", {"worker": worker, "attempt": attempt})
            case Retrying(reason, where):
                self._add(id, "retry", {"reason": reason, "where": where})
            case AgentNotice(kind, detail):
                self._add(id, "notice", {"kind": kind, "detail": detail})

    def end(self, job: Job) -> None:
        """
        Note that a job has ended, and that its result is stored.
        """
        events = self._unfinished.get(job.id)
        if events is None:
            return
        self._flush(events)
        del self._unfinished[job.id]
        listeners, events.listeners = events.listeners, {}
        if events.was_heard:
            events.timer = self._clock.callLater(_LINGER, self._drop, job.id)
            self._ended[job.id] = events
            self._ended_bytes += events.size
            while self._ended_bytes > MAX_ENDED_BYTES:
                self._drop(next(iter(self._ended)))
        for listener in listeners:
            listener.ended.callback(job)

    def listen(self, job: Job, after: str | None, on_event: OnJobEvent) -> Deferred[Job | None]:
        """
        Call `on_event` with the events of an unfinished job; see `JobEventSource.listen`.

        It is called at once with those that the job has.
        """
        events = self._events_of(job.id, job.position)
        events.was_heard = True
        self._flush(events)
        listener = _Listener(on_event, Deferred(lambda _: self._leave(job.id, events, listener)))
        events.listeners[listener] = None
        for event in self._replay(events, after):
            on_event(event)
        return listener.ended

    def replay(self, job: Job, after: str | None, on_event: OnJobEvent) -> Deferred[None]:
        """
        Call `on_event` with the events of a job that has ended; see `JobEventSource.replay`.
        """
        events = self._ended.get(job.id)
        if events is not None:
            for event in self._replay(events, after):
                on_event(event)
            return succeed(None)
        seen = None if after is None else EventId.parse(after)
        if seen is None or seen.number != LAST_NUMBER:
            on_event(gap(ENDED, EventId(self.server, LAST_NUMBER)))
        return succeed(None)

    def kept(self, id: str) -> Sequence[JobEvent]:
        """
        Return the events of an unfinished job that are kept, text so far included.
        """
        events = self._unfinished.get(id)
        if events is None:
            return ()
        self._flush(events)
        return events.kept

    def forget(self, id: str) -> None:
        """
        Drop the events of an unfinished job.
        """
        events = self._unfinished.pop(id, None)
        if events is not None:
            self._stop_timer(events)

    def close(self) -> None:
        """
        End all listening, and keep nothing more.
        """
        for id in [*self._ended]:
            self._drop(id)
        unfinished, self._unfinished = self._unfinished, {}
        for events in unfinished.values():
            self._stop_timer(events)
            listeners, events.listeners = events.listeners, {}
            for listener in listeners:
                listener.ended.callback(None)

    def _events_of(self, id: str, position: int | None = None) -> _JobEvents:
        """
        Return the events of an unfinished job; the first one is that it waits.
        """
        events = self._unfinished.get(id)
        if events is None:
            events = self._unfinished[id] = _JobEvents(self.server)
            self._append(events, "queued", {"position": position, "estimate": None}, _EVENT_SIZE)
        return events

    def _leave(self, id: str, events: _JobEvents, listener: _Listener) -> None:
        events.listeners.pop(listener, None)
        is_new = events.last == 1 and not (events.has_gap or events.text or events.listeners)
        if is_new and self._unfinished.get(id) is events:
            # The next listener gets the same event again.  Perhaps the job has ended.
            del self._unfinished[id]

    def _add_text(self, id: str, text: str) -> None:
        events = self._events_of(id)
        events.text.append(text)
        events.text_length += len(text)
        if events.text_length > _MAX_TEXT:
            self._flush(events)
        elif events.listeners and events.timer is None:
            events.timer = self._clock.callLater(_FLUSH_INTERVAL, self._flush, events)

    def _flush(self, events: _JobEvents) -> None:
        """
        Make an event of the text that was collected.
        """
        self._stop_timer(events)
        if events.text:
            text = "".join(events.text)
            events.text.clear()
            events.text_length = 0
            self._append(events, "text", {"text": text}, _EVENT_SIZE + 2 * len(text))

    def _add(self, id: str, name: EventName, data: Mapping[str, Any]) -> None:
        events = self._events_of(id)
        self._flush(events)
        self._append(events, name, data, _EVENT_SIZE)

    def _append(
        self, events: _JobEvents, name: EventName, data: Mapping[str, Any], size: int
    ) -> None:
        events.last += 1
        event = JobEvent(EventId(events.run, events.last), name, data)
        events.kept.append(event)
        events.size += size
        while events.size > MAX_JOB_BYTES and len(events.kept) > 1:
            events.size -= event_size(events.kept.popleft())
            events.has_gap = TOO_MANY
        for listener in [*events.listeners]:
            try:
                listener.on_event(event)
            except Exception:
                self._log.failure("internal error while passing on an event of a job")

    def _replay(self, events: _JobEvents, after: str | None) -> Iterator[JobEvent]:
        """
        Yield the events that followed `after`, with a gap before them if some are missing.
        """
        first = events.kept[0].id.number if events.kept else events.last + 1
        before = EventId(events.run, first - 1)
        seen = None if after is None else EventId.parse(after)
        if after is None:
            reason = events.has_gap
        elif seen is None or seen > EventId(events.run, events.last):
            reason = UNKNOWN
        elif seen < before:
            reason = RESTARTED if seen.run < events.run else TOO_MANY
        else:
            reason = ""
        if reason:
            yield gap(reason, before)
            seen = before
        for event in [*events.kept]:
            if seen is None or event.id > seen:
                yield event

    def _drop(self, id: str) -> None:
        events = self._ended.pop(id)
        self._ended_bytes -= events.size
        self._stop_timer(events)

    def _stop_timer(self, events: _JobEvents) -> None:
        if events.timer is not None and events.timer.active():
            events.timer.cancel()
        events.timer = None


def gap(reason: str, id: EventId) -> JobEvent:
    """
    Return the event that stands for those up to `id`, which are missing because of `reason`.
    """
    return JobEvent(id, "gap", {"reason": reason})


def event_size(event: JobEvent) -> int:
    """
    Return the estimated bytes that `event` takes.
    """
    text = event.data.get("text")
    return _EVENT_SIZE if text is None else _EVENT_SIZE + 2 * len(text)
