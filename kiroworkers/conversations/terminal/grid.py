"""
The cells of a screen: pyte's screen, as text without colours, with what a reader
must know beside: which rows the terminal's edge has cut, which have scrolled off,
and that all was erased.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pyte
from pyte import modes
from pyte.screens import Char
from wcwidth import wcwidth

#: In a row: the next one continues it, since the terminal's edge was reached.
CONTINUED = -1


class _Cells(dict[str, Char]):
    """
    The cell of each character, made once.
    """

    def __missing__(self, character: str) -> Char:
        cell = self[character] = Char(character)
        return cell


_CELLS = _Cells()
_BLANK = _CELLS[" "]
_SECOND_HALF = _CELLS[""]

#: So many characters stand in one cell; no writing has more.
_MOST_JOINED = 64

#: What belongs to the character before it: a joiner with all that follows, the
#: choice of the wide form, the colours of a skin.
_JOINER = "\u200d"
_EMOJI = "\ufe0f"
_MODIFIERS = frozenset(map(chr, range(0x1F3FB, 0x1F400)))


#: Runs of characters that take one column each (ASCII, lines, blocks, Braille),
#: and whatever is between them.
_RUNS = re.compile("[ -~\u2500-\u259f\u2800-\u28ff]+|[^ -~\u2500-\u259f\u2800-\u28ff]+")
_NARROW = re.compile("[ -~\u2500-\u259f\u2800-\u28ff]")


class Grid(pyte.Screen):
    """
    pyte's screen, which also knows which rows the terminal's edge has cut, and
    tells of rows that leave it.

    Args:
        gone: called with each row that scrolls off the top.
        erased: called when the whole screen is erased.
    """

    def __init__(
        self,
        columns: int,
        rows: int,
        gone: Callable[[Any], None],
        erased: Callable[[], None],
    ) -> None:
        self._gone = gone
        self._erased = erased
        self._texts: dict[int, str] = {}
        self.wrapped = 0
        super().__init__(columns, rows)

    def draw(self, data: str) -> None:
        # Not pyte's own: that takes 3 us for each character, composes accents,
        # and drops the rest of a text after a character of no width.
        for run in _RUNS.findall(data):
            if _NARROW.match(run):
                self._draw_narrow(run)
            else:
                for character in run:
                    self._draw_any(character)

    def _draw_narrow(self, data: str) -> None:
        while data:
            self._make_room(1)
            cursor = self.cursor
            part, data = data[: self.columns - cursor.x], data[self.columns - cursor.x :]
            if modes.IRM in self.mode:
                self.insert_characters(len(part))
            end = cursor.x + len(part)
            cells = map(_CELLS.__getitem__, part)
            line = self.buffer[cursor.y]
            self._split_wide(line, cursor.x, end)
            line.update(zip(range(cursor.x, end), cells, strict=True))
            self.dirty.add(cursor.y)
            cursor.x = end

    def _draw_any(self, character: str) -> None:
        width = wcwidth(character)
        if width < 1 or character in _MODIFIERS:
            self._join(character)
            return
        before = self._cell_before()
        if before is not None and before[1].data.endswith(_JOINER):
            self._join(character)
            return
        self._make_room(width)
        cursor = self.cursor
        if modes.IRM in self.mode:
            self.insert_characters(width)
        line = self.buffer[cursor.y]
        self._split_wide(line, cursor.x, cursor.x + width)
        line[cursor.x] = _CELLS[character]
        if width == 2:
            line[cursor.x + 1] = _SECOND_HALF
        self.dirty.add(cursor.y)
        cursor.x += width

    @staticmethod
    def _split_wide(line: Any, start: int, end: int) -> None:
        """
        What is left of wide characters at the ends of what is drawn over.
        """
        if line.get(start) is _SECOND_HALF:
            line[start - 1] = _BLANK
        if line.get(end) is _SECOND_HALF:
            line[end] = _BLANK

    def _make_room(self, width: int) -> None:
        """
        Wrap, if the terminal does, where less than `width` is left of the row.
        """
        cursor = self.cursor
        if cursor.x + width <= self.columns:
            self.buffer[cursor.y].pop(CONTINUED, None)
        elif modes.DECAWM in self.mode:
            self.wrapped += 1
            line = self.buffer[cursor.y]
            line[CONTINUED] = _SECOND_HALF
            # A wide character left the last column unused.
            for column in range(cursor.x, self.columns):
                line.pop(column, None)
            self.carriage_return()
            self.linefeed()
            self.buffer[self.cursor.y].pop(CONTINUED, None)
        else:
            cursor.x = self.columns - width

    def _join(self, character: str) -> None:
        """
        A character of no width belongs to the one before it.
        """
        before = self._cell_before()
        if before is None:
            return
        (row, column), cell = before
        if len(cell.data) >= _MOST_JOINED:
            return
        self.buffer[row][column] = Char(cell.data + character)
        self.dirty.add(row)
        if character == _EMOJI and (row, column + 1) == (self.cursor.y, self.cursor.x):
            # The wide form of a narrow character.
            if column + 1 < self.columns:
                self.buffer[row][column + 1] = _SECOND_HALF
            self.cursor.x = min(column + 2, self.columns)

    def _cell_before(self) -> tuple[tuple[int, int], Char] | None:
        """
        Where the character before the cursor is, and its cell; None without.
        """
        row, column = self.cursor.y, self.cursor.x - 1
        if column < 0 and row and CONTINUED in self.buffer[row - 1]:
            row, column = row - 1, max(self.buffer[row - 1])
        if self.buffer[row].get(column, _BLANK) is _SECOND_HALF:
            column -= 1
        if column < 0:
            return None
        return (row, column), self.buffer[row].get(column, _BLANK)

    def index(self) -> None:
        top, bottom = self.margins or (0, self.lines - 1)
        if self.cursor.y == bottom and top == 0:
            # As on a terminal that scrolls back, even where rows below stay.
            self._gone(self.buffer.pop(0, {}))
            for row in sorted(row for row in self.buffer if row <= bottom):
                self.buffer[row - 1] = self.buffer.pop(row)
            self._texts = {row - (row <= bottom): text for row, text in self._texts.items() if row}
            self.dirty = {row - (row <= bottom) for row in self.dirty if row}
        else:
            if self.cursor.y == bottom:
                self._erased()
            super().index()

    def reverse_index(self) -> None:
        top, bottom = self.margins or (0, self.lines - 1)
        # A row is made, and one at the bottom pushed out; those above stay.
        if self.cursor.y == top and (top == 0 or self.row_text(bottom)):
            self._erased()
        super().reverse_index()

    def save_cursor(self) -> None:
        self.savepoints.clear()
        super().save_cursor()

    def restore_cursor(self) -> None:
        saved = list(self.savepoints)
        super().restore_cursor()
        self.savepoints[:] = saved

    def row_text(self, row: int) -> str:
        """
        What stands in `row`, without blanks at its end.
        """
        if self.dirty:
            for each in self.dirty:
                self._texts.pop(each, None)
            self.dirty.clear()
        if row not in self._texts:
            self._texts[row] = text_of(self.buffer[row]) if row in self.buffer else ""
        return self._texts[row]

    def delete_lines(self, count: int | None = None) -> None:
        """
        Delete rows from the cursor's on; those below move up, blank ones as well.
        """
        # pyte moves only rows that it has, and would leave what stood there.
        for row in range(self.cursor.y, self.lines):
            self.buffer[row]
        super().delete_lines(count)

    def erase_in_line(self, how: int = 0, private: bool = False) -> None:
        # Not pyte's own: that fills what it erases, which costs as much as the
        # screen is wide, each time it is read.
        cursor = self.cursor
        line = self.buffer[cursor.y]
        if how in (0, 2):
            line.pop(CONTINUED, None)
        start = cursor.x if how == 0 else 0
        end = cursor.x + 1 if how == 1 else self.columns
        for column in [each for each in line if start <= each < end]:
            del line[column]
        self.dirty.add(cursor.y)

    def erase_in_display(self, how: int = 0, *args: Any, **kwargs: Any) -> None:
        cursor = self.cursor
        if how in (2, 3) or (how == 0 and (cursor.y, cursor.x) == (0, 0)):
            self._erased()
        start = cursor.y + 1 if how == 0 else 0
        erased = range(start, cursor.y if how == 1 else self.lines)
        for row in erased:
            self.buffer.pop(row, None)
        self.dirty.update(erased)
        if how in (0, 1):
            self.buffer[cursor.y].pop(CONTINUED, None)
            self.erase_in_line(how)


def text_of(row: Any) -> str:
    """
    What stands in `row`, without blanks at its end, unless its line goes on.
    """
    last = max(row, default=-1)
    get = row.get
    text = "".join(get(column, _BLANK).data for column in range(last + 1))
    return text if CONTINUED in row else text.rstrip()
