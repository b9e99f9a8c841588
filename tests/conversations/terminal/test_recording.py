"""
Tests for `kiroworkers.conversations.terminal.recording`.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.conversations.terminal.recording import (
    BadRecording,
    Chunk,
    Direction,
    RecordingWriter,
    read_recording,
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

    def test_line(self) -> None:
        """
        A chunk is written as a line that asciicast players can read.
        """
        writer = RecordingWriter(50, 1000, "kiro-cli chat")
        self.assertEqual(
            writer.header(),
            '{"version": 2, "width": 1000, "height": 50, "command": "kiro-cli chat"}\n',
        )
        self.assertEqual(writer.line(Chunk(1.5, "o", b"\x1b[0m\xc3")), '[1.5, "o", "\\u001b[0m"]\n')
        self.assertEqual(writer.line(Chunk(2, "o", b"\xbc")), '[2, "o", "\\u00fc"]\n')

    def test_wrong(self) -> None:
        """
        Lines that are not a recording are refused, with the number of the line.
        """
        header = RecordingWriter(50, 1000).header()
        for lines, reason in [
            ([], "the recording is empty"),
            (["x\n"], "line 1: not JSON"),
            (['{"version": 1}\n'], "line 1: not an asciicast of version 2"),
            ([header, "[1, 2]\n"], "line 2: not an asciicast of version 2"),
            ([header, "oops\n"], "line 2: not JSON"),
        ]:
            with self.assertRaises(BadRecording) as raised:
                list(read_recording(lines))
            self.assertEqual(str(raised.exception), reason)

    def test_cut_off(self) -> None:
        """
        An incomplete last line is skipped, and so are the markers of other recorders.
        """
        lines = [
            RecordingWriter(50, 1000).header(),
            '[1, "m", "here"]\n',
            '[1, "o", "a"]\n',
            '[2, "o"',
        ]
        self.assertEqual(list(read_recording(lines)), [Chunk(1.0, "o", b"a")])
