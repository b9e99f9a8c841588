"""
Tests for `kiroworkers.client.event_stream`.
"""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.client import event_stream
from kiroworkers.client.event_stream import Event, EventReader, EventTooLong

LINE_ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])
PIECES = st.sampled_from(
    [
        b"data",
        b"event",
        b"id",
        b":",
        b" ",
        b"\n",
        b"\r",
        b"\r\n",
        b"\xef\xbb\xbf",
        "é".encode(),
        b"\xff",
    ]
)
WORDS = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=8)
EVENTS = st.builds(
    lambda name, lines: Event(name, "\n".join(lines)),
    WORDS.filter(bool),
    st.lists(WORDS, min_size=1, max_size=3),
)


def read(*pieces: bytes) -> list[Event]:
    """
    Return the events of a stream that arrives in these pieces.
    """
    reader = EventReader()
    return [event for piece in pieces for event in reader.feed(piece)]


class EventReaderTests(SynchronousTestCase):
    """
    Tests for `EventReader`.
    """

    def test_long_line(self) -> None:
        """
        Each byte of a long line is searched once, however small its pieces are.
        """
        searched = 0

        class Counting:
            def split(self, data: bytes) -> list[bytes]:
                nonlocal searched
                searched += len(data)
                return data.split(b"\n")

        self.patch(event_stream, "_LINE_END", Counting())
        text = "a" * 10_000
        self.assertEqual(
            read(*([b"data: "] + [b"a"] * 10_000 + [b"\n\n"])), [Event("message", text)]
        )
        self.assertEqual(searched, len("data: ") + 10_000 + 2)

    def test_event(self) -> None:
        """
        An event has a name and data, and ends at an empty line.
        """
        self.assertEqual(read(b"event: text\ndata: {}\n"), [])
        self.assertEqual(read(b"event: text\ndata: {}\n\n"), [Event("text", "{}")])

    def test_lines(self) -> None:
        """
        Lines of data are joined, each without one space after its colon.
        """
        self.assertEqual(read(b"data:a\ndata:  b\ndata\n\n"), [Event("message", "a\n b\n")])

    def test_ignored(self) -> None:
        """
        Comments, unknown fields and events without data are ignored; the name of an
        event does not carry over to the next.
        """
        stream = b": alive\n\nid: 3\nretry: 9\nevent: a\n\ndata: b\n\n"
        self.assertEqual(read(stream), [Event("message", "b")])

    def test_first_bytes(self) -> None:
        """
        A byte order mark at the very start is ignored.
        """
        self.assertEqual(read(b"\xef\xbb", b"\xbfdata: a\n\n"), [Event("message", "a")])

    def test_too_long(self) -> None:
        """
        An event beyond the limit is an error, in one line or in many.
        """
        for piece in (b"data: aaaa", b"data: a\n"):
            reader = EventReader(limit=20)
            with self.assertRaises(EventTooLong):
                for _ in range(9):
                    reader.feed(piece)

    def test_limit_per_event(self) -> None:
        """
        The limit applies to each event by itself, and not to comments.
        """
        reader = EventReader(limit=20)
        events = [reader.feed(b": alive\ndata: a\n\n") for _ in range(9)]
        self.assertEqual(events, [[Event("message", "a")]] * 9)

    @given(st.lists(st.tuples(EVENTS, LINE_ENDS), max_size=4), st.integers(1, 9))
    def test_round_trip(self, events: list[tuple[Event, bytes]], size: int) -> None:
        """
        Events are read with each kind of line end, in pieces of any size.
        """
        stream = b"".join(
            end.join(
                [
                    b": a comment",
                    b"event: " + event.name.encode(),
                    *(b"data: " + line.encode() for line in event.data.split("\n")),
                    b"",
                    b"",
                ]
            )
            for event, end in events
        )
        pieces = [stream[start : start + size] for start in range(0, len(stream), size)]
        self.assertEqual(read(*pieces), [event for event, _ in events])

    @given(st.lists(PIECES, max_size=40), st.lists(st.integers(0, 80), max_size=8))
    def test_cut_anywhere(self, pieces: list[bytes], cuts: list[int]) -> None:
        """
        Any stream has the same events however it is cut.
        """
        stream = b"".join(pieces)
        bounds = [0, *sorted(cuts), len(stream)]
        cut = [stream[start:end] for start, end in pairwise(bounds)]
        self.assertEqual(read(*cut), read(stream))
