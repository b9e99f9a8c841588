"""
Tests for `kiroworkers.conversations.terminal.emulator`.
"""

from __future__ import annotations

from itertools import pairwise
from random import Random

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.conversations.terminal.emulator import Emulator
from kiroworkers.conversations.terminal.grid import Grid

#: Text of one and two columns, and of none.
printable = st.lists(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"))
    | st.sampled_from(["e\u0301", "👩\u200d👧", "大", "\u202e", "❤\ufe0f", " "]),
).map("".join)


#: Pieces of sequences, and characters cut in two.
ODD = [
    *(b"\x1b", b"\x1b[", b"\x1b]", b"\x1bP", b"\x1b\\", b"\x07", b"\x9b", b"?2026h", b";", b"\n"),
    *(b"\r", b"\t", b"\x08", b"\x00", b"\x7f", b"text", "大".encode(), "\u0301".encode(), b"\xe5"),
    *("\u200d".encode(), "❤\ufe0f".encode(), b"\xf0\x9f", b"\x1b[?2026h", b"\x1b[?2026l", b"\x1b7"),
    *(b"\x1b[?1049h", b"\x1b[?1049l", b"\x1b[2J", b"\x1b[K", b"\x1b[9K", b"\x1b[J", b"\x1b[9J"),
    *(
        b"\x1b[H",
        b"\x1b[3;4H",
        b"\x1b[2A",
        b"\x1b]0;t\x07",
        b"\x1b]7501;s\x1b\\",
        b"\x1bM",
        b"\x1b8",
    ),
    *(b"\x1b[2;4r", b"\x1b[L", b"\x1b[M", b"\x1b[P", b"\x1b[2@", b"\x1b[X", b"\x1bc", b"\x1b[?7l"),
    *(
        b"\x1b[?6h",
        b"\x1b[4h",
        b"\x1bD",
        b"\x1bE",
        b"\x1b#8",
        b"\x1b(0",
        b"\x1b[999999999C",
        b"\x1b[S",
    ),
    *(bytes([each]) for each in range(0x30, 0x7F, 5)),
]


def drawn(*pieces: bytes, rows: int = 5, columns: int = 20, history: int = 10_000) -> Emulator:
    """
    An emulator that was fed `pieces`.
    """
    emulator = Emulator(rows, columns, history)
    for piece in pieces:
        emulator.feed(piece, lambda whole: None)
    return emulator


