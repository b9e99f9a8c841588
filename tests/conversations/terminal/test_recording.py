"""
Tests for `kiroworkers.conversations.terminal.recording`.
"""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.conversations.terminal.recording import (
    BadRecording,
    Chunk,
    Direction,
    Marker,
    RecordingWriter,
    read_events,
    read_recording,
    recorded_size,
)

DIRECTIONS: list[Direction] = ["i", "o"]


class RecordingTests(SynchronousTestCase):
    """
    Tests for writing and reading recordings.
    """

    @given(st.lists(st.tuples(st.sampled_from(DIRECTIONS), st.binary()), max_size=20))
    def test_exact(self, recorded: list[tuple[Direction, bytes]]) -> None:
        """
        Any bytes, cut anywhere, are read back exactly in each direction.
        """
        writer = RecordingWriter(50, 1000)
        chunks = [Chunk(index / 10, *item) for index, item in enumerate(recorded)]
        text = writer.header() + "".join(map(writer.line, chunks)) + writer.closing_lines(99)
        read = list(read_recording(text.splitlines(keepends=True)))
        for direction in DIRECTIONS:
            self.assertEqual(
                b"".join(chunk.data for chunk in read if chunk.direction == direction),
                b"".join(data for name, data in recorded if name == direction),
            )

    @given(st.lists(st.tuples(st.floats(0, 3), st.binary(min_size=1)), max_size=20))
    def test_times(self, recorded: list[tuple[float, bytes]]) -> None:
        """
        However many events there are, their times are read back to the microsecond.
        """
        writer, seconds, times = RecordingWriter(50, 1000), 0.0, []
        lines = [writer.header()]
        for interval, _ in recorded:
            seconds += interval
            times.append(seconds)
            lines.append(writer.line(Chunk(seconds, "o", b"x")))
        read = [chunk.seconds for chunk in read_recording(lines)]
        self.assertEqual(len(read), len(times))
        for one, other in zip(read, times, strict=True):
            self.assertLess(abs(one - other), 1e-6)

    def test_line(self) -> None:
        """
        A chunk is written as a line that asciicast players can read.
        """
        writer = RecordingWriter(50, 1000, "kiro-cli chat", "worker1", 1700000000.9)
        self.assertEqual(
            json.loads(writer.header()),
            {
                "version": 3,
                "term": {"cols": 1000, "rows": 50, "type": "xterm-256color"},
                "timestamp": 1700000000,
                "command": "kiro-cli chat",
                "title": "worker1",
            },
        )
        self.assertEqual(writer.line(Chunk(1.5, "o", b"\x1b[0m\xc3")), '[1.5, "o", "\\u001b[0m"]\n')
        self.assertEqual(writer.line(Chunk(2, "o", b"\xbc")), '[0.5, "o", "\\u00fc"]\n')
        invalid = writer.line(Chunk(2, "o", b"\xbc"))
        self.assertEqual(invalid, '# bytes vA==\n[0.0, "o", "\\ufffd"]\n')
        self.assertEqual(writer.marker(Marker(2.25, "here")), '[0.25, "m", "here"]\n')
        self.assertEqual(writer.exit(3, 1), '[0.75, "x", "1"]\n')

    def test_strict(self) -> None:
        """
        No line has a lone surrogate, which strict readers of JSON refuse.
        """
        writer = RecordingWriter(50, 1000)
        lines = writer.line(Chunk(0, "o", bytes(range(256)))) + writer.closing_lines(1)
        for line in lines.splitlines():
            if not line.startswith("#"):
                json.dumps(json.loads(line), ensure_ascii=False).encode()

    def test_backwards(self) -> None:
        """
        No interval is negative, even if an event is written late.
        """
        writer = RecordingWriter(50, 1000)
        writer.line(Chunk(2, "o", b"a"))
        self.assertEqual(writer.line(Chunk(1, "o", b"b")), '[0.0, "o", "b"]\n')

    def test_wrong(self) -> None:
        """
        Lines that are not a recording are refused, with the number of the line.
        """
        header = RecordingWriter(50, 1000).header()
        for lines, reason in [
            ([], "the recording is empty"),
            (["x\n"], "line 1: not JSON"),
            (['{"version": 1}\n'], "line 1: not an asciicast of version 2 or 3"),
            ([header, "[1, 2]\n"], "line 2: not an asciicast of version 2 or 3"),
            ([header, '[NaN, "o", ""]\n'], "line 2: not an asciicast of version 2 or 3"),
            ([header, "oops\n"], "line 2: not JSON"),
        ]:
            with self.assertRaises(BadRecording) as raised:
                list(read_recording(lines))
            self.assertEqual(str(raised.exception), reason)

    def test_versions(self) -> None:
        """
        Times count from the start in version 2, and from the event before in version 3.
        """
        events = ['[1, "o", "a"]\n', '[2, "m", "here"]\n', '[2.5, "o", "b"]\n']
        for header, times, size in [
            ('{"version": 2, "width": 80, "height": 24}\n', [1, 2, 2.5], (24, 80)),
            ('{"version": 3, "term": {"cols": 80, "rows": 24}}\n', [1, 3, 5.5], (24, 80)),
            ('{"version": 3, "width": 80}\n', [1, 3, 5.5], None),
        ]:
            read = list(read_events([header, *events]))
            self.assertEqual([event.seconds for event in read], times)
            self.assertEqual(read[1], Marker(times[1], "here"))
            self.assertEqual(recorded_size(header), size)

    def test_surrogates(self) -> None:
        """
        The lone surrogates that version 2 was written with are read as the bytes they stand for.
        """
        lines = ['{"version": 2}\n', '[1, "o", "\\udcff"]\n']
        self.assertEqual(list(read_recording(lines)), [Chunk(1.0, "o", b"\xff")])

    def test_comments(self) -> None:
        """
        Comments and the events of other recorders are skipped, and so is a line that is cut off.
        """
        lines = [
            RecordingWriter(50, 1000).header(),
            "# a comment\n",
            '[1, "r", "80x24"]\n',
            '[1, "o", "a"]\n',
            "# bytes !\n",
            '[1, "o", "b"]\n',
            '[2, "o"',
        ]
        self.assertEqual(
            list(read_recording(lines)), [Chunk(2.0, "o", b"a"), Chunk(3.0, "o", b"b")]
        )
