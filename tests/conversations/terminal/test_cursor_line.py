"""
Tests for `kiroworkers.conversations.terminal.cursor_line`.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.conversations.terminal.cursor_line import CursorLine
from kiroworkers.conversations.terminal.queries import TerminalQueries


def drawn(*chunks: bytes) -> CursorLine:
    """
    Return a line that was fed `chunks`.
    """
    line = CursorLine(50, 9000, TerminalQueries())
    for chunk in chunks:
        line.feed(chunk)
    return line


class CursorLineTests(SynchronousTestCase):
    """
    Tests for `CursorLine`.
    """

    def test_rows_below(self) -> None:
        """
        The line is where the cursor is, whatever is below it and behind it.
        """
        self.assertEqual(drawn(b"Hello\r\nask> ").text, "ask> ")
        self.assertEqual(drawn(b"Hello\r\nask>\x1b[4D\x1b[5C").text, "ask> ")
        self.assertEqual(drawn(b"ask>\r\n\r\n\r\ntoolbar\x1b[3A\r\x1b[5C").text, "ask> ")
        self.assertEqual(drawn(b"ask> a hint\r\x1b[5C").text, "ask> ")

    def test_row(self) -> None:
        """
        A row keeps its number while it scrolls up.
        """
        line = drawn(b"one\r\n")
        row = line.row
        line.feed(b"two\r\n\r\n\r\n\x1b[2A")
        self.assertEqual(line.row, row + 1)

    def test_query(self) -> None:
        """
        The cursor starts in the last row of the terminal.
        """
        queries = TerminalQueries()
        line = CursorLine(50, 80, queries)
        line.feed(b"Hello\r\nask> \x1b[6n")
        self.assertTrue(line.undrawn)
        self.assertEqual(line.text, "ask> ")
        self.assertFalse(line.undrawn)
        self.assertEqual(queries.data_to_send(), b"\x1b[50;6R")

    def test_flood(self) -> None:
        """
        Of much output only the end is drawn.
        """
        line = drawn(*[b"x" * 8000 + b"\r\n"] * 200, b"ask> ")
        row = line.row
        self.assertEqual(line.text, "ask> ")
        self.assertLess(row, 60)
        self.assertEqual(drawn(*[b"x" * 8000] * 200, b"\r\nask> ").text, "ask> ")

    def test_filled_rows(self) -> None:
        """
        Rows that are filled with blanks up to the edge of a wide terminal are drawn as well, such
        as those of a toolbar.
        """
        line = CursorLine(50, 9000, TerminalQueries())
        toolbar = b"\r\r\na toolbar" + b" " * 8991
        line.feed(b"ask>" + b" " * 8996 + 4 * toolbar + b"\x1b[4A\r\x1b[5C")
        self.assertEqual(line.text, "ask> ")
        line.feed(b"\rmore" + b" " * 100 + b"\x1b[95D")
        self.assertEqual(line.text, "more     ")