class TextTests(SynchronousTestCase):
    """
    Tests for what is on the screen, and was.
    """

    @given(printable)
    def test_any_text(self, text: str) -> None:
        """
        A line of any characters reads as it was written, though the terminal's
        edge cut it; only blanks at its end are not kept.
        """
        text = f"|{text}|"
        emulator = drawn(text.encode() + b"\r\n", rows=50)
        self.assertEqual(emulator.text(emulator.first), text)

    def test_wrapped_and_not(self) -> None:
        """
        Lines that the edge cut are joined; lines that merely fill a row are not.
        """
        emulator = drawn(b"x" * 45 + b"\r\n" + b"y" * 20 + b"\r\n" + b"z" * 20 + b"\r\nend")
        self.assertEqual(emulator.text(0).split("\n"), ["x" * 45, "y" * 20, "z" * 20, "end"])

    def test_blank_at_the_edge(self) -> None:
        """
        A blank in the last column of a line that goes on is a part of it.
        """
        for blanks in (1, 3):
            line = "x" * (20 - blanks) + " " * blanks + "y大" * 9 + "y大z"
            self.assertEqual(drawn(line.encode() + b"\r\n").text(0), line)

    def test_drawn_again(self) -> None:
        """
        A row that was cut and is drawn again shorter is a line of its own.
        """
        emulator = drawn(b"x" * 25 + b"\x1b[1;1H\x1b[2Kshort", b"\x1b[3;1Hend")
        self.assertEqual(emulator.text(0), "short\nxxxxx\nend")
        emulator = drawn(b"x" * 25 + b"\x1b[1;1H" + b"y" * 20, b"\x1b[3;1Hend")
        self.assertEqual(emulator.text(0), "y" * 20 + "\nxxxxx\nend")

    def test_history(self) -> None:
        """
        Rows that scroll off keep their numbers and their text, up to a limit.
        """
        lines = b"".join(b"line %d\r\n" % number for number in range(100))
        emulator = drawn(lines)
        self.assertEqual((emulator.first, emulator.top), (0, 96))
        self.assertEqual(emulator.text(90).split("\n")[:2], ["line 90", "line 91"])
        emulator = drawn(lines, history=80)
        self.assertGreater(emulator.first, 80)
        self.assertEqual(emulator.text(emulator.first).split("\n")[-1], "line 99")

    def test_erased(self) -> None:
        """
        What is erased is gone, and what is drawn then has new numbers.
        """
        for erase in (b"\x1b[2J\x1b[H", b"\x1b[H\x1b[J", b"\x1b[3J\x1b[H", b"\x1bc"):
            emulator = drawn(b"old\r\n" + erase + b"new")
            self.assertGreater(emulator.first, 0, erase)
            self.assertIn("new", emulator.text(emulator.first), erase)

    def test_erased_cells(self) -> None:
        """
        What is erased is not kept as blanks, however wide the screen is.
        """
        grid = Grid(9000, 50, lambda row: None, lambda: None)
        grid.draw("text")
        for how in (0, 1, 2):
            grid.erase_in_line(how)
            grid.erase_in_display(how)
        self.assertEqual(sum(map(len, grid.buffer.values())), 0)

    def test_inserted_above(self) -> None:
        """
        Rows that are inserted above a few that stay keep their numbers, and so
        do those that scroll off for it: some programs print so, with a composer
        below.
        """
        emulator = drawn(b"one\r\ntwo\r\n> composer")
        emulator.feed(b"\x1b[3;5r\x1b[3;1H\x1bM\x1bM\x1b[r", lambda whole: None)
        self.assertEqual(emulator.rows(), ["one", "two", "", "", "> composer"])
        emulator.feed(b"\x1b[1;4r\x1b[2;1H\r\nthree\r\nfour\x1b[r", lambda whole: None)
        self.assertEqual(emulator.text(0), "one\ntwo\nthree\nfour\n> composer")
        emulator.feed(b"\x1b[1;4r\x1b[4;1H\r\nfive\r\nsix\x1b[r", lambda whole: None)
        self.assertEqual(emulator.text(3), "four\nfive\nsix\n> composer")
        self.assertEqual(emulator.text(0).split("\n")[:2], ["one", "two"])

    def test_pushed_out(self) -> None:
        """
        A row that is pushed out at the bottom is gone, and all have new numbers.
        """
        emulator = drawn(b"1\r\n2\r\n3\r\n4\r\n5\x1b[2;5r\x1b[2;1H\x1bM")
        self.assertGreater(emulator.first, 0)

    def test_alternate_screen(self) -> None:
        """
        The alternate screen keeps nothing that scrolls off it, and the main
        screen is as it was when it comes back.
        """
        emulator = drawn(b"main\r\n\x1b[?1049h\x1b[H" + b"one\r\n" * 10)
        self.assertEqual(emulator.first, emulator.top)
        self.assertEqual(emulator.rows()[0], "one")
        emulator.feed(b"\x1b[?1049l", lambda whole: None)
        self.assertEqual(emulator.rows()[0], "main")

    def test_last_rows(self) -> None:
        """
        The last rows are those that are not blank.
        """
        emulator = drawn(b"a\r\n\r\nb\r\n \r\n")
        self.assertEqual(emulator.last_rows(1), ["b"])
        self.assertEqual(emulator.last_rows(5), ["a", "b"])


