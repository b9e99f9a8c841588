"""
Tests for `kiroworkers.cluster.event_cursor`.
"""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.cluster.event_cursor import BEGUN_ANEW, MARK, EventCursor, EventRow
from kiroworkers.jobs.job_events import ENDED, TOO_MANY, UNKNOWN, EventId, JobEvent


def rows(*ids: str, name: str = "text") -> list[EventRow]:
    """
    Return rows with the identifiers `ids`; one with an "m" after it is a mark.
    """
    return [
        EventRow(EventId.parse(id.rstrip("m")) or EventId(0, 0), MARK, "")
        if id.endswith("m")
        else EventRow(EventId.parse(id) or EventId(0, 0), name, '{"text": "x"}')
        for id in ids
    ]


def brief(events: Iterable[JobEvent]) -> list[str]:
    """
    Return the identifiers of events, and the reasons of gaps.
    """
    return [
        f"{event.id} {event.data['reason']}" if event.name == "gap" else str(event.id)
        for event in events
    ]


class EventCursorTests(SynchronousTestCase):
    """
    Tests for `EventCursor`.
    """

    def test_from_the_start(self) -> None:
        """
        A listener is told the position of the job, and then gets all events; marks are not passed
        on, and nothing is missing when a run follows one that has a mark.
        """
        cursor = EventCursor(None, 3)
        self.assertEqual(
            [*cursor.read([])],
            [JobEvent(EventId(0, 1), "queued", {"position": 3, "estimate": None})],
        )
        self.assertEqual(brief(cursor.read(rows("1-1", "1-2"))), ["1-1", "1-2"])
        self.assertEqual(brief(cursor.read(rows("1-2", "1-3", "1-4m"))), ["1-3"])
        self.assertEqual(brief(cursor.read(rows("1-4m", "2-1", "2-2m"))), ["2-1"])
        self.assertEqual(brief(cursor.end(2, was_cancelled=False)), [])

    def test_gaps(self) -> None:
        """
        A listener is told of events that are missing, and why, and not a second time when it
        continues after that.
        """
        for after, found, expected in [
            ("1-3", rows("1-6", "1-7"), ["1-5 " + TOO_MANY, "1-6", "1-7"]),
            ("1-5", rows("1-6", "1-7"), ["1-6", "1-7"]),
            ("1-3", rows("1-3", "2-1"), ["2-0 " + BEGUN_ANEW, "2-1"]),
            ("2-0", rows("2-1"), ["2-1"]),
            ("1-3", rows("1-3", "1-4m", "3-1"), ["3-0 " + BEGUN_ANEW, "3-1"]),
            ("1-3", rows("1-3", "1-4m", "2-2"), ["2-1 " + TOO_MANY, "2-2"]),
            ("0-1", rows("1-1"), ["1-1"]),
            ("0-1", rows("2-1"), ["2-0 " + BEGUN_ANEW, "2-1"]),
            (None, rows("2-4"), ["0-1", "2-3 " + BEGUN_ANEW, "2-4"]),
            ("end", rows("1-1"), ["0-0 " + UNKNOWN, "0-1", "1-1"]),
        ]:
            self.assertEqual(brief(EventCursor(after).read(found)), expected, after)

    def test_unknown(self) -> None:
        """
        A listener that names an event which cannot have been sent gets a gap, then everything.
        """
        cursor = EventCursor("7-7")
        self.assertEqual(cursor.last, EventId(7, 7))
        cursor.begin_anew()
        self.assertEqual(cursor.last, EventId(0, 1))
        self.assertEqual(brief(cursor.read(rows("1-1"))), ["0-0 " + UNKNOWN, "0-1", "1-1"])

    def test_end(self) -> None:
        """
        At the end of a job a gap is declared, once, unless the last run is known to be complete.
        """
        for after, found, claims, cancelled, missing in [
            ("1-2", rows("1-2", "1-3m"), 1, False, False),
            ("1-2", rows("1-2"), 1, False, True),
            ("1-2", rows("1-2", "1-3m"), 2, False, True),
            ("1-2", rows("1-2"), 1, True, False),
            ("1-2", rows("1-2"), 2, True, True),
            ("0-1", [], 0, True, False),
            ("0-1", [], 1, True, True),
            (None, [], 1, False, True),
            ("1-999999999", [], 1, False, False),
        ]:
            cursor = EventCursor(after)
            if found:
                [*cursor.read(found)]
            expected = [f"{claims}-999999999 {ENDED}"] if missing else []
            self.assertEqual(brief(cursor.end(claims, cancelled)), expected, (after, found))

    @given(
        st.lists(st.integers(0, 5), min_size=1, max_size=4),
        st.lists(st.tuples(st.integers(0, 25), st.booleans()), max_size=10),
    )
    def test_cut(self, lengths: list[int], cuts: list[tuple[int, bool]]) -> None:
        """
        However the rows are cut into pieces, and however often another cursor continues, each
        event is passed on once, and no gap is declared where no row is missing.
        """
        found: list[EventRow] = []
        for run, length in enumerate(lengths, 1):
            found += rows(*(f"{run}-{number}" for number in range(1, length + 1)))
            found += rows(f"{run}-{length + 1}m")
        cursor = EventCursor(None)
        seen: list[str] = []
        for end, continues in [*sorted(cuts), (len(found), False)]:
            seen += brief(cursor.read([row for row in found[:end] if row.id >= cursor.last]))
            if continues:
                cursor = EventCursor(seen[-1])
        self.assertEqual(seen, ["0-1", *(str(row.id) for row in found if row.name != MARK)])
