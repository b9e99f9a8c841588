"""
Tests for `kiroworkers.conversations.terminal.recording`.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.conversations.terminal.recording import (
    BadRecording,
    Direction,
    Piece,
    Writer,
    read_recording,
)

_DIRECTIONS: list[Direction] = ["i", "o"]


class RecordingTests(SynchronousTestCase):
    """
    Tests for writing and reading recordings.
    """

    @given(st.lists(st.tuples(st.sampled_from(_DIRECTIONS), st.binary()), max_size=20))
    def test_exact(self, said: list[tuple[Direction, bytes]]) -> None:
        """
        Any bytes, cut anywhere, come back exactly in each direction.
        """
        writer = Writer(50, 1000)
        pieces = [Piece(index / 10, *each) for index, each in enumerate(said)]
        text = writer.header() + "".join(map(writer.line, pieces)) + writer.last_lines(99)
        read = list(read_recording(text.splitlines(keepends=True)))
        for direction in _DIRECTIONS:
            self.assertEqual(
                b"".join(piece.data for piece in read if piece.direction == direction),
                b"".join(data for each, data in said if each == direction),
            )

    def test_line(self) -> None:
        """
        A piece is a line that players of asciicasts know.
        """
        writer = Writer(50, 1000, "kiro-cli chat")
        self.assertEqual(
            writer.header(),
            '{"version": 2, "width": 1000, "height": 50, "command": "kiro-cli chat"}\n',
        )
        self.assertEqual(writer.line(Piece(1.5, "o", b"\x1b[0m\xc3")), '[1.5, "o", "\\u001b[0m"]\n')
        self.assertEqual(writer.line(Piece(2, "o", b"\xbc")), '[2, "o", "\\u00fc"]\n')

    def test_wrong(self) -> None:
        """
        What is no recording is refused, with the line.
        """
        header = Writer(50, 1000).header()
        for lines, reason in [
            ([], "line 1: is missing"),
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
        A last line that was not written to its end is left out; so are marks
        that other recorders make.
        """
        lines = [Writer(50, 1000).header(), '[1, "m", "here"]\n', '[1, "o", "a"]\n', '[2, "o"']
        self.assertEqual(list(read_recording(lines)), [Piece(1.0, "o", b"a")])