class FilterTests(SynchronousTestCase):
    """
    Tests for what never reaches the screen.
    """

    def test_sequences(self) -> None:
        """
        Sequences that mean nothing to a reader leave no trace, and none raises.
        """
        for sequence in (
            b"\x1b[>1u",
            b"\x1b[<u",
            b"\x1b[=5u",
            b"\x1b[4:3m",
            b"\x1b[38;2;1;2;3m",
            b"\x1b[?4m",
            b"\x1b[?6n",
            b"\x1b[6n",
            b"\x1b[c",
            b"\x1b[2 q",
            b"\x1b[!p",
            b"\x1bP1;2|data\x1b\\",
            b"\x1b_Gf=100;AAAA\x1b\\",
            b"\x1b]11;?\x07",
            b"\x1b]8;;http://x\x1b\\",
            b"\x1b(B",
            b"\x1b=",
            b"\x1b[?25l\x1b[?2004h",
            "\x9b".encode(),
        ):
            emulator = drawn(b"a" + sequence + b"b")
            self.assertEqual(emulator.text(0), "ab", sequence)

    def test_odd_parameters(self) -> None:
        """
        Erasing with a parameter that nobody knows erases nothing.
        """
        for sequence in (b"\x1b[5K", b"\x1b[7J", b"\x1b[1;2K"):
            self.assertEqual(drawn(b"text" + sequence).text(0), "text")
        for final in b"ABCDEFGHLMPXadefg`r@":
            for parameters in (b"1;2", b"1;2;3", b"9" * 5000, b""):
                drawn(b"text\x1b[?6h\x1b[" + parameters + bytes([final]) + b"more")

    def test_cursor_is_kept(self) -> None:
        """
        The cursor comes back to where it was saved last, by either name.
        """
        for save, restore in ((b"\x1b7", b"\x1b8"), (b"\x1b[s", b"\x1b[u")):
            emulator = drawn(b"a" + save + b"b" + save + b"\x1b[3;1Hc" + restore + b"d")
            self.assertEqual(emulator.text(0), "abd\n\nc")

    def test_half_of_a_wide_character(self) -> None:
        """
        What is left of a wide character that was drawn over is a blank.
        """
        self.assertEqual(drawn("大大\x1b[1;2Hx".encode()).text(0), " x大")
        self.assertEqual(drawn("大大\x1b[1;3Hx".encode()).text(0), "大x")

    def test_rows_that_vanish(self) -> None:
        """
        Where rows are moved away without a trace, nothing of before is known.
        """
        for sequence in (b"\x1b[S", b"\x1b[2L", b"\x1b[M", b"\x1b[2;3r\x1b[3;1H\n", b"\x1b[H\x1bM"):
            self.assertGreater(drawn(b"old" + sequence).first, 0, sequence)

    def test_title_and_state(self) -> None:
        """
        The title and what an agent says of its state are kept, and each change
        is a moment to look.
        """
        looked: list[tuple[str, str]] = []
        emulator = Emulator(5, 20, 100)
        emulator.feed(
            b"\x1b]0;one\x07\x1b]2;two\x1b\\\x1b]7501;state=idle\x1b\\",
            lambda whole: looked.append((emulator.title, emulator.state)),
        )
        self.assertEqual(looked, [("one", ""), ("two", ""), ("two", "state=idle")])

    def test_updates_are_whole(self) -> None:
        """
        A synchronized update is seen when it ends, and not before.
        """
        seen: list[tuple[bool, str]] = []
        emulator = Emulator(5, 20, 100)

        def look(whole: bool) -> None:
            seen.append((whole, emulator.rows()[0]))

        emulator.feed(b"\x1b[?2026hhalf\r\n", look)
        self.assertTrue(emulator.updating)
        self.assertEqual((seen, emulator.rows()[0]), ([], ""))
        emulator.feed(b"\x1b[1;5H done\x1b[?2026l", look)
        self.assertEqual(seen, [(True, "half done")])
        self.assertFalse(emulator.updating)

    def test_endless_update(self) -> None:
        """
        An update that never ends does not fill the memory.
        """
        emulator = drawn(b"\x1b[?2026h" + b"x" * 5_000_000, columns=1000)
        self.assertTrue(emulator.rows()[-1])

    def test_blank_rows_move(self) -> None:
        """
        Where rows are deleted, blank rows below move up like any, and leave nothing
        of what stood there.
        """
        emulator = drawn(b"one\r\ntwo\r\nthree\x1b[3;1H\x1b[J\x1b[1;1H\x1b[1M", rows=4)
        self.assertEqual(emulator.rows(), ["two", "", "", ""])
        emulator = drawn(b"one\r\ntwo\r\nthree\x1b[1;1H\x1b[J\x1b[2;1Htwo\x1b[1;1H\x1b[2M", rows=4)
        self.assertEqual(emulator.rows(), ["", "", "", ""])

    def test_endless_sequence(self) -> None:
        """
        A string that never ends is drawn as text in the end, and costs no more
        than its length.
        """
        emulator = drawn(*[b"\x1b]0;" + b"x" * 1000] + [b"y" * 1000] * 200, b"\r\nend")
        self.assertIn("end", emulator.text(emulator.first))


class OddTests(SynchronousTestCase):
    """
    Tests for what no program should send.
    """

    @given(st.lists(st.sampled_from(ODD), max_size=25), st.integers(1, 7))
    def test_anything(self, atoms: list[bytes], size: int) -> None:
        """
        Nothing raises, and it does not matter where the reads ended.
        """
        data = b"".join(atoms)

        def seen(pieces: list[bytes]) -> tuple[object, ...]:
            emulator = drawn(*pieces)
            return emulator.rows(), emulator.text(emulator.first), emulator.first, emulator.title

        pieces = [data[start : start + size] for start in range(0, len(data), size)]
        self.assertEqual(seen(pieces), seen([data]))


class CutTests(SynchronousTestCase):
    """
    Tests for reads that end anywhere.
    """

    def test_cut_anywhere(self) -> None:
        """
        What is seen at each moment does not depend on where the reads ended.
        """
        data = (
            "\x1b[2J\x1b[Hüber\r\n\x1b[?2026h\x1b[1A\r\x1b[2K\x1b[38;2;1;2;3m大きい🎉\x1b[0m"
            "\r\n\x1b[?2026l\x1b]0;◇ Ready\x07more\r\n\x1b[2Aup\x1b[K\x1bP junk \x1b\\!"
        ).encode()

        def seen(pieces: list[bytes]) -> list[object]:
            emulator = Emulator(5, 20, 1000)
            moments: list[object] = []
            for piece in pieces:
                emulator.feed(
                    piece, lambda whole: moments.append((whole, emulator.title, emulator.rows()))
                )
            return [*moments, emulator.rows()]

        whole = seen([data])
        self.assertEqual(seen([bytes([byte]) for byte in data]), whole)
        random = Random(2)
        for _ in range(100):
            cuts = sorted(random.choices(range(len(data) + 1), k=random.randrange(10)))
            self.assertEqual(seen([data[a:b] for a, b in pairwise([0, *cuts, len(data)])]), whole)
