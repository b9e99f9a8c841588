"""
Keep the cells of a screen: their text, and where their rendition changes.

`Grid` is pyte's screen plus what a reader of the text needs to know: which rows were cut at
the terminal's edge, which have scrolled off, and when everything was erased.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import repeat
from operator import itemgetter
from typing import Any

import pyte
from attrs import frozen
from pyte import modes
from pyte.screens import Char
from wcwidth import iter_graphemes, wcswidth, wcwidth

from kiroworkers.conversations.terminal.rendition import PLAIN, next_rendition

#: A column that a row has if the next row continues its line, which was cut at the edge.
CONTINUED = -1

#: A column that a row has if text was drawn to the right of a cluster, and it is unknown how many
#: columns the program counts for that cluster.  The text may be on other columns.
UNCERTAIN = -2

#: A column with the first column at which there may be a cluster whose width is not known.
_FIRST_CLUSTER = -3

#: A column that a row has if some of it may have a rendition.
_RENDERED = -4


class _Cells(dict[str, Char]):
    """
    Cache one cell for each character, so that each is made only once.

    Args:
        rendition: The rendition of the cells, which they have as their foreground colour.
    """

    def __init__(self, rendition: str = PLAIN) -> None:
        super().__init__()
        self._rendition = rendition

    def __missing__(self, character: str) -> Char:
        cell = self[character] = Char(character, self._rendition)
        return cell


_CELLS = _Cells()
_BLANK = _CELLS[" "]
_SECOND_HALF = _CELLS[""]
_character = itemgetter(0)

#: The number of renditions of which the cells are cached.
_MAX_RENDITIONS = 64

#: The maximum number of characters in one cell; no script combines more.
_MAX_CELL_LENGTH = 64

#: Runs of characters that take one column each (ASCII, box drawing, blocks, Braille),
#: and the runs between them.
_RUNS = re.compile("[ -~\u2500-\u259f\u2800-\u28ff]+|[^ -~\u2500-\u259f\u2800-\u28ff]+")
_NARROW = re.compile("[ -~\u2500-\u259f\u2800-\u28ff]")


@lru_cache(maxsize=4096)
def _joins(cluster: str, character: str) -> bool:
    """
    Return whether `character` belongs to the same grapheme cluster as what is before it.
    """
    *_, last = iter_graphemes(cluster + character)
    return last != character


@lru_cache(maxsize=4096)
def _cluster_width(cluster: str) -> int:
    """
    Return the number of columns of `cluster` for a program that counts a cluster as one character.
    """
    return max(1, wcswidth(cluster))


@lru_cache(maxsize=4096)
def _sum_width(cluster: str) -> int:
    """
    Return the number of columns of `cluster` for a program that adds up its characters.
    """
    return max(1, sum(max(0, wcwidth(character)) for character in cluster))


def _is_ambiguous(cluster: str) -> bool:
    return _cluster_width(cluster) != _sum_width(cluster)


@frozen
class _Cluster:
    """
    Represent the cluster that was drawn last, if programs differ about its width.

    Attributes:
        row: The row on the screen.
        column: Its first column.
        text: Its characters.
    """

    row: int
    column: int
    text: str


class Grid(pyte.Screen):
    """
    Extend pyte's screen: keep which rows were cut at the edge, and report lost rows.

    A grapheme cluster, such as an emoji of several characters, is one cell.  Programs do not
    agree on its width: some count clusters, some add up the widths of its characters.  A
    program tells which by where it puts the cursor directly after a cluster; until then, it
    is taken to count clusters, and a row is `UNCERTAIN` if the cursor was moved behind one.

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
        # The text of rows, by a number that does not change when they scroll.
        self._texts: dict[int, str] = {}
        self._rows_scrolled = 0
        self._changed: set[int] = set()
        self.wrap_count = 0
        # Whether the program adds up the widths of a cluster's characters; None if unknown.
        self._adds_up: bool | None = None
        self._last_cluster: _Cluster | None = None
        self._uncertain_row: int | None = None
        self._cells = {PLAIN: _CELLS}
        super().__init__(columns, rows)

    def set_rendition(self, parameters: str) -> None:
        """
        Set the rendition of the characters that are drawn next.

        Args:
            parameters: The parameters of the sequence that sets it.
        """
        # It is part of the cursor, because it is saved and restored with the cursor.
        rendition = next_rendition(self.cursor.attrs.fg, parameters)
        if rendition not in self._cells:
            if len(self._cells) >= _MAX_RENDITIONS:
                self._cells = {PLAIN: _CELLS}
            self._cells[rendition] = _Cells(rendition)
        self.cursor.attrs = self._cells[rendition][" "]

    @property
    def _drawn(self) -> _Cells:
        """
        Return the cells for characters in the current rendition.
        """
        rendition = self.cursor.attrs.fg
        cells = self._cells.get(rendition)
        if cells is None:
            # The cursor was restored.
            cells = self._cells[rendition] = _Cells(rendition)
        return cells

    def draw(self, data: str) -> None:
        """
        Draw the characters of `data` from the cursor on.
        """
        # Not pyte's own: that takes 3 us for each character, composes accents,
        # and drops the rest of a text after a character of zero width.
        if self._uncertain_row == self.cursor.y:
            self.buffer[self.cursor.y][UNCERTAIN] = _SECOND_HALF
        self._uncertain_row = None
        for run in _RUNS.findall(data):
            if _NARROW.match(run):
                self._draw_narrow(run)
            else:
                for character in run:
                    self._draw_character(character)

    def _draw_narrow(self, data: str) -> None:
        self._last_cluster = None
        drawn = self._drawn
        while data:
            self._make_room(1)
            cursor = self.cursor
            part, data = data[: self.columns - cursor.x], data[self.columns - cursor.x :]
            if modes.IRM in self.mode:
                self.insert_characters(len(part))
            end = cursor.x + len(part)
            cells = map(drawn.__getitem__, part)
            line = self.buffer[cursor.y]
            self._split_wide(line, cursor.x, end)
            if drawn is not _CELLS:
                line[_RENDERED] = _SECOND_HALF
            line.update(zip(range(cursor.x, end), cells, strict=True))
            self.dirty.add(cursor.y)
            cursor.x = end

    def _draw_character(self, character: str) -> None:
        previous = self._previous_cell()
        width = wcwidth(character)
        if previous is not None and (width < 1 or _joins(previous[1].data, character)):
            self._combine(previous, character)
            return
        if width < 1:
            return
        self._last_cluster = None
        self._make_room(width)
        cursor = self.cursor
        if modes.IRM in self.mode:
            self.insert_characters(width)
        line = self.buffer[cursor.y]
        self._split_wide(line, cursor.x, cursor.x + width)
        drawn = self._drawn
        line[cursor.x] = drawn[character]
        if drawn is not _CELLS:
            line[_RENDERED] = _SECOND_HALF
        if width == 2:
            line[cursor.x + 1] = _SECOND_HALF
        self.dirty.add(cursor.y)
        cursor.x += width

    @staticmethod
    def _split_wide(line: Any, start: int, end: int) -> None:
        """
        Blank what is left of wide characters of which columns from `start` to `end` are lost.
        """
        if line.get(start) is _SECOND_HALF:
            column = start
            # The columns below 0 are marks, not cells.
            while column > 0 and line.get(column) is _SECOND_HALF:
                line[column] = _BLANK
                column -= 1
            line[column] = _BLANK
        column = end
        while line.get(column) is _SECOND_HALF:
            line[column] = _BLANK
            column += 1

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

    def _combine(self, previous: tuple[tuple[int, int], Char], character: str) -> None:
        """
        Add a character to the cell before the cursor, which may become wider or narrower.
        """
        (row, column), cell = previous
        if len(cell.data) >= _MAX_CELL_LENGTH:
            return
        text = cell.data + character
        self.buffer[row][column] = Char(text, cell.fg)
        self.dirty.add(row)
        if row == self.cursor.y:
            if _is_ambiguous(text):
                line: Any = self.buffer[row]
                line[_FIRST_CLUSTER] = min(column, line.get(_FIRST_CLUSTER, column))
                self._last_cluster = _Cluster(row, column, text)
            self.cursor.x = self._resize(row, column, self._width(text))

    def _width(self, cluster: str) -> int:
        return _sum_width(cluster) if self._adds_up else _cluster_width(cluster)

    def _resize(self, row: int, column: int, width: int) -> int:
        """
        Give the cell at `column` of `row` a new width, and return the column that follows it.
        """
        line = self.buffer[row]
        end = min(column + width, self.columns)
        for covered in range(column + 1, end):
            line[covered] = _SECOND_HALF
        left = end
        while line.get(left) is _SECOND_HALF:
            del line[left]
            left += 1
        return end

    def _after_move(self) -> None:
        """
        Find out how the program counts clusters from the position to which it moved the cursor.

        If that stays unknown, text that the program draws to the right of one may be misplaced.
        """
        row, column = self.cursor.y, self.cursor.x
        cluster, self._last_cluster = self._last_cluster, None
        if cluster is not None and cluster.row == row:
            width = column - cluster.column
            if width in (_cluster_width(cluster.text), _sum_width(cluster.text)):
                self._adds_up = width == _sum_width(cluster.text)
                self._resize(row, cluster.column, width)
        known = self._adds_up is not None
        self._uncertain_row = None if known or not self._ambiguous_before(row, column) else row

    def _ambiguous_before(self, row: int, column: int) -> bool:
        """
        Return whether `row` has a cluster before `column` that programs count differently.
        """
        line: Any = self.buffer.get(row, {})
        first = line.get(_FIRST_CLUSTER)
        if first is not None and first < column and not _has_cluster(line, first):
            # It was drawn over.
            clusters = (at for at in line if at > first and _has_cluster(line, at))
            first = line[_FIRST_CLUSTER] = min(clusters, default=self.columns)
        return first is not None and first < column

    def cursor_position(self, line: int | None = None, column: int | None = None) -> None:
        """
        Move the cursor to `line` and `column`, both from 1.
        """
        super().cursor_position(line, column)
        self._after_move()

    def cursor_to_column(self, column: int | None = None) -> None:
        """
        Move the cursor to `column`, from 1.
        """
        super().cursor_to_column(column)
        self._after_move()

    def cursor_forward(self, count: int | None = None) -> None:
        """
        Move the cursor `count` columns to the right.
        """
        super().cursor_forward(count)
        self._after_move()

    def cursor_back(self, count: int | None = None) -> None:
        """
        Move the cursor `count` columns to the left.
        """
        row, column = self.cursor.y, self.cursor.x
        super().cursor_back(count)
        self._after_move()
        if self._adds_up is None and self.cursor.x and self._ambiguous_before(row, column):
            # The program counted back over a cluster.
            self._uncertain_row = row

    def cursor_up(self, count: int | None = None) -> None:
        """
        Move the cursor `count` rows up.
        """
        super().cursor_up(count)
        self._after_move()

    def cursor_down(self, count: int | None = None) -> None:
        """
        Move the cursor `count` rows down.
        """
        super().cursor_down(count)
        self._after_move()

    def _previous_cell(self) -> tuple[tuple[int, int], Char] | None:
        """
        Return the row, column and cell of the character before the cursor, or None.
        """
        row, column = self.cursor.y, self.cursor.x - 1
        if column < 0 and row and CONTINUED in self.buffer[row - 1]:
            row, column = row - 1, max(self.buffer[row - 1])
        while self.buffer[row].get(column, _BLANK) is _SECOND_HALF:
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
            self._take_in_changes()
            self._on_scrolled_off(self.buffer.pop(0, {}))
            moved = {row - (row <= bottom): cells for row, cells in self.buffer.items()}
            self.buffer.clear()
            self.buffer.update(moved)
            self._texts.pop(self._rows_scrolled, None)
            self._changed.discard(self._rows_scrolled)
            self._rows_scrolled += 1
            if bottom < self.lines - 1:
                # The rows below the margin did not move.
                self.dirty.update(range(bottom, self.lines))
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
        self._take_in_changes()
        return self._text(row)

    def row_renditions(self, row: int) -> tuple[tuple[int, str], ...]:
        """
        Return where renditions begin in `row`, counted from the top; see `row_renditions`.
        """
        return row_renditions(self.buffer[row], self.row_text(row)) if row in self.buffer else ()

    def texts_upwards(self) -> Iterator[str]:
        """
        Yield the texts of the rows that are drawn, from the bottom up.
        """
        self._take_in_changes()
        for row in sorted(self.buffer, reverse=True):
            if self.buffer[row]:
                yield self._text(row)

    def _text(self, row: int) -> str:
        number = row + self._rows_scrolled
        text = self._texts.get(number)
        if text is None:
            text = row_to_text(self.buffer[row]) if row in self.buffer else ""
            self._texts[number] = text
        return text

    def changed_rows(self) -> list[int]:
        """
        Return the rows on the screen that have changed since the last call.
        """
        self._take_in_changes()
        rows = [number - self._rows_scrolled for number in self._changed]
        self._changed.clear()
        return [row for row in rows if 0 <= row < self.lines]

    def _take_in_changes(self) -> None:
        for row in self.dirty:
            number = row + self._rows_scrolled
            self._texts.pop(number, None)
            self._changed.add(number)
        self.dirty.clear()

    def text_before(self, row: int, column: int) -> str:
        """
        Return the text of `row`, counted from the top, up to `column`, blanks included.
        """
        get = self.buffer[row].get
        return "".join(get(at, _BLANK).data for at in range(column))

    def delete_characters(self, count: int | None = None) -> None:
        """
        Delete characters from the cursor on, and move up those behind them.
        """
        cursor = self.cursor
        line: Any = self.buffer[cursor.y]
        self._split_wide(line, cursor.x, cursor.x + (count or 1))
        super().delete_characters(count)
        if _FIRST_CLUSTER in line:
            line[_FIRST_CLUSTER] = 0

    def insert_characters(self, count: int | None = None) -> None:
        """
        Insert blanks at the cursor, and move what is there to the right.
        """
        cursor = self.cursor
        line = self.buffer[cursor.y]
        self._split_wide(line, cursor.x, cursor.x)
        self._split_wide(line, max(cursor.x, self.columns - (count or 1)), self.columns)
        super().insert_characters(count)
        # pyte moves one character to a column that the screen does not have.
        line.pop(self.columns, None)

    def erase_characters(self, count: int | None = None) -> None:
        """
        Erase characters from the cursor on, and leave those behind them where they are.
        """
        cursor = self.cursor
        self._split_wide(self.buffer[cursor.y], cursor.x, cursor.x + (count or 1))
        super().erase_characters(count)

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
        if how == 2 or (how == 0 and cursor.x == 0):
            line.pop(UNCERTAIN, None)
        start = cursor.x if how == 0 else 0
        end = cursor.x + 1 if how == 1 else self.columns
        self._split_wide(line, start, end)
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


