r"""
Emulate the terminal of a full-screen program, and read its screen as text.

pyte does the drawing, behind a filter.  The filter removes what pyte would print or fail
on (private and coloured sequences, queries, device strings) and handles what pyte does
not (titles, the agent's own state, synchronized updates, the alternate screen, colours).

Every row has a number that never changes.  The first row drawn is 0, and a row keeps its
number when it scrolls up, so a row can be remembered and read later, or found to be
gone::

    >>> emulator = Emulator(rows=2, columns=20, history=100)
    >>> emulator.feed(b"one\r\ntwo\r\nthree", lambda complete: None)
    >>> emulator.text_from(emulator.first_row)
    'one\ntwo\nthree'

The cost of reading is linear in the bytes and does not grow with the screen's width:
only the cells that were drawn exist.
"""

from __future__ import annotations

import re
from codecs import getincrementaldecoder
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Any, TypeAlias

import pyte
from attrs import frozen

from kiroworkers.conversations.terminal.grid import (
    CONTINUED,
    UNCERTAIN,
    Grid,
    row_renditions,
    row_to_text,
)
from kiroworkers.conversations.terminal.queries import TerminalQueries
from kiroworkers.conversations.terminal.redrawing import draw_cells, place_cursor, set_modes

#: Control sequences, control strings, two-character escapes; C1 controls, which no
#: program sends as such today.
_SEQUENCE = re.compile(
    r"\x1b\[(?P<private>[<-?]?)(?P<parameters>[0-9;:]*)(?P<intermediate>[ -/]*)(?P<final>[@-~])"
    r"|\x1b\](?P<command>[^\x07\x1b]*)(?:\x07|\x1b\\)"
    r"|\x1b[PX^_][^\x07\x1b]*(?:\x07|\x1b\\)"
    r"|\x1b[ -/]+[0-~]"
    r"|\x1b(?P<escape>[0-OQ-WYZ\\`-~])"
    r"|[\x80-\x9f]"
)
#: A sequence that the end of a read may have cut, and whose rest may still come.
_INCOMPLETE = re.compile(r"\x1b(?:\[[<-?]?[0-9;:]*[ -/]*|[\]PX^_][^\x07\x1b]*\x1b?|[ -/]+)?\Z")
#: The maximum length of a sequence in characters; what is longer is not a sequence.
_MAX_SEQUENCE_LENGTH = 65536

_LINES = re.compile("[^\\n]*\\n|[^\\n]+")

#: What pyte understands: final characters of control sequences, and escapes.
_FINALS = frozenset("@ABCDEFGHJKLMPXadefg`r")
_ESCAPES = frozenset("78DHM")
#: Sequences that pyte does not understand, each with an equivalent that it does.
_EQUIVALENTS = {"\x1bE": "\r\n", "\x1b[s": "\x1b7", "\x1b[u": "\x1b8"}
#: The parameters of the erasing sequences; pyte fails on any other.
_ERASE_PARAMETERS = {"J": frozenset({"", "0", "1", "2", "3"}), "K": frozenset({"", "0", "1", "2"})}
_SCROLL_FINALS = frozenset("STLM")
#: The final characters of control sequences that may be queries, and the queries for colours.
_QUERY_FINALS = frozenset("ncpq")
_COLOUR_QUERIES = frozenset({"10;?", "11;?", "12;?"})
#: The final characters that take two parameters; the others take one.
_TWO_PARAMETER_FINALS = frozenset("Hfr")
#: The control characters that are not text and move nothing.
_CONTROLS = dict.fromkeys([*range(8), 14, 15, *range(16, 32), 127])
#: The private mode that changes where text goes: automatic wrap.
_PYTE_MODES = frozenset({"7"})
_ALTERNATE_SCREEN_MODES = frozenset({"47", "1047", "1049"})
_SYNCHRONIZED_UPDATE_MODE = "2026"
_CURSOR_MODE = "25"

#: The longest title that is drawn again, in characters.
_MAX_TITLE_LENGTH = 200

