"""
Draw the cells of a screen again, on another terminal of the same size.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from pyte import modes
from pyte.screens import Char

from kiroworkers.conversations.terminal.grid import Grid
from kiroworkers.conversations.terminal.rendition import PLAIN

_BLANK = Char(" ", PLAIN)

#: Characters that take one column on each terminal: ASCII, box drawing, blocks and Braille.
_NARROW = frozenset(map(chr, (*range(0x20, 0x7F), *range(0x2500, 0x25A0), *range(0x2800, 0x2900))))


def move_to(row: int, column: int) -> str:
    """
    Return the sequence that moves the cursor to `row` and `column`, both from 0.
    """
    return f"\x1b[{row + 1};{column + 1}H"


@lru_cache(maxsize=1024)
def select_rendition(rendition: str) -> str:
    """
    Return the sequences that select `rendition`, whatever was selected before.
    """
    if rendition == PLAIN:
        return "\x1b[m"
    attributes, foreground, background = rendition.split("/")
    sequences = [f"\x1b[{';'.join(('0', *attributes))}m"]
    for code, colour in (("38", foreground), ("48", background)):
        if "," in colour:
            sequences.append(f"\x1b[{code};{colour.replace(',', ';')}m")
        elif ":" in colour:
            sequences.append(f"\x1b[{code}:{colour}m")
        elif colour:
            sequences.append(f"\x1b[{colour}m")
    return "".join(sequences)


def draw_cells(buffer: Any, columns: int) -> str:
    """
    Return output that draws the cells of `buffer` on a blank screen of `columns` columns.

    Terminals differ about the width of some characters, so the cursor is placed again after each
    character that may be one of them.

    Args:
        buffer: The cells by row and column.
        columns: The screen's width.
    """
    parts: list[str] = []
    add = parts.append
    rendition = PLAIN
    for row in sorted(buffer):
        line = buffer[row]
        drawn = sorted(line)
        next_column = -1
        # The columns below 0 are marks, not cells.
        for column in drawn[bisect_left(drawn, 0) : bisect_left(drawn, columns)]:
            cell = line[column]
            # By index, which takes half the time that a name takes.
            character, style = cell[0], cell[1]
            if not character:
                continue  # The second half of a wide character.
            if column != next_column:
                add(move_to(row, column))
            if style != rendition:
                rendition = style
                add(select_rendition(rendition))
            add(character)
            next_column = column + 1 if character in _NARROW else -1
            if len(character) > 1:
                # From where the cursor goes next, a terminal may learn how wide such a cluster is.
                end = column + 1
                while end < columns and line.get(end, _BLANK).data == "":
                    end += 1
                if end < columns:
                    add(move_to(row, end))
                    next_column = end
    if rendition != PLAIN:
        add(select_rendition(PLAIN))
    return "".join(parts)


def place_cursor(buffer: Any, columns: int, cursor: Any) -> str:
    """
    Return output that puts the cursor where `cursor` is, and selects its rendition.

    Args:
        buffer: The cells on the screen, by row and column.
        columns: The screen's width.
        cursor: pyte's cursor.
    """
    pen = select_rendition(cursor.attrs.fg)
    if cursor.x < columns:
        return move_to(cursor.y, cursor.x) + pen
    # It waits at the edge, which it only does after a character in the last column.
    line = buffer.get(cursor.y, {})
    column = columns - 1
    while column > 0 and line.get(column, _BLANK).data == "":
        column -= 1
    cell = line.get(column, _BLANK)
    return f"{move_to(cursor.y, column)}{select_rendition(cell.fg)}{cell.data or ' '}{pen}"


def set_modes(grid: Grid) -> Iterator[str]:
    """
    Yield the sequences that set what decides about later output, except the cursor.
    """
    if grid.savepoints:
        saved = grid.savepoints[-1].cursor
        yield place_cursor(grid.buffer, grid.columns, saved) + "\x1b7"
    if grid.margins is not None:
        yield f"\x1b[{grid.margins.top + 1};{grid.margins.bottom + 1}r"
    if modes.DECAWM not in grid.mode:
        yield "\x1b[?7l"
