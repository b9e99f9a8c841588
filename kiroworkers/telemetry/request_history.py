"""
Keep what happened to the last requests, so that anybody can be told later.

`RequestHistory` observes the events of requests.  It has one entry for each request that
asks an agent: a request to a task or to the OpenAI API, and each execution of a job.  Other
requests, such as those for the health of the server, are left out.

An entry has the facts that the access log has, and the events, but no text of prompts or
answers.  The record of a request collects both while it is handled, and an entry refers to it:
what clients read is made when one asks.  What was left out is declared: the number of entries
that are no longer kept, the events in the middle of a request that had too many, and the times
at which a server ended without saving what it knew.

If there is a `HistoryStorage`, changes are saved about once a second.  While it fails,
everything stays in memory, so only a server that ends meanwhile loses history; the next one
declares that.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Protocol, TypeAlias, get_args

from attrs import Factory, define, frozen
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from kiroworkers.clocks import WallClock
from kiroworkers.request_record import (
    EVENTS_WITH_TEXT,
    MAX_FIRST,
    EventData,
    EventName,
    Outcome,
    RequestEvent,
    RequestRecord,
)

#: All outcomes.
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)

#: The bytes that all entries may take, as `HistoryEntry.size` estimates them.
MAX_BYTES = 16 * 1024**2

#: The events that a history without a storage must observe; records keep the others.
UNSAVED_EVENTS: tuple[EventName, ...] = ("received", "ended", "cleared")

#: Why history is missing that a server was still to save.
ENDED_WITHOUT_SAVING = "The server ended without saving what had happened last"

#: The part of the entries that rejected requests may take.  They cost their senders nothing,
#: and must not replace the others.
_REJECTED_PART = 4

#: The estimated bytes of an entry and of an event, besides their texts.
_ENTRY_SIZE, _EVENT_SIZE = 1500, 300

#: The number of declared times without history that are kept.
_MAX_GAPS = 20

#: Seconds for which changes are collected before they are saved; and after which to try again
#: when they could not be saved.
_SAVE_DELAY, _RETRY_DELAY = 1.0, 5.0

#: The number of entries that are saved at a time.
_MAX_BATCH = 200

#: Seconds between two looks for entries that have expired.
_EXPIRY_INTERVAL = 60.0

#: The paths of requests that ask an agent.
_PATHS = ("/kiro/", "/v1/")

#: An event of an entry: its name, the seconds since the request was received, and its facts.
_Event: TypeAlias = tuple[EventName, float, EventData]


def asks_agent(method: str | None, path: str | None) -> bool:
    """
    Return whether a request with this method and path belongs in the history.

    It does if it asks an agent: an execution of a job, or a POST below ``/kiro/`` or
    ``/v1/``, even if it was rejected.
    """
    return method == "JOB" or (method == "POST" and path is not None and path.startswith(_PATHS))


@frozen
class HistoryGap:
    """
    Declare that some history is missing.

    Attributes:
        reason: Why, in a sentence.
        begins: The time after which it is missing, in seconds since the epoch; None if that
            is not known.
        ends: The time until which it is missing.
    """

    reason: str
    begins: float | None
    ends: float


@frozen
class SavedEntry:
    """
    Hold an entry as it is saved.

    Attributes:
        number: Its number.
        ended: When the request ended, in seconds since the epoch; when it was received, if it
            has not ended.
        content: What is known about it, as JSON values.
    """

    number: int
    ended: float
    content: Mapping[str, Any]


@frozen
class SavedHistory:
    """
    Hold what earlier servers have saved.

    Attributes:
        last_number: The highest number of an entry that was ever saved.
        entries: The entries, by number.
        gaps: The times of which history is missing, oldest first.
    """

    last_number: int = 0
    entries: Sequence[SavedEntry] = ()
    gaps: Sequence[HistoryGap] = ()


class HistoryStorage(Protocol):
    """
    Save entries for the next server.
    """

    def save(self, entries: Sequence[SavedEntry], removed: Sequence[int]) -> Deferred[None]:
        """
        Save new and changed entries, and remove others by their numbers.

        The returned Deferred fails if that is not possible.
        """

    def end(self) -> Deferred[None]:
        """
        Note that everything has been saved, and that the server ends.
        """


@define(eq=False)
class HistoryEntry:
    """
    Hold what happened to one request.

    Attributes:
        number: The place of the entry in the order of arrival.
        received: When the request was received, in seconds since the epoch.
        record: The record of the request; None if an earlier server has saved the entry.
        ended: When the request ended, in seconds since the epoch; None if it has not, or if an
            earlier server did not save its end.
        size: The estimated number of bytes that the entry takes.
        saved: Whether the storage has the entry.
    """

    number: int
    received: float
    record: RequestRecord | None = None
    ended: float | None = None
    size: int = _ENTRY_SIZE
    saved: bool = False
    # Of the record, once the request has ended and somebody has asked; or as it was saved.
    _summary: dict[str, Any] | None = None
    _saved_events: Sequence[_Event] = ()
    _saved_left_out: int = 0
    _saved_gaps: Sequence[dict[str, Any]] = ()

    @property
    def summary(self) -> Mapping[str, Any]:
        """
        Return what is known about the request, as in ``GET /requests``.
        """
        if self._summary is not None:
            return self._summary
        assert self.record is not None, "what was saved has a summary"
        summary = _summary(self, self.record)
        if self.ended is not None:
            self._summary = summary
        return summary

    def events(self) -> list[dict[str, Any]]:
        """
        Return the events that are kept in order, each with its name and the seconds until it.

        The end of a response is reported shortly after it.
        """
        events: list[dict[str, Any]] = [
            {"name": name, "at": round(at, 6), **data} for name, at, data in self._events()
        ]
        events.sort(key=lambda event: event["at"])
        return events

    def gaps(self) -> list[dict[str, Any]]:
        """
        Return what is missing of the request.
        """
        gaps = [*self._saved_gaps]
        left_out = self._left_out()
        if left_out:
            reason = "The request had too many events; those in the middle are left out"
            at = round(self._events()[MAX_FIRST - 1][1], 6)
            gaps.insert(0, {"reason": reason, "events": left_out, "at": at})
        return gaps

    def measure(self) -> None:
        """
        Set the size of an entry whose request has ended.
        """
        assert self.record is not None, "what was saved does not change"
        record, events = self.record, self.record.events
        self.size = _ENTRY_SIZE + _EVENT_SIZE * len(events)
        for event in events:
            if event.name in EVENTS_WITH_TEXT:
                self.size += _text_size(event.data)
        for text in (record.referrer, record.user_agent):
            if text is not None:
                self.size += len(text)

    def saved_entry(self) -> SavedEntry:
        """
        Return the entry as it is now, to be saved.
        """
        ended = self.received if self.ended is None else self.ended
        events = self._events()
        content = {
            "summary": self.summary,
            "received": self.received,
            "first": events[:MAX_FIRST],
            "last": events[MAX_FIRST:],
            "left_out": self._left_out(),
            "gaps": self._saved_gaps,
        }
        return SavedEntry(self.number, ended, content)

    @classmethod
    def from_saved(cls, saved: SavedEntry) -> HistoryEntry:
        """
        Return the entry that an earlier server has saved.

        Raises:
            KeyError: It cannot be read.
            TypeError: Likewise.
            ValueError: Likewise.
        """
        content = saved.content
        summary = dict(content["summary"])
        ended = summary["ended"]
        gaps = [*content["gaps"]]
        if summary["state"] != "ended":
            summary["state"] = "ended"
            reason = "The server ended before it had saved the rest"
            gaps.append({"reason": reason, "events": None, "at": None})
        events = [(name, at, data) for name, at, data in (*content["first"], *content["last"])]
        size = _ENTRY_SIZE + sum(_EVENT_SIZE + _text_size(data) for _, _, data in events)
        return cls(
            saved.number,
            float(content["received"]),
            ended=None if ended is None else ended / 1000,
            size=size,
            saved=True,
            summary=summary,
            saved_events=events,
            saved_left_out=int(content["left_out"]),
            saved_gaps=gaps,
        )

    def _events(self) -> Sequence[_Event]:
        """
        Return the events that are kept.
        """
        if self.record is None:
            return self._saved_events
        events = self.record.events
        began = events[0].at
        return [(name, at - began, data) for name, at, data in events]

    def _left_out(self) -> int:
        return self._saved_left_out if self.record is None else self.record.events_left_out


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)


def _text_size(data: Mapping[str, Any]) -> int:
    return sum(len(value) for value in data.values() if type(value) is str)


def _summary(entry: HistoryEntry, record: RequestRecord) -> dict[str, Any]:
    """
    Return what is known about the request of `record`, as in ``GET /requests``.
    """
    ended = entry.ended
    return {
        "id": record.id,
        "client": record.client,
        "task": record.task,
        "agent": record.agent,
        "worker": record.worker,
        "job": record.job,
        "state": "running" if ended is None else "ended",
        "outcome": None if ended is None else record.outcome,
        "status": None if ended is None else record.status,
        "code": record.code,
        "received": int(entry.received * 1000),
        "ended": None if ended is None else int(ended * 1000),
        "wait": _rounded(record.wait),
        "turn": _rounded(record.turn),
        "firstOutput": _rounded(record.first_output),
        "total": _rounded(record.total),
        "attempts": record.attempts or 0,
        "repairs": record.repairs,
    }


@frozen
class HistoryFilter:
    """
    Choose entries; None allows all.

    Attributes:
        client: The client that sent the request.
        id: The identifier of the request.
        worker: The last worker that was asked.
        task: The task.
        outcome: How the request ended.
    """

    client: str | None = None
    id: str | None = None
    worker: str | None = None
    task: str | None = None
    outcome: str | None = None

    def allows(self, summary: Mapping[str, Any]) -> bool:
        """
        Return whether the entry with this summary is chosen.
        """
        return (
            (self.client is None or summary["client"] == self.client)
            and (self.id is None or summary["id"] == self.id)
            and (self.worker is None or summary["worker"] == self.worker)
            and (self.task is None or summary["task"] == self.task)
            and (self.outcome is None or summary["outcome"] == self.outcome)
        )


ANY = HistoryFilter()


@define(eq=False)
class _State:
    """
    Hold what changes as the history is saved.
    """

    storage: HistoryStorage | None = None
    changed: dict[int, None] = Factory(dict)
    removed: list[int] = Factory(list)
    timer: IDelayedCall | None = None
    saving: Deferred[None] | None = None
    failed: bool = False


class RequestHistory:
    """
    Keep the last requests with their events; this is a `RequestObserver`.

    Requests that have not ended are kept in addition to the limit; the server limits their
    number.

    Attributes:
        gaps: The times of which history is missing, oldest first.
        before_read: Called before entries are read; it reports the ends that are still due.

    Args:
        clock: Schedules calls.
        wall_clock: Returns the time in seconds since the epoch.
        limit: The number of entries to keep; 0 keeps nothing.
        max_age: The age up to which they are kept, in seconds.
        max_bytes: The bytes that they may take.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        wall_clock: WallClock,
        limit: int,
        max_age: float,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self.gaps: list[HistoryGap] = []
        self.before_read: Callable[[], None] = lambda: None
        self._clock = clock
        self._wall_clock = wall_clock
        self._limit = limit
        self._max_rejected = max(1, limit // _REJECTED_PART)
        self._max_age = max_age
        self._max_bytes = max_bytes
        self._last_number = 0
        self._entries: dict[int, HistoryEntry] = {}
        # Those that have ended, in that order; and those of them that were rejected.
        self._ended: OrderedDict[int, None] = OrderedDict()
        self._rejected: OrderedDict[int, None] = OrderedDict()
        self._bytes = 0
        # Those of requests to this server.
        self._by_record: dict[RequestRecord, HistoryEntry] = {}
        self._state = _State()
        self._expiry: IDelayedCall | None = None

    def open(self, storage: HistoryStorage, saved: SavedHistory) -> None:
        """
        Continue the history of earlier servers, and save it.

        Args:
            storage: Where to save it.
            saved: What they have saved.
        """
        self._state.storage = storage
        self._last_number = saved.last_number
        self.gaps = [*saved.gaps][-_MAX_GAPS:]
        unreadable = 0
        for saved_entry in saved.entries:
            try:
                entry = HistoryEntry.from_saved(saved_entry)
                outcome = entry.summary["outcome"]
            except (KeyError, TypeError, ValueError):
                unreadable += 1
                self._state.removed.append(saved_entry.number)
                continue
            self._entries[entry.number] = entry
            self._bytes += entry.size
            self._note_ended(entry, outcome)
        self._expire()
        if unreadable:
            self._log.warn("{n} entries of the request history cannot be read", n=unreadable)
        self._trim()
        # The storage must know that a server runs, but not before it does.
        self._schedule(0.0)

    def close(self) -> Deferred[None]:
        """
        Save what has changed, and stop the timers.
        """
        for timer in (self._expiry, self._state.timer):
            if timer is not None and timer.active():
                timer.cancel()
        self._expiry = self._state.timer = None
        if self._state.storage is None:
            return succeed(None)
        return Deferred.fromCoroutine(self._close(self._state.storage))

    @property
    def dropped(self) -> int:
        """
        Return the number of requests that are no longer kept.
        """
        return self._last_number - len(self._entries)

    def request_event(self, record: RequestRecord, event: RequestEvent) -> None:
        """
        Take note of an event, which the record of the request keeps.
        """
        name = event.name
        entry = self._by_record.get(record)
        if entry is None:
            entry = self._begin(record, event)
            if entry is None:
                return
        elif self._state.storage is None and entry.ended is None and name != "ended":
            return  # Most of the events of most requests.
        state = self._state
        if state.storage is not None:
            state.changed[entry.number] = None
            if state.timer is None:
                self._schedule(_SAVE_DELAY)
        if entry.ended is not None:
            # The agent forgets a conversation after its answer was sent.
            self._measure(entry)
        elif name == "ended":
            # Not the wall clock: it may have been set, and the end may be reported late.
            began = event.at if record.received_at is None else record.received_at
            entry.ended = entry.received + event.at - began
            self._measure(entry)
            self._note_ended(entry, record.outcome)
            self._trim()

    def entry_of(self, record: RequestRecord) -> HistoryEntry | None:
        """
        Return the entry of a request to this server, if there is one.
        """
        return self._by_record.get(record)

    def summary(self, entry: HistoryEntry) -> Mapping[str, Any]:
        """
        Return what is known about the request of `entry`, as in ``GET /requests``.
        """
        return entry.summary

    def find(
        self, chosen: HistoryFilter = ANY, before: int | None = None
    ) -> Iterator[HistoryEntry]:
        """
        Yield the entries that `chosen` allows, newest first.

        Args:
            chosen: Which entries.
            before: Only entries with a smaller number than this; None for all.
        """
        self.before_read()
        self._expire()
        for number in reversed([*self._entries]):
            if before is None or number < before:
                entry = self._entries[number]
                if chosen is ANY or chosen.allows(entry.summary):
                    yield entry

    def _begin(self, record: RequestRecord, event: RequestEvent) -> HistoryEntry | None:
        """
        Return a new entry for a request, or None if it does not belong in the history.
        """
        method, path = record.method, record.path
        if event.name == "received":
            # The record gets them when the request ends.
            method, path = str(event.data.get("method")), str(event.data.get("path"))
        elif event.name != "ended":
            return None
        if self._limit == 0 or not asks_agent(method, path):
            return None
        self._last_number += 1
        entry = HistoryEntry(self._last_number, self._wall_clock(), record)
        self._entries[entry.number] = self._by_record[record] = entry
        self._bytes += entry.size
        return entry

    def _measure(self, entry: HistoryEntry) -> None:
        self._bytes -= entry.size
        entry.measure()
        self._bytes += entry.size

    def _note_ended(self, entry: HistoryEntry, outcome: Any) -> None:
        self._ended[entry.number] = None
        if outcome == "rejected":
            self._rejected[entry.number] = None

    def _trim(self) -> None:
        """
        Drop entries until the rest is within the limits.
        """
        while len(self._rejected) > self._max_rejected:
            self._drop(next(iter(self._rejected)))
        while self._ended and (len(self._ended) > self._limit or self._bytes > self._max_bytes):
            self._drop(next(iter(self._ended)))
        if self._expiry is None and self._ended:
            self._expiry = self._clock.callLater(
                max(_EXPIRY_INTERVAL, self._max_age / 60), self._on_expiry
            )

    def _expire(self) -> None:
        """
        Drop what is too old.
        """
        oldest = self._wall_clock() - self._max_age
        while self._ended:
            number = next(iter(self._ended))
            entry = self._entries[number]
            if (entry.received if entry.ended is None else entry.ended) >= oldest:
                break
            self._drop(number)
        while self.gaps and self.gaps[0].ends < oldest:
            del self.gaps[0]

    def _on_expiry(self) -> None:
        self._expiry = None
        self._expire()
        self._trim()

    def _drop(self, number: int) -> None:
        entry = self._entries.pop(number)
        if entry.record is not None:
            del self._by_record[entry.record]
        del self._ended[number]
        self._rejected.pop(number, None)
        self._state.changed.pop(number, None)
        self._bytes -= entry.size
        if entry.saved and self._state.storage is not None:
            self._state.removed.append(number)
            if self._state.timer is None:
                self._schedule(_SAVE_DELAY)

    # Saving.

    def _schedule(self, delay: float) -> None:
        self._state.timer = self._clock.callLater(delay, self._save)

    def _save(self) -> None:
        """
        Save what has changed, and schedule the next time if there is more.
        """
        saving = self._save_batch()
        if saving is not None:
            saving.addErrback(lambda failure: self._log.failure("cannot save history", failure))

    def _save_batch(self) -> Deferred[None] | None:
        """
        Save some of what has changed; return None if it is being done already.
        """
        state = self._state
        assert state.storage is not None, "nothing is to be saved without a storage"
        if state.saving is not None:
            return None
        numbers = [*islice(state.changed, _MAX_BATCH)]
        for number in numbers:
            del state.changed[number]
        removed, state.removed = state.removed, []
        batch = [self._entries[number] for number in numbers]
        saving = state.storage.save([entry.saved_entry() for entry in batch], removed)
        for entry in batch:
            # It may be, even if the storage fails.
            entry.saved = True
        state.saving = saving
        return saving.addBoth(self._on_saved, numbers, removed)

    def _on_saved(
        self, result: Failure | None, numbers: Sequence[int], removed: Sequence[int]
    ) -> None:
        state = self._state
        state.saving = None
        state.timer = None
        if isinstance(result, Failure):
            if not state.failed:
                self._log.warn(
                    "the request history cannot be saved: {reason}",
                    reason=result.getErrorMessage(),
                )
            state.failed = True
            state.changed.update({n: None for n in numbers if n in self._entries})
            state.removed[:0] = removed
            self._schedule(_RETRY_DELAY)
            return
        state.failed = False
        if state.changed or state.removed:
            self._schedule(_SAVE_DELAY)

    async def _close(self, storage: HistoryStorage) -> None:
        state = self._state
        if state.saving is not None:
            waiting: Deferred[None] = Deferred()
            state.saving.addBoth(waiting.callback)
            await waiting
        while state.changed or state.removed:
            saving = self._save_batch()
            if saving is not None:
                await saving
            self._cancel_timer()
            if state.failed:
                return
        self._cancel_timer()
        if not state.failed:
            try:
                await storage.end()
            except Exception as error:
                self._log.warn("the request history cannot be saved: {reason}", reason=error)
        state.storage = None

    def _cancel_timer(self) -> None:
        if self._state.timer is not None and self._state.timer.active():
            self._state.timer.cancel()
        self._state.timer = None
