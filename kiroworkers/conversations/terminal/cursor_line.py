r"""
Find the line that the cursor is on, at the end of what a program has printed.

A line editor redraws its line, moves the cursor in it, and may keep empty rows below it.  The
program reads where it leaves the cursor::

    >>> line = CursorLine(rows=50, columns=80, queries=TerminalQueries())
    >>> line.feed(b"Hello\r\nask>\r\n\r\n\x1b[2A\x1b[5C")
    >>> line.text
    'ask> '

Drawing is slow.  Therefore output is drawn only on demand, and only its end if there is much.
"""

from __future__ import annotations

import re

from kiroworkers.conversations.terminal.emulator import Emulator
from kiroworkers.conversations.terminal.queries import TerminalQueries

#: Blanks with which a program fills a row, such as that of a toolbar, up to the edge.
_FILLING = re.compile(rb" {40,}")

#: The maximum number of bytes to draw at once, which takes some milliseconds.
_MAX_UNDRAWN = 16384


class CursorLine:
    """
    Hold the end of a program's output, and draw it on demand.

    The cursor starts in the last row, as on a terminal that has been used before: a program
    that asks for its position then has no reason to print empty rows down to the edge.

    Args:
        rows: The terminal's height.
        columns: The terminal's width.
        queries: Receives the program's queries when they are drawn.
    """

    def __init__(self, rows: int, columns: int, queries: TerminalQueries) -> None:
        self._emulator = Emulator(rows, columns, 0, queries)
        self._emulator.feed(b"\n" * (rows - 1), lambda complete: None)
        self._undrawn = bytearray()

    @property
    def undrawn(self) -> bool:
        """
        Return whether something was printed that is not drawn yet.
        """
        return bool(self._undrawn)

    @property
    def row(self) -> int:
        """
        Return the number of the cursor's row, which does not change when the screen scrolls.
        """
        self._draw()
        return self._emulator.cursor_row

    @property
    def text(self) -> str:
        """
        Return the text from the first column to the cursor.
        """
        self._draw()
        row, column = self._emulator.cursor
        return self._emulator.text_before(row, column)

    def feed(self, data: bytes) -> None:
        """
        Take in output, which may be cut at any byte.
        """
        # A filled row of a wide terminal is long: without this, it would be cut below.
        self._undrawn += _FILLING.sub(_erase, data)
        if len(self._undrawn) > 2 * _MAX_UNDRAWN:
            # From the beginning of a line, if there is one.
            cut = self._undrawn.find(b"\n", len(self._undrawn) - _MAX_UNDRAWN)
            del self._undrawn[: max(cut, len(self._undrawn) - _MAX_UNDRAWN)]

    def _draw(self) -> None:
        if self._undrawn:
            self._emulator.feed(bytes(self._undrawn), lambda complete: None)
            self._undrawn.clear()


def _erase(blanks: re.Match[bytes]) -> bytes:
    """
    Return sequences that erase as many cells as `blanks` fill, and move the cursor behind them.
    """
    count = len(blanks[0])
    return b"\x1b[%dX\x1b[%dC" % (count, count)
