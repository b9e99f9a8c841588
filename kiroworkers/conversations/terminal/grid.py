"""
Keep the cells of a screen as text without colours.

`Grid` is pyte's screen plus what a reader of the text needs to know: which rows were cut at
the terminal's edge, which have scrolled off, and when everything was erased.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pyte
from pyte import modes
from pyte.screens import Char
from wcwidth import wcwidth

#: A column that a row has if the next row continues its line, which was cut at the edge.
CONTINUED = -1


class _Cells(dict[str, Char]):
    """
    Cache one cell for each character, so that each is made only once.
    """

    def __missing__(self, character: str) -> Char:
        cell = self[character] = Char(character)
        return cell


_CELLS = _Cells()
_BLANK = _CELLS[" "]
_SECOND_HALF = _CELLS[""]

#: The maximum number of characters in one cell; no script combines more.
_MAX_CELL_LENGTH = 64

#: Characters that belong to the one before them: a joiner with the character after it,
#: the selector of an emoji's wide form, and skin tones.
_ZERO_WIDTH_JOINER = "\u200d"
_EMOJI_SELECTOR = "\ufe0f"
_SKIN_TONES = frozenset(map(chr, range(0x1F3FB, 0x1F400)))


#: Runs of characters that take one column each (ASCII, box drawing, blocks, Braille),
#: and the runs between them.
_RUNS = re.compile("[ -~\u2500-\u259f\u2800-\u28ff]+|[^ -~\u2500-\u259f\u2800-\u28ff]+")
_NARROW = re.compile("[ -~\u2500-\u259f\u2800-\u28ff]")


class Grid(pyte.Screen):
    """
    Extend pyte's screen: keep which rows were cut at the edge, and report lost rows.

    Args:
        columns: The screen's width.
        rows: The screen's height.
        on_scrolled_off: Called with each row that scrolls off the top.
        on_erased: Called when the whole screen is erased, or when rows are lost in
            another way, so that no row is known to be where it was.

    Attributes:
        wrap_count: How many times a line has been cut at the terminal's edge so far.
    """

    def __init__(
        self,
        columns: int,
        rows: int,
        on_scrolled_off: Callable[[Any], None],
        on_erased: Callable[[], None],
    ) -> None:
        self._on_scrolled_off = on_scrolled_off
        self._on_erased = on_erased
        self._texts: dict[int, str] = {}
        self.wrap_count = 0
        super().__init__(columns, rows)

    def draw(self, data: str) -> None:
        """
        Draw the characters of `data` from the cursor on.
        """
        # Not pyte's own: that takes 3 us for each character, composes accents,
        # and drops the rest of a text after a character of zero width.
        for run in _RUNS.findall(data):
            if _NARROW.match(run):
                self._draw_narrow(run)
            else:
                for character in run:
                    self._draw_character(character)

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

    def _draw_character(self, character: str) -> None:
        width = wcwidth(character)
        if width < 1 or character in _SKIN_TONES:
            self._combine(character)
            return
        previous = self._previous_cell()
        if previous is not None and previous[1].data.endswith(_ZERO_WIDTH_JOINER):
            self._combine(character)
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
        Blank the leftover halves of wide characters that are drawn over from `start` to `end`.
        """
        if line.get(start) is _SECOND_HALF:
            line[start - 1] = _BLANK
        if line.get(end) is _SECOND_HALF:
            line[end] = _BLANK

    def _make_room(self, width: int) -> None:
        """
        Move to the next row if fewer than `width` columns are left in this one.

        With automatic wrap turned off, go back to the last columns of the row instead.
        """
        cursor = self.cursor
        if cursor.x + width <= self.columns:
            self.buffer[cursor.y].pop(CONTINUED, None)
        elif modes.DECAWM in self.mode:
            self.wrap_count += 1
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

    def _combine(self, character: str) -> None:
        """
        Add a zero-width character to the cell before the cursor.
        """
        previous = self._previous_cell()
        if previous is None:
            return
        (row, column), cell = previous
        if len(cell.data) >= _MAX_CELL_LENGTH:
            return
        self.buffer[row][column] = Char(cell.data + character)
        self.dirty.add(row)
        if character == _EMOJI_SELECTOR and (row, column + 1) == (self.cursor.y, self.cursor.x):
            # The character before takes two columns in this form.
            if column + 1 < self.columns:
                self.buffer[row][column + 1] = _SECOND_HALF
            self.cursor.x = min(column + 2, self.columns)

    def _previous_cell(self) -> tuple[tuple[int, int], Char] | None:
        """
        Return the row, column and cell of the character before the cursor, or None.
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
        """
        Move the cursor down a row; at the bottom, scroll.
        """
        top, bottom = self.margins or (0, self.lines - 1)
        if self.cursor.y == bottom and top == 0:
            # As on a terminal with scrollback, even if there are rows below the margin.
            self._on_scrolled_off(self.buffer.pop(0, {}))
            moved = {row - (row <= bottom): cells for row, cells in self.buffer.items()}
            self.buffer.clear()
            self.buffer.update(moved)
            self._texts = {row - (row <= bottom): text for row, text in self._texts.items() if row}
            self.dirty = {row - (row <= bottom) for row in self.dirty if row}
        else:
            if self.cursor.y == bottom:
                self._on_erased()
            super().index()

    def reverse_index(self) -> None:
        """
        Move the cursor up a row; at the top, scroll down.
        """
        top, bottom = self.margins or (0, self.lines - 1)
        # A blank row is inserted at the top, and the one at the bottom is pushed out.
        if self.cursor.y == top and (top == 0 or self.row_text(bottom)):
            self._on_erased()
        super().reverse_index()

    def save_cursor(self) -> None:
        """
        Save the cursor, replacing the one that was saved before.
        """
        self.savepoints.clear()
        super().save_cursor()

    def restore_cursor(self) -> None:
        """
        Restore the saved cursor, and keep it saved.
        """
        saved = list(self.savepoints)
        super().restore_cursor()
        self.savepoints[:] = saved

    def row_text(self, row: int) -> str:
        """
        Return the text of `row`, counted from the top, without blanks at its end.
        """
        if self.dirty:
            for dirty_row in self.dirty:
                self._texts.pop(dirty_row, None)
            self.dirty.clear()
        if row not in self._texts:
            self._texts[row] = row_to_text(self.buffer[row]) if row in self.buffer else ""
        return self._texts[row]

    def drawn_rows(self) -> list[int]:
        """
        Return the rows that may have text, from the top; all others are blank.
        """
        return sorted(self.buffer)

    def delete_lines(self, count: int | None = None) -> None:
        """
        Delete rows from the cursor's row on, and move up those below, including blank ones.
        """
        # pyte moves only rows that exist, and would not overwrite one with a blank row.
        for row in range(self.cursor.y, self.lines):
            self.buffer[row]
        super().delete_lines(count)

    def erase_in_line(self, how: int = 0, private: bool = False) -> None:
        """
        Erase the cursor's line: from the cursor on (0), up to it (1), or all of it (2).
        """
        # Not pyte's own: that fills what it erases with blanks, which makes each reading
        # of the row cost as much as the screen is wide.
        cursor = self.cursor
        line = self.buffer[cursor.y]
        if how in (0, 2):
            line.pop(CONTINUED, None)
        start = cursor.x if how == 0 else 0
        end = cursor.x + 1 if how == 1 else self.columns
        for column in [column for column in line if start <= column < end]:
            del line[column]
        self.dirty.add(cursor.y)

    def erase_in_display(self, how: int = 0, *args: Any, **kwargs: Any) -> None:
        """
        Erase the screen: from the cursor on (0), up to it (1), or all of it (2 and 3).
        """
        cursor = self.cursor
        if how in (2, 3) or (how == 0 and (cursor.y, cursor.x) == (0, 0)):
            self._on_erased()
        start = cursor.y + 1 if how == 0 else 0
        erased = range(start, cursor.y if how == 1 else self.lines)
        for row in erased:
            self.buffer.pop(row, None)
        self.dirty.update(erased)
        if how in (0, 1):
            self.buffer[cursor.y].pop(CONTINUED, None)
            self.erase_in_line(how)


def row_to_text(row: Any) -> str:
    """
    Return the text of a row's cells.

    Blanks at its end are left out, unless the next row continues the line.
    """
    last = max(row, default=-1)
    get = row.get
    text = "".join(get(column, _BLANK).data for column in range(last + 1))
    return text if CONTINUED in row else text.rstrip()