#: Called when the screen can be inspected, with whether it is completely drawn.
Inspect: TypeAlias = Callable[[bool], None]


@frozen
class _Row:
    """
    Hold a row that has scrolled off.

    Attributes:
        text: Its text.
        continued: Whether the next row continues its line.
        uncertain: Whether its text may be misplaced.
        renditions: Where renditions begin in it; see `row_renditions`.
    """

    text: str
    continued: bool
    uncertain: bool
    renditions: tuple[tuple[int, str], ...]


class Emulator:
    """
    Hold what a program has drawn on a terminal, and part of what has scrolled off it.

    Args:
        rows: The terminal's height.
        columns: The terminal's width.
        history: The maximum number of characters to keep of what has scrolled off.
        queries: Receives the program's queries, with the position of the cursor.

    Attributes:
        title: The window's title.
        state: What the agent last said about its state by ``OSC 7501``.
    """

    def __init__(
        self, rows: int, columns: int, history: int, queries: TerminalQueries | None = None
    ) -> None:
        self._queries = queries or TerminalQueries()
        self.title = ""
        self.state = ""
        self._history: deque[_Row] = deque()
        self._history_size = 0
        self._max_history_size = history
        self._top_row = 0
        self._grid = Grid(columns, rows, self._scrolled_off, self._renumber)
        self._stream = pyte.Stream(self._grid)
        # The cells and the cursor of the main screen while the alternate one is shown.
        self._main_screen: tuple[Any, Any] | None = None
        self._decode = getincrementaldecoder("utf-8")("replace").decode
        self._incomplete = ""
        self._undrawn: list[str] = []
        self._updating = False
        self._cursor_hidden = False

    @property
    def wrap_count(self) -> int:
        """
        Return how many times a line has been cut at the terminal's edge so far.
        """
        return self._grid.wrap_count

    @property
    def updating(self) -> bool:
        """
        Return whether a synchronized update is under way, so the screen is incomplete.
        """
        return self._updating

    @property
    def first_row(self) -> int:
        """
        Return the number of the first row that is still known.
        """
        return self._top_row - len(self._history)

    @property
    def top_row(self) -> int:
        """
        Return the number of the row at the top of the screen.
        """
        return self._top_row

    @property
    def cursor(self) -> tuple[int, int]:
        """
        Return the cursor's row and column on the screen, both from 0.
        """
        return self._grid.cursor.y, self._grid.cursor.x

    @property
    def cursor_row(self) -> int:
        """
        Return the number of the row that the cursor is on.
        """
        return self._top_row + self._grid.cursor.y

    def rows(self) -> list[str]:
        """
        Return the rows of the screen, without blanks at their ends.
        """
        return [self._grid.row_text(row) for row in range(self._grid.lines)]

    def text_before(self, row: int, column: int) -> str:
        """
        Return the text of `row`, counted from the top, up to `column`, blanks included.
        """
        return self._grid.text_before(row, column)

    def changed_rows(self) -> list[str]:
        """
        Return the rows of the screen that have changed since the last call, in any order.
        """
        return [self._grid.row_text(row) for row in self._grid.changed_rows()]

    def last_rows(self, count: int) -> list[str]:
        """
        Return the last `count` rows of the screen that are not blank, in order.
        """
        return [*islice(filter(None, self._grid.texts_upwards()), count)][::-1]

    def text_from(self, start: int) -> str:
        """
        Return the text from row number `start` to the bottom of the screen.

        Lines that were cut at the terminal's edge are joined again.
        """
        rows = self._rows_from(start)
        return "".join(row + ("" if continued else "\n") for row, continued, _ in rows).rstrip("\n")

    def restyled_from(self, start: int) -> list[int]:
        """
        Return the offsets in `text_from` at which the rendition changes.
        """
        history = islice(self._history, max(0, start - self.first_row), None)
        renditions = [row.renditions for row in history]
        renditions += map(
            self._grid.row_renditions, range(max(0, start - self._top_row), self._grid.lines)
        )
        offsets: list[int] = []
        offset, current = 0, ""
        for (text, continued, _), begins in zip(self._rows_from(start), renditions, strict=True):
            for place, rendition in begins:
                if rendition != current:
                    offsets.append(offset + place)
                    current = rendition
            offset += len(text) + (not continued)
        return offsets

    def uncertain_from(self, start: int) -> bool:
        """
        Return whether text from row number `start` on may be misplaced.
        """
        return any(uncertain for _, _, uncertain in self._rows_from(start))

    def rows_from(self, start: int) -> list[str]:
        """
        Return the rows from number `start`, or the first that is known, to the bottom.
        """
        return [row for row, _, _ in self._rows_from(start)]

    def _rows_from(self, start: int) -> list[tuple[str, bool, bool]]:
        kept = islice(self._history, max(0, start - self.first_row), None)
        history = ((row.text, row.continued, row.uncertain) for row in kept)
        buffer, empty = self._grid.buffer, dict[int, Any]()
        cells = [buffer.get(row, empty) for row in range(self._grid.lines)]
        marks = [(CONTINUED in row, UNCERTAIN in row) for row in cells]
        rows = zip(self.rows(), *zip(*marks, strict=True), strict=True)
        return [*history, *islice(rows, max(0, start - self._top_row), None)]

    def redraw(self) -> str:
        """
        Return output that draws the screen on another terminal of the same size.

        It begins with a reset of that terminal.  After it, the program's further output has the
        same effect on both, also if the program's last sequence is still incomplete.  What has
        scrolled off is left out.
        """
        grid = self._grid
        parts = ["\x1bc"]
        if self.title:
            parts.append(f"\x1b]2;{self.title[:_MAX_TITLE_LENGTH]}\x07")
        if self._main_screen is not None:
            buffer, cursor = self._main_screen
            parts.append(draw_cells(buffer, grid.columns))
            parts += (place_cursor(buffer, grid.columns, cursor), "\x1b[?1049h")
        parts.append(draw_cells(grid.buffer, grid.columns))
        parts += set_modes(grid)
        parts.append(place_cursor(grid.buffer, grid.columns, grid.cursor))
        if self._cursor_hidden:
            parts.append("\x1b[?25l")
        if self._updating:
            parts.append("\x1b[?2026h")
        return "".join((*parts, self._incomplete))

    def feed(self, data: bytes, inspect: Inspect) -> None:
        """
        Draw `data`, and call `inspect` at each moment when the screen can be inspected.

        The screen is completely drawn at the end of a synchronized update.  It may be
        half drawn at a new title or state, and, where the agent makes no such updates,
        at the end of each line and before anything is erased.

        Args:
            data: Output of the program, which may be cut at any byte.
            inspect: Called with whether the screen is completely drawn.
        """
        text = self._incomplete + self._decode(data)
        self._incomplete = ""
        incomplete = _INCOMPLETE.search(text, max(0, len(text) - _MAX_SEQUENCE_LENGTH))
        if incomplete is not None:
            text, self._incomplete = text[: incomplete.start()], text[incomplete.start() :]
        position = 0
        for match in _SEQUENCE.finditer(text):
            self._feed_text(text[position : match.start()], inspect)
            position = match.end()
            if match["final"] in _QUERY_FINALS or match["command"] in _COLOUR_QUERIES:
                self._draw()
                self._queries.asked(match[0], *self.cursor, self.cursor_row)
            elif match["final"] is not None:
                self._control_sequence(match, inspect)
            elif match["command"] is not None:
                self._system_command(match["command"], inspect)
            elif match["escape"] == "c":
                self._draw()
                self._renumber()
                self._grid.reset()
                self._cursor_hidden = False
            elif match[0] in _EQUIVALENTS or match["escape"] in _ESCAPES:
                self._queue(_EQUIVALENTS.get(match[0], match[0]))
        self._feed_text(text[position:], inspect)
        self._draw()

    def _draw(self) -> None:
        """
        Draw what was queued.
        """
        text = "".join(self._undrawn)
        self._undrawn.clear()
        if not text.isprintable():
            self._stream.feed(text)
        elif text:
            # There is nothing in it for pyte's parser.
            self._grid.draw(text)

    def _queue(self, text: str) -> None:
        self._undrawn.append(text)

    def _feed_text(self, text: str, inspect: Inspect) -> None:
        # This also removes an ESC that does not begin a sequence.
        text = text.translate(_CONTROLS)
        if self._updating:
            self._queue(text)
            return
        # Line by line, so that it does not matter where a read was cut.
        for line in _LINES.findall(text):
            self._queue(line)
            if line.endswith("\n"):
                self._draw()
                inspect(False)

    def _control_sequence(self, match: re.Match[str], inspect: Inspect) -> None:
        private, parameters, final = match["private"], match["parameters"], match["final"]
        if private == "?" and final in "hl":
            for mode in parameters.split(";"):
                self._set_mode(mode, final == "h", inspect)
        elif match[0] in _EQUIVALENTS:
            self._queue(_EQUIVALENTS[match[0]])
        elif final == "m":
            if not private and not match["intermediate"]:
                self._draw()
                self._grid.set_rendition(parameters)
        elif not private and final in _SCROLL_FINALS:
            # Rows are moved away without a call that reports them.
            self._draw()
            self._renumber()
            if final in _FINALS:
                self._queue(f"\x1b[{_limited(parameters, final)}{final}")
        elif parameters not in _ERASE_PARAMETERS.get(final, {parameters}):
            pass
        elif (
            not private and not match["intermediate"] and final in _FINALS and ":" not in parameters
        ):
            if final in "JK" and not self._updating:
                self._draw()
                inspect(False)
            self._queue(f"\x1b[{_limited(parameters, final)}{final}")

    def _set_mode(self, mode: str, on: bool, inspect: Inspect) -> None:
        if mode == _SYNCHRONIZED_UPDATE_MODE:
            self._draw()
            self._updating = on
            if not on:
                inspect(True)
        elif mode in _ALTERNATE_SCREEN_MODES:
            self._draw()
            self._switch_screen(on)
        elif mode == _CURSOR_MODE:
            self._cursor_hidden = not on
        elif mode in _PYTE_MODES:
            self._queue(f"\x1b[?{mode}{'h' if on else 'l'}")

    def _switch_screen(self, alternate: bool) -> None:
        grid = self._grid
        if alternate and self._main_screen is None:
            self._main_screen = (grid.buffer.copy(), grid.cursor)
            self._renumber()
            grid.reset()
        elif not alternate and self._main_screen is not None:
            self._renumber()
            grid.reset()
            buffer, grid.cursor = self._main_screen
            grid.buffer.update(buffer)
            self._main_screen = None
        grid.dirty.update(range(grid.lines))

    def _system_command(self, command: str, inspect: Inspect) -> None:
        code, _, text = command.partition(";")
        if code in ("0", "2"):
            self._draw()
            self.title = text
            inspect(False)
        elif code == "7501":
            self._draw()
            self.state = text
            inspect(False)

    def _scrolled_off(self, row: Any) -> None:
        """
        Keep `row`, which has scrolled off, unless it belongs to the alternate screen.
        """
        self._top_row += 1
        if self._main_screen is not None:
            return
        text = row_to_text(row)
        renditions = row_renditions(row, text)
        self._history.append(_Row(text, CONTINUED in row, UNCERTAIN in row, renditions))
        self._history_size += len(text) + 1
        while self._history_size > self._max_history_size:
            self._history_size -= len(self._history.popleft().text) + 1

    def _renumber(self) -> None:
        """
        Give all rows new numbers and forget the history, because the screen was erased.
        """
        self._top_row += self._grid.lines
        self._history.clear()
        self._history_size = 0


def _limited(parameters: str, final: str) -> str:
    """
    Return `parameters`, limited in number and size to what pyte can handle for `final`.
    """
    values = parameters.split(";")[: 2 if final in _TWO_PARAMETER_FINALS else 1]
    return ";".join(value if len(value) < 5 else "9999" for value in values)
