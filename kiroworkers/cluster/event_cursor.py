"""
Put the stored events of a job in order for one listener, and declare those that are missing.

Each claim of a job begins a new run, whose events are numbered from 1.  The server that runs the
job stores them, and a last row that no listener sees, a *mark*, when there will be no more.  So
a listener on any server finds out by the numbers alone whether it has seen everything.

A run 0 has a single event, which is not stored: that the job waits.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import get_args

from attrs import frozen

from kiroworkers.jobs.job_events import (
    ENDED,
    LAST_NUMBER,
    TOO_MANY,
    UNKNOWN,
    EventId,
    EventName,
    JobEvent,
    gap,
)

#: The name of the row after the last event of a run.
MARK = "mark"

#: Why events are missing when a job was begun anew.
BEGUN_ANEW = "The job was begun anew, and some of its earlier events are not kept"

#: The event of run 0.
FIRST = EventId(0, 1)

_NAMES = get_args(EventName)


@frozen
class EventRow:
    """
    Hold a stored event.

    Attributes:
        id: The event's identifier.
        name: The event's name, or `MARK`.
        data: The event's data as JSON.
    """

    id: EventId
    name: str
    data: str


class EventCursor:
    """
    Remember the last event that a listener has seen.

    Args:
        after: The identifier with which it began; None if it has seen none.
        position: The position of the job, if it waits.
    """

    def __init__(self, after: str | None, position: int | None = None) -> None:
        self._position = position
        # None until the listener has the event of run 0.
        self._last = None if after is None else EventId.parse(after)
        self._is_unknown = after is not None and self._last is None
        # Whether the run of the last event has no more events, and what was read of its row.
        self._run_over = self._last == FIRST
        self._has_rows = False

    @property
    def last(self) -> EventId:
        """
        Return the identifier of the last event, whose row is to be read again with those after it.
        """
        return FIRST if self._last is None else self._last

    def begin_anew(self) -> None:
        """
        Note that the job has events, but none from the last one on: that one is unknown.
        """
        self._is_unknown, self._last = True, None

    def read(self, rows: Sequence[EventRow]) -> Iterator[JobEvent]:
        """
        Yield the events of an unfinished job that follow.

        Args:
            rows: The rows from `last` on, in their order.
        """
        if self._is_unknown:
            self._is_unknown = False
            yield gap(UNKNOWN, EventId(0, 0))
        if self._last is None:
            self._last, self._run_over = FIRST, True
            yield JobEvent(FIRST, "queued", {"position": self._position, "estimate": None})
        for row in rows:
            self._has_rows = True
            if row.id < self._last:
                continue
            if row.id > self._last:
                reason = self._missing_before(row.id)
                if reason:
                    yield gap(reason, EventId(row.id.run, row.id.number - 1))
                if row.name in _NAMES:
                    yield JobEvent(row.id, row.name, json.loads(row.data))  # type: ignore[arg-type]
                self._run_over = False
            self._last = row.id
            self._run_over = self._run_over or row.name == MARK

    def end(self, claims: int, was_cancelled: bool) -> Iterator[JobEvent]:
        """
        Yield a gap if events are missing before the end of the job; all rows have been read.

        Args:
            claims: The number of runs of the job.
            was_cancelled: Whether somebody cancelled it: then the last run has no mark.
        """
        last = self.last
        if last.number == LAST_NUMBER:
            return
        is_complete = self._run_over and last.run == claims
        if not (is_complete or (was_cancelled and self._has_rows and last.run == claims)):
            yield gap(ENDED, EventId(claims, LAST_NUMBER))

    def _missing_before(self, id: EventId) -> str:
        """
        Return why events between the last one and `id` are missing; empty if none are.
        """
        last = self.last
        if id.run == last.run:
            return "" if id.number == last.number + 1 else TOO_MANY
        if self._run_over and id.run == last.run + 1:
            return "" if id.number == 1 else TOO_MANY
        return BEGUN_ANEW
