"""
The screen of a program that draws on all of it, as text.

pyte does the drawing, behind a filter: it takes out what pyte would print or
trip over (private and coloured sequences, queries, device strings) and keeps
what pyte does not (titles, the agent's own state, synchronized updates, the
alternate screen).  Colours are not kept at all.

Rows have numbers that never change: the first row drawn is 0, and a row keeps
its number when it scrolls up, so a row can be remembered and read later, or
found to be gone::

    >>> emulator = Emulator(rows=2, columns=20, history=100)
    >>> emulator.feed(b"one\\r\\ntwo\\r\\nthree", lambda whole: None)
    >>> emulator.text(emulator.first)
    'one\\ntwo\\nthree'

The cost of reading is linear in the bytes and does not grow with the screen's
width: only the cells that were drawn exist.
"""

from __future__ import annotations

import re
from codecs import getincrementaldecoder
from collections import deque
from collections.abc import Callable
from typing import Any, TypeAlias

import pyte
from pyte import modes
from pyte.screens import Char
from wcwidth import wcwidth

#: Control sequences, control strings, two-character escapes; C1 controls, which
#: no program of today sends as such.
_SEQUENCE = re.compile(
    r"\x1b\[(?P<private>[<-?]?)(?P<parameters>[0-9;:]*)(?P<between>[ -/]*)(?P<final>[@-~])"
    r"|\x1b\](?P<operating>[^\x07\x1b]*)(?:\x07|\x1b\\)"
    r"|\x1b[PX^_][^\x1b]*\x1b\\"
    r"|\x1b[ -/]+[0-~]"
    r"|\x1b(?P<escape>[0-OQ-WYZ\\`-~])"
    r"|[\x80-\x9f]"
)
#: A sequence that the end of a read may have cut, whose rest may still come.
_CUT = re.compile(r"\x1b(?:\[[<-?]?[0-9;:]*[ -/]*|[\]PX^_][^\x07\x1b]*\x1b?|[ -/]+)?\Z")
#: A longer one is no sequence.
_LONGEST_SEQUENCE = 65536

_LINES = re.compile("[^\\n]*\\n|[^\\n]+")

#: What pyte understands: finals of control sequences, and escapes.
_FINALS = frozenset("@ABCDEFGHJKLMPXadefg`r")
_ESCAPES = frozenset("78DEHM")
#: The private modes that change where text goes: origin and automatic wrap.
_MODES = frozenset({"6", "7"})
_ALTERNATE = frozenset({"47", "1047", "1049"})
_SYNCHRONIZED = "2026"

Look: TypeAlias = Callable[[bool], None]

#: A synchronized update that is longer is drawn before it ends.
_LONGEST_UPDATE = 4 * 1024**2

#: In a row: the next one continues it, since the terminal's edge was reached.
_CONTINUED = -1


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

#: What belongs to the character before it: a joiner with all that follows, the
#: choice of the wide form, the colours of a skin.
_JOINER = "\u200d"
_EMOJI = "\ufe0f"
_MODIFIERS = frozenset(map(chr, range(0x1F3FB, 0x1F400)))


#: Runs of characters that take one column each (ASCII, lines, blocks, Braille),
#: and whatever is between them.
_RUNS = re.compile("[ -~\u2500-\u259f\u2800-\u28ff]+|[^ -~\u2500-\u259f\u2800-\u28ff]+")
_NARROW = re.compile("[ -~\u2500-\u259f\u2800-\u28ff]")


