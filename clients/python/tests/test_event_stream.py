"""
Tests for `kiroworkers_client.event_stream`.
"""

from __future__ import annotations

from itertools import pairwise
from unittest import TestCase
from unittest.mock import patch

from kiroworkers_client.event_stream import (
    _LINE_END,
    EventReader,
    EventTooLong,
    ServerSentEvent,
)

STREAM = (
    "\ufeffevent: queued\ndata: {}\n\n: kiroworkers\n\ndata: one\r\ndata:two\r\rid: 7\n"
    "event: text\rdata: „ü“\r\n\r\n: alive\n\ndata\n\nevent: only a name\n\ndata: unfinished"
).encode()

EVENTS = [
    ServerSentEvent("queued", "{}"),
    ServerSentEvent("message", "one\ntwo"),
    ServerSentEvent("text", "„ü“", "7"),
    ServerSentEvent("message", "", "7"),
]


def read(*pieces: bytes) -> list[ServerSentEvent]:
    """
    Return the events of a stream that arrives in `pieces`.
    """
    reader = EventReader()
    return [event for piece in pieces for event in reader.feed(piece)]


class _CountingPattern:
    """
    Split at the ends of lines, and count the bytes that are searched.
    """

    def __init__(self) -> None:
        self.searched = 0

    def split(self, data: bytes) -> list[bytes]:
        self.searched += len(data)
        return _LINE_END.split(data)


class EventReaderTests(TestCase):
    """
    Tests for `EventReader`.
    """

    def test_whole(self) -> None:
        """
        Events end at an empty line, and lines at CR, LF or both.
        """
        self.assertEqual(read(STREAM), EVENTS)

    def test_split_anywhere(self) -> None:
        """
        A stream that is cut at any byte has the same events.
        """
        for cut in range(len(STREAM) + 1):
            with self.subTest(cut=cut):
                self.assertEqual(read(STREAM[:cut], STREAM[cut:]), EVENTS)

    def test_byte_by_byte(self) -> None:
        """
        A stream whose bytes come one by one, with nothing between them, has the same events.
        """
        bytes_ = [STREAM[start:end] for start, end in pairwise(range(len(STREAM) + 1))]
        self.assertEqual(read(*(piece for byte in bytes_ for piece in (byte, b""))), EVENTS)

    def test_linear(self) -> None:
        """
        A line that comes in very many pieces is not copied or searched again for each of them.
        """
        reader = EventReader()
        reader.feed(b"data: ")
        for _ in range(100_000):
            reader.feed(b"0123456789")
        traced = _CountingPattern()
        with patch("kiroworkers_client.event_stream._LINE_END", traced):
            reader.feed(b"0123456789")
            (event,) = reader.feed(b"\n\n")
        self.assertEqual(len(event.data), 1_000_010)
        self.assertEqual(traced.searched, 12)

    def test_limit(self) -> None:
        """
        An event above the limit is an error, whether it has one line or many, complete or not.
        """
        for pieces in ([b"data: 4567890123"], [b"data: 4\n", b"data: 4\n"], [b":", b"x" * 20]):
            with self.subTest(pieces=pieces):
                reader = EventReader(limit=12)
                with self.assertRaises(EventTooLong):
                    for piece in pieces:
                        reader.feed(piece)

    def test_limit_of_each(self) -> None:
        """
        The limit is that of an event, not of the stream.
        """
        reader = EventReader(limit=12)
        for _ in range(10):
            self.assertEqual(len(reader.feed(b"data: 5678\n\n")), 1)
