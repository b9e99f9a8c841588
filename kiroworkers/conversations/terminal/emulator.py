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

from kiroworkers.conversations.terminal.grid import CONTINUED, Grid, text_of

#: Control sequences, control strings, two-character escapes; C1 controls, which
#: no program of today sends as such.
_SEQUENCE = re.compile(
    r"\x1b\[(?P<private>[<-?]?)(?P<parameters>[0-9;:]*)(?P<between>[ -/]*)(?P<final>[@-~])"
    r"|\x1b\](?P<operating>[^\x07\x1b]*)(?:\x07|\x1b\\)"
    r"|\x1b[PX^_][^\x07\x1b]*(?:\x07|\x1b\\)"
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
_ESCAPES = frozenset("78DHM")
#: The same as another that pyte understands.
_SAME = {"\x1bE": "\r\n", "\x1b[s": "\x1b7", "\x1b[u": "\x1b8"}
#: The parameters of erasing; pyte trips over any other.
_ERASING = {"J": frozenset({"", "0", "1", "2", "3"}), "K": frozenset({"", "0", "1", "2"})}
_SCROLLS = frozenset("STLM")
#: The finals that take two parameters; the others take one.
_OF_TWO = frozenset("Hfr")
#: What is no text, and moves nothing.
_CONTROLS = dict.fromkeys([*range(8), 14, 15, *range(16, 32), 127])
#: The private mode that changes where text goes: automatic wrap.
_MODES = frozenset({"7"})
_ALTERNATE = frozenset({"47", "1047", "1049"})
_SYNCHRONIZED = "2026"

Look: TypeAlias = Callable[[bool], None]

#: A synchronized update that is longer is drawn before it ends.
_LONGEST_UPDATE = 4 * 1024**2


class Emulator:
    """
    What a program drew on a terminal of this size, and at most `history`
    characters of what scrolled off it.

    Attributes:
        title: the window's title.
        state: what the agent last said of itself by ``OSC 7501``.
    """

    def __init__(self, rows: int, columns: int, history: int) -> None:
        self.title = ""
        self.state = ""
        self._history: deque[tuple[str, bool]] = deque()
        self._history_size = 0
        self._most_history = history
        self._top = 0
        self._grid = Grid(columns, rows, self._keep, self._forget)
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
        return [self._grid.row_text(row) for row in range(self._grid.lines)]

    def last_rows(self, count: int) -> list[str]:
        """
        The last `count` rows of the screen that are not blank, from top to bottom.
        """
        found: list[str] = []
        for row in range(self._grid.lines - 1, -1, -1):
            text = self._grid.row_text(row)
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
            (row in self._grid.buffer and CONTINUED in self._grid.buffer[row])
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
            elif found[0] in _SAME or found["escape"] in _ESCAPES:
                self._later(_SAME.get(found[0], found[0]))
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
        # An escape that begins no sequence is one of them.
        text = text.translate(_CONTROLS)
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
        elif found[0] in _SAME:
            self._later(_SAME[found[0]])
        elif not private and final in _SCROLLS:
            # Rows go that nobody is told of.
            self._draw()
            self._forget()
            if final in _FINALS:
                self._later(f"\x1b[{_fitting(parameters, final)}{final}")
        elif parameters not in _ERASING.get(final, {parameters}):
            pass
        elif not private and not found["between"] and final in _FINALS and ":" not in parameters:
            if final in "JK" and not self._updating:
                self._draw()
                look(False)
            self._later(f"\x1b[{_fitting(parameters, final)}{final}")

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
        text = text_of(row)
        self._history.append((text, CONTINUED in row))
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


def _fitting(parameters: str, final: str) -> str:
    """
    As many of `parameters` as `final` takes, none of them too large: pyte trips
    over more.
    """
    kept = parameters.split(";")[: 2 if final in _OF_TWO else 1]
    return ";".join(each if len(each) < 5 else "9999" for each in kept)
