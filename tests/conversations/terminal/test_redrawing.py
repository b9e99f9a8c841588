"""
Tests for `kiroworkers.conversations.terminal.redrawing`.
"""

from __future__ import annotations

import os
from pathlib import Path
from time import thread_time
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from kiroworkers.conversations.terminal.emulator import Emulator
from kiroworkers.conversations.terminal.redrawing import select_rendition
from kiroworkers.conversations.terminal.rendition import PLAIN, next_rendition
from tests.conversations.terminal.test_emulator import FRAGMENTS, drawn
from tests.servers import COVERAGE_FACTOR

_DEFAULT_FOLDER = Path(__file__).parents[4] / "shared" / "recordings"
FOLDER = Path(os.environ.get("KIROWORKERS_RECORDINGS", str(_DEFAULT_FOLDER)))

#: Pieces of output that move, colour, erase and wrap, besides those of the emulator's tests.
STYLES = [
    *(b"\x1b[1;31m", b"\x1b[38;5;12m", b"\x1b[48:2::1:2:3m", b"\x1b[7m", b"\x1b[0m", b"\x1b[4:3m"),
    *(b"\x1b[?25l", b"\x1b[?25h", b"\x1b[9;20H", b"\x1b[1;20H", "大大".encode(), b"0123456789" * 3),
    *(b"\x1b[2J\x1b[H", b"\x1b[38;2;1;2;3m", b"a b  c ", b"\x1b[?1049h\x1b[H", b"\r\n"),
]


def redrawn(emulator: Emulator, rows: int = 5, columns: int = 20) -> Emulator:
    """
    Return a new emulator of the same size that was fed what `emulator` redraws.
    """
    return drawn(emulator.redraw().encode(), rows=rows, columns=columns)


def picture(emulator: Any) -> list[object]:
    """
    Return all that can be seen on the screen, and what decides about what is drawn next.
    """
    grid = emulator._grid
    cells = {
        (row, column): (cell.data, cell.fg)
        for row, line in grid.buffer.items()
        for column, cell in line.items()
        # A blank that was drawn looks like one that was not.
        if 0 <= column < grid.columns and cell[:2] != (" ", PLAIN)
    }
    cursor = grid.cursor
    return [
        [row.rstrip() for row in emulator.rows()],
        cells,
        (cursor.y, cursor.x, cursor.attrs.fg),
        grid.margins,
        emulator._main_screen is None,
        emulator._cursor_hidden,
        emulator._incomplete,
        emulator.updating,
        sorted(grid.mode),
    ]


class RedrawingTests(SynchronousTestCase):
    """
    Tests for drawing a screen again.
    """

    @given(st.lists(st.sampled_from([*FRAGMENTS, *STYLES]), max_size=40).map(b"".join))
    @example(b"\x1b[7m" + b"x" * 20)
    @example("\x1b[5;19H大".encode())
    @example("\x1b[1;20H❤\ufe0f".encode())
    @example(b"\x1b[?1049hone\x1b[?104")
    def test_same_screen(self, output: bytes) -> None:
        """
        A terminal that draws it looks the same.
        """
        # What ends in the middle of a character is kept by the decoder of the output.
        output = output.decode("utf-8", "ignore").encode()
        emulator = drawn(output)
        self.assertEqual(picture(redrawn(emulator)), picture(emulator))

    @given(
        st.lists(st.sampled_from(STYLES), max_size=20).map(b"".join),
        st.lists(st.sampled_from(STYLES), max_size=20).map(b"".join),
    )
    def test_goes_on(self, before: bytes, after: bytes) -> None:
        """
        Further output has the same effect as on the first terminal.
        """
        first = drawn(before)
        second = redrawn(first)
        for emulator in (first, second):
            emulator.feed(after, lambda complete: None)
        self.assertEqual(picture(second), picture(first))

    def test_main_screen_below(self) -> None:
        """
        When the program leaves the alternate screen, what was below it is there again.
        """
        below = b"\x1b[31m" + b"below" * 4
        emulator = drawn(below + b"\x1b[?1049h\x1b[Habove")
        copy = redrawn(emulator)
        self.assertEqual(copy.rows()[0], "above")
        for each in (emulator, copy):
            each.feed(b"\x1b[?1049l", lambda complete: None)
        self.assertEqual(copy.rows()[0], "below" * 4)
        self.assertEqual(picture(copy), picture(emulator))

    def test_saved_cursor(self) -> None:
        """
        The program can go back to the cursor that it has saved.
        """
        emulator = drawn(b"\x1b[2;3H\x1b[32m\x1b7\x1b[m\x1b[5;1Hlast")
        copy = redrawn(emulator)
        for each in (emulator, copy):
            each.feed(b"\x1b8back", lambda complete: None)
        self.assertEqual(copy.rows()[1], "  back")
        self.assertEqual(picture(copy), picture(emulator))

    def test_incomplete_sequence(self) -> None:
        """
        The rest of a sequence that was cut has its effect.
        """
        copy = redrawn(drawn(b"text\x1b[3"))
        copy.feed(b"1mred", lambda complete: None)
        self.assertEqual(copy.rows()[0], "textred")

    @given(
        st.lists(
            st.integers(0, 110).map(str)
            | st.sampled_from(["38;5;7", "48;2;1;2;3", "38:5:9", "38", "48;5", "4:0"])
        ).map(";".join)
    )
    def test_renditions(self, parameters: str) -> None:
        """
        The sequences that select a rendition select just that one, after any other.
        """
        rendition = next_rendition(PLAIN, parameters)
        emulator = drawn(f"\x1b[1;3;41m{select_rendition(rendition)}x".encode())
        self.assertEqual(picture(emulator)[1], {(0, 0): ("x", rendition)})

    def test_recordings(self) -> None:
        """
        The screens of real sessions are drawn again as they were, each time in a few
        milliseconds.
        """
        if not FOLDER.is_dir():
            raise SkipTest(f"no recordings in {FOLDER}; set KIROWORKERS_RECORDINGS")
        files = [*FOLDER.glob("*/*.bin"), *FOLDER.glob("tui/*.raw")]
        for file in sorted(files):
            data, rows, columns = file.read_bytes(), 53, 202
            emulator = drawn(rows=rows, columns=columns)
            step = max(1000, len(data) // 20)
            for start in range(0, len(data), step):
                emulator.feed(data[start : start + step], lambda complete: None)
                began = thread_time()
                output = emulator.redraw().encode()
                self.assertLess(thread_time() - began, 0.05 * COVERAGE_FACTOR, file)
                copy = drawn(output, rows=rows, columns=columns)
                self.assertEqual(picture(copy), picture(emulator), (file, start))