def _has_cluster(line: Any, column: int) -> bool:
    """
    Return whether `line` has a cluster at `column` that programs count differently.
    """
    text = line.get(column, _BLANK).data if column >= 0 else ""
    return len(text) > 1 and _is_ambiguous(text)


def row_to_text(row: Any) -> str:
    """
    Return the text of a row's cells.

    Blanks at its end are left out, unless the next row continues the line.
    """
    last = max(row, default=-1)
    text = "".join(map(_character, map(row.get, range(last + 1), repeat(_BLANK))))
    return text if CONTINUED in row else text.rstrip()


def row_renditions(row: Any, text: str) -> tuple[tuple[int, str], ...]:
    """
    Return the offsets in a row's text at which a rendition begins, each with the rendition.

    Blanks without a rendition, and those that indent the row, have that of what is before them.

    Args:
        row: The row's cells.
        text: The row's text.
    """
    if _RENDERED not in row:
        return ((len(text) - len(text.lstrip(" ")), PLAIN),) if text else ()
    renditions: list[tuple[int, str]] = []
    offset, current = 0, ""
    for cell in map(row.get, range(max(row) + 1), repeat(_BLANK)):
        shown = cell is not _BLANK and cell is not _SECOND_HALF and (current or cell.data != " ")
        if shown and cell.fg != current:
            current = cell.fg
            renditions.append((offset, current))
        offset += len(cell.data)
    return tuple(renditions)
