"""
Tests for `kiroworkers.mcp_stdio.lines`.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.mcp_stdio.lines import LineReader


class LineReaderTests(SynchronousTestCase):
    """
    Tests for `LineReader`.
    """

    def test_limit(self) -> None:
        """
        A line of the maximum length is returned; a longer one is not kept, and the next line is
        read from its beginning.
        """
        reader = LineReader(4)
        self.assertEqual(reader.feed(b"1234\n12345\n123"), [b"1234", None])
        for _ in range(9):
            self.assertEqual(reader.feed(b"45678"), [])
        self.assertEqual(len(reader._partial), 0)
        self.assertEqual(reader.feed(b"\nnext\n"), [None, b"next"])

    def test_end(self) -> None:
        """
        The last line need not have an end.
        """
        for stream, expected in (
            (b"", []),
            (b"one\n", []),
            (b"one\ntwo", [b"two"]),
            (b"one\nthree", [None]),
        ):
            reader = LineReader(4)
            reader.feed(stream)
            self.assertEqual(reader.end(), expected)

    @given(st.lists(st.binary(max_size=9).map(lambda line: line.replace(b"\n", b""))), st.data())
    def test_pieces(self, lines: list[bytes], data: st.DataObject) -> None:
        """
        The lines are the same, whatever pieces they arrive in.
        """
        stream = b"".join(line + b"\n" for line in lines)
        reader, found = LineReader(6), []
        while stream:
            size = data.draw(st.integers(1, len(stream)))
            found += reader.feed(stream[:size])
            stream = stream[size:]
        self.assertEqual(found, [line if len(line) <= 6 else None for line in lines])
        self.assertEqual(reader.end(), [])