class _Grid(pyte.Screen):
    """
    pyte's screen, which also knows which rows the terminal's edge has cut, and
    tells of rows that leave it.

    @param gone: called with each row that scrolls off the top.
    @param erased: called when the whole screen is erased.
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
            self.buffer[cursor.y].update(zip(range(cursor.x, end), cells, strict=True))
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
        line[cursor.x] = _CELLS[character]
        if width == 2:
            line[cursor.x + 1] = _SECOND_HALF
        self.dirty.add(cursor.y)
        cursor.x += width

    def _make_room(self, width: int) -> None:
        """
        Wrap, if the terminal does, where less than `width` is left of the row.
        """
        cursor = self.cursor
        if cursor.x + width <= self.columns:
            self.buffer[cursor.y].pop(_CONTINUED, None)
        elif modes.DECAWM in self.mode:
            self.wrapped += 1
            line = self.buffer[cursor.y]
            line[_CONTINUED] = _SECOND_HALF
            # A wide character left the last column unused.
            for column in range(cursor.x, self.columns):
                line.pop(column, None)
            self.carriage_return()
            self.linefeed()
            self.buffer[self.cursor.y].pop(_CONTINUED, None)
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
        if column < 0 and row and _CONTINUED in self.buffer[row - 1]:
            row, column = row - 1, max(self.buffer[row - 1])
        if self.buffer[row].get(column, _BLANK) is _SECOND_HALF:
            column -= 1
        if column < 0:
            return None
        return (row, column), self.buffer[row].get(column, _BLANK)

    def index(self) -> None:
        last = self.lines - 1
        if self.cursor.y == last and self.margins in (None, (0, last)):
            self._gone(self.buffer.pop(0, {}))
            for row in sorted(self.buffer):
                self.buffer[row - 1] = self.buffer.pop(row)
            self._texts = {row - 1: text for row, text in self._texts.items() if row}
            self.dirty = {row - 1 for row in self.dirty if row}
        else:
            super().index()

    def text_of(self, row: int) -> str:
        """
        What stands in `row`, without blanks at its end.
        """
        if self.dirty:
            for each in self.dirty:
                self._texts.pop(each, None)
            self.dirty.clear()
        if row not in self._texts:
            self._texts[row] = _text_of(self.buffer[row]) if row in self.buffer else ""
        return self._texts[row]

    def erase_in_line(self, how: int = 0, private: bool = False) -> None:
        if how in (0, 2):
            self.buffer[self.cursor.y].pop(_CONTINUED, None)
        super().erase_in_line(how, private)

    def erase_in_display(self, how: int = 0, *args: Any, **kwargs: Any) -> None:
        cursor = self.cursor
        if how in (2, 3) or (how == 0 and (cursor.y, cursor.x) == (0, 0)):
            self._erased()
        for row in range(self.lines) if how else range(cursor.y, self.lines):
            self.buffer[row].pop(_CONTINUED, None)
        super().erase_in_display(how, *args, **kwargs)


class Emulator:
    """
    What a program drew on a terminal of this size, and at most `history`
    characters of what scrolled off it.

    @ivar title: the window's title.
    @ivar state: what the agent last said of itself by ``OSC 7501``.
    """

    def __init__(self, rows: int, columns: int, history: int) -> None:
        self.title = ""
        self.state = ""
        self._history: deque[tuple[str, bool]] = deque()
        self._history_size = 0
        self._most_history = history
        self._top = 0
        self._grid = _Grid(columns, rows, self._keep, self._forget)
        self._stream = pyte.Stream(self._grid)
        self._main: tuple[Any, Any] | None = None
        self._decode = getincrementaldecoder("utf-8")("replace").decode
        self._pending = ""
        self._undrawn: list[str] = []
        self._undrawn_size = 0
        self._updating = False

    @property
    def wrapped(self) -> int:
        """
        How many times the terminal's edge has cut a line so far.
        """
        return self._grid.wrapped

    @property
    def updating(self) -> bool:
        """
        Is a synchronized update under way, so that the screen is not whole?
        """
        return self._updating

    @property
    def first(self) -> int:
        """
        The number of the first row that is still known.
        """
        return self._top - len(self._history)

    @property
    def top(self) -> int:
        """
        The number of the screen's first row.
        """
        return self._top

    def rows(self) -> list[str]:
        """
        The screen, row by row, without blanks at the ends of lines.
        """
        return [self._grid.text_of(row) for row in range(self._grid.lines)]

    def last_rows(self, count: int) -> list[str]:
        """
        The last `count` rows of the screen that are not blank, from top to bottom.
        """
        found: list[str] = []
        for row in range(self._grid.lines - 1, -1, -1):
            text = self._grid.text_of(row)
            if text:
                found.append(text)
                if len(found) == count:
                    break
        return found[::-1]

    def text(self, start: int) -> str:
        """
        The text from row `start` to the bottom; lines that the terminal's edge
        has cut are whole.
        """
        cut = [
            (row in self._grid.buffer and _CONTINUED in self._grid.buffer[row])
            for row in range(self._grid.lines)
        ]
        rows = [*self._history, *zip(self.rows(), cut, strict=True)][max(0, start - self.first) :]
        return "".join(row + ("" if continued else "\n") for row, continued in rows).rstrip("\n")

    def feed(self, data: bytes, look: Look) -> None:
        """
        Draw `data`, which may be cut anywhere, and call `look` at each moment
        at which the screen can be looked at, with whether it is whole: at the
        end of a synchronized update it is; at a new title or state, and, where
        an agent makes no such updates, before anything is erased and at the end
        of a line, it may be half drawn.
        """
        text = self._pending + self._decode(data)
        self._pending = ""
        cut = _CUT.search(text, max(0, len(text) - _LONGEST_SEQUENCE))
        if cut is not None:
            text, self._pending = text[: cut.start()], text[cut.start() :]
        position = 0
        for found in _SEQUENCE.finditer(text):
            self._plain(text[position : found.start()], look)
            position = found.end()
            if found["final"] is not None:
                self._control(found, look)
            elif found["operating"] is not None:
                self._operate(found["operating"], look)
            elif found["escape"] == "c":
                self._draw()
                self._forget()
                self._grid.reset()
            elif found["escape"] in _ESCAPES:
                self._later(found[0])
        self._plain(text[position:], look)
        if not self._updating:
            self._draw()

    def _draw(self) -> None:
        """
        Draw what waits, perhaps for the end of a synchronized update.
        """
        text = "".join(self._undrawn)
        self._undrawn.clear()
        self._undrawn_size = 0
        if text:
            self._stream.feed(text)

    def _later(self, text: str) -> None:
        self._undrawn.append(text)
        self._undrawn_size += len(text)
        if self._undrawn_size > _LONGEST_UPDATE:
            self._draw()

    def _plain(self, text: str, look: Look) -> None:
        # An escape that begins no sequence is none.
        text = text.replace("\x1b", "")
        if self._updating:
            self._later(text)
            return
        # Line by line, so that it does not matter where a read was cut.
        for line in _LINES.findall(text):
            self._later(line)
            if line.endswith("\n"):
                self._draw()
                look(False)

    def _control(self, found: re.Match[str], look: Look) -> None:
        private, parameters, final = found["private"], found["parameters"], found["final"]
        if private == "?" and final in "hl":
            for mode in parameters.split(";"):
                self._mode(mode, final == "h", look)
        elif not private and not found["between"] and final in _FINALS and ":" not in parameters:
            if final in "JK" and not self._updating:
                self._draw()
                look(False)
            self._later(found[0])

    def _mode(self, mode: str, on: bool, look: Look) -> None:
        if mode == _SYNCHRONIZED:
            self._draw()
            self._updating = on
            if not on:
                look(True)
        elif mode in _ALTERNATE:
            self._draw()
            self._alternate(on)
        elif mode in _MODES:
            self._later(f"\x1b[?{mode}{'h' if on else 'l'}")

    def _alternate(self, on: bool) -> None:
        grid = self._grid
        if on and self._main is None:
            self._main = (grid.buffer.copy(), grid.cursor)
            self._forget()
            grid.reset()
        elif not on and self._main is not None:
            self._forget()
            grid.reset()
            buffer, grid.cursor = self._main
            grid.buffer.update(buffer)
            self._main = None
        grid.dirty.update(range(grid.lines))

    def _operate(self, command: str, look: Look) -> None:
        code, _, text = command.partition(";")
        if code in ("0", "2"):
            self._draw()
            self.title = text
            look(False)
        elif code == "7501":
            self._draw()
            self.state = text
            look(False)

    def _keep(self, row: Any) -> None:
        """
        `row` scrolls off: kept, but for the alternate screen, where nothing is.
        """
        self._top += 1
        if self._main is not None:
            return
        text = _text_of(row)
        self._history.append((text, _CONTINUED in row))
        self._history_size += len(text) + 1
        while self._history_size > self._most_history:
            self._history_size -= len(self._history.popleft()[0]) + 1

    def _forget(self) -> None:
        """
        All is erased: whatever is drawn now has new numbers.
        """
        self._top += self._grid.lines
        self._history.clear()
        self._history_size = 0


def _text_of(row: Any) -> str:
    """
    What stands in `row`, without blanks at its end, unless its line goes on.
    """
    last = max(row, default=-1)
    get = row.get
    text = "".join(get(column, _BLANK).data for column in range(last + 1))
    return text if _CONTINUED in row else text.rstrip()
