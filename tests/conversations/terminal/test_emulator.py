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
from kiroworkers.conversations.terminal.queries import TerminalQueries

#: Text of one and two columns, and of none.
printable = st.lists(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"))
    | st.sampled_from(["e\u0301", "👩\u200d👧", "大", "\u202e", "❤\ufe0f", " "]),
).map("".join)


#: Pieces of sequences, and characters cut in two.
FRAGMENTS = [
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
    *(bytes([byte]) for byte in range(0x30, 0x7F, 5)),
]


def drawn(*chunks: bytes, rows: int = 5, columns: int = 20, history: int = 10_000) -> Emulator:
    """
    Return an emulator that was fed `chunks`.
    """
    emulator = Emulator(rows, columns, history)
    for chunk in chunks:
        emulator.feed(chunk, lambda complete: None)
    return emulator


class TextTests(SynchronousTestCase):
    """
    Tests for the text on the screen and in the history.
    """

    @given(printable)
    def test_any_text(self, text: str) -> None:
        """
        A line of any characters is read as it was written, even if it was cut at the
        terminal's edge; only blanks at its end are not kept.
        """
        text = f"|{text}|"
        emulator = drawn(text.encode() + b"\r\n", rows=50)
        self.assertEqual(emulator.text_from(emulator.first_row), text)

    def test_wrapped_and_not(self) -> None:
        """
        Lines that were cut at the edge are joined; lines that exactly fill a row are not.
        """
        emulator = drawn(b"x" * 45 + b"\r\n" + b"y" * 20 + b"\r\n" + b"z" * 20 + b"\r\nend")
        self.assertEqual(emulator.text_from(0).split("\n"), ["x" * 45, "y" * 20, "z" * 20, "end"])

    def test_blank_at_the_edge(self) -> None:
        """
        A blank in the last column is kept if the line continues.
        """
        for blanks in (1, 3):
            line = "x" * (20 - blanks) + " " * blanks + "y大" * 9 + "y大z"
            self.assertEqual(drawn(line.encode() + b"\r\n").text_from(0), line)

    def test_drawn_again(self) -> None:
        """
        A row of a cut line that is overwritten with a shorter line is a line of its own.
        """
        emulator = drawn(b"x" * 25 + b"\x1b[1;1H\x1b[2Kshort", b"\x1b[3;1Hend")
        self.assertEqual(emulator.text_from(0), "short\nxxxxx\nend")
        emulator = drawn(b"x" * 25 + b"\x1b[1;1H" + b"y" * 20, b"\x1b[3;1Hend")
        self.assertEqual(emulator.text_from(0), "y" * 20 + "\nxxxxx\nend")

    def test_history(self) -> None:
        """
        Rows that scroll off keep their numbers and their text, up to a limit.
        """
        lines = b"".join(b"line %d\r\n" % number for number in range(100))
        emulator = drawn(lines)
        self.assertEqual((emulator.first_row, emulator.top_row), (0, 96))
        self.assertEqual(emulator.text_from(90).split("\n")[:2], ["line 90", "line 91"])
        emulator = drawn(lines, history=80)
        self.assertGreater(emulator.first_row, 80)
        self.assertEqual(emulator.text_from(emulator.first_row).split("\n")[-1], "line 99")

    def test_erased(self) -> None:
        """
        Erased rows are gone, and the rows drawn after that have new numbers.
        """
        for erase in (b"\x1b[2J\x1b[H", b"\x1b[H\x1b[J", b"\x1b[3J\x1b[H", b"\x1bc"):
            emulator = drawn(b"old\r\n" + erase + b"new")
            self.assertGreater(emulator.first_row, 0, erase)
            self.assertIn("new", emulator.text_from(emulator.first_row), erase)

    def test_erased_cells(self) -> None:
        """
        Erasing does not store blanks, however wide the screen is.
        """
        grid = Grid(9000, 50, lambda row: None, lambda: None)
        grid.draw("text")
        for how in (0, 1, 2):
            grid.erase_in_line(how)
            grid.erase_in_display(how)
        self.assertEqual(sum(map(len, grid.buffer.values())), 0)

    def test_inserted_above(self) -> None:
        """
        Rows that are inserted above a fixed block at the bottom keep their numbers, and so
        do the rows that scroll off for them. Some programs print in this manner, with a
        composer at the bottom.
        """
        emulator = drawn(b"one\r\ntwo\r\n> composer")
        emulator.feed(b"\x1b[3;5r\x1b[3;1H\x1bM\x1bM\x1b[r", lambda complete: None)
        self.assertEqual(emulator.rows(), ["one", "two", "", "", "> composer"])
        emulator.feed(b"\x1b[1;4r\x1b[2;1H\r\nthree\r\nfour\x1b[r", lambda complete: None)
        self.assertEqual(emulator.text_from(0), "one\ntwo\nthree\nfour\n> composer")
        emulator.feed(b"\x1b[1;4r\x1b[4;1H\r\nfive\r\nsix\x1b[r", lambda complete: None)
        self.assertEqual(emulator.text_from(3), "four\nfive\nsix\n> composer")
        self.assertEqual(emulator.text_from(0).split("\n")[:2], ["one", "two"])

    def test_pushed_out(self) -> None:
        """
        When a row is pushed out at the bottom, all rows get new numbers.
        """
        emulator = drawn(b"1\r\n2\r\n3\r\n4\r\n5\x1b[2;5r\x1b[2;1H\x1bM")
        self.assertGreater(emulator.first_row, 0)

    def test_alternate_screen(self) -> None:
        """
        Nothing that scrolls off the alternate screen is kept, and the main screen is
        restored unchanged.
        """
        emulator = drawn(b"main\r\n\x1b[?1049h\x1b[H" + b"one\r\n" * 10)
        self.assertEqual(emulator.first_row, emulator.top_row)
        self.assertEqual(emulator.rows()[0], "one")
        emulator.feed(b"\x1b[?1049l", lambda complete: None)
        self.assertEqual(emulator.rows()[0], "main")

    def test_last_rows(self) -> None:
        """
        Blank rows do not count as last rows.
        """
        emulator = drawn(b"a\r\n\r\nb\r\n \r\n")
        self.assertEqual(emulator.last_rows(1), ["b"])
        self.assertEqual(emulator.last_rows(5), ["a", "b"])


#: Clusters, with their width and the sum of the widths of their characters.
CLUSTERS = (
    ("👩\u200d👩\u200d👧", 2, 6),
    ("🏳\ufe0f\u200d🌈", 2, 3),
    ("👍🏽", 2, 4),
    ("❤\ufe0f", 2, 1),
    ("🇩🇪", 2, 4),
    ("1\ufe0f\u20e3", 2, 1),
)


class RenditionTests(SynchronousTestCase):
    """
    Tests for `Emulator.restyled_from`.
    """

    def restyled(self, data: str, rows: int = 4) -> list[tuple[str, str]]:
        """
        Return the text before and after each change of style that `data` draws.
        """
        emulator = Emulator(rows=rows, columns=8, history=1000)
        emulator.feed(data.encode(), lambda complete: None)
        text = emulator.text_from(emulator.first_row)
        return [(text[:at], text[at:]) for at in emulator.restyled_from(emulator.first_row)]

    def test_rows(self) -> None:
        """
        Offsets are those in the text, also behind rows that are cut or have scrolled off.
        """
        red, off = "\x1b[31m", "\x1b[m"
        drawn = f"ab{red}c大defghi{off}j\r\n\r\n  {red}k\r\n  l{off}m"
        for rows in (2, 6):
            self.assertEqual(
                self.restyled(drawn, rows),
                [
                    ("", "abc大defghij\n\n  k\n  lm"),
                    ("ab", "c大defghij\n\n  k\n  lm"),
                    ("abc大defghi", "j\n\n  k\n  lm"),
                    ("abc大defghij\n\n  ", "k\n  lm"),
                    ("abc大defghij\n\n  k\n  l", "m"),
                ],
            )

    def test_cursor(self) -> None:
        """
        The style is saved and restored with the cursor, and drawn over like text.
        """
        self.assertEqual(self.restyled("a\x1b[31m\x1b7\x1b[0mb\x1b8c"), [("", "ac"), ("a", "c")])
        self.assertEqual(self.restyled("a\x1b[31mb\x1b[0m\rabc"), [("", "abc")])
        self.assertEqual(self.restyled("a\x1b[31m\x1bcbc"), [("", "bc")])

    def test_many(self) -> None:
        """
        More styles than are cached are still told apart.
        """
        drawn = "".join(f"\x1b[38;5;{number}mx" for number in range(200))
        self.assertEqual(len(self.restyled(drawn, rows=30)), 200)

    def test_other_sequences(self) -> None:
        """
        Sequences that only look like those for styles change none.
        """
        self.assertEqual(self.restyled("a\x1b[>4;2mb\x1b[?4mc\x1b[1 md"), [("", "abcd")])


class ClusterTests(SynchronousTestCase):
    """
    Tests for clusters of characters, on which programs do not agree how wide they are.
    """

    def test_text(self) -> None:
        """
        What is drawn in one go is read as it was written, and is certain.
        """
        for cluster, _, _ in CLUSTERS:
            emulator = drawn(f"\x1b[2K|{cluster}|{cluster}{cluster}x\r\nend".encode())
            self.assertEqual(emulator.text_from(0), f"|{cluster}|{cluster}{cluster}x\nend")
            self.assertFalse(emulator.uncertain_from(0))

    def test_counted(self) -> None:
        """
        A program that places each part of a row, as it counts columns, is read exactly,
        whichever way it counts, and so are its later rows.
        """
        for cluster, *widths in CLUSTERS:
            for width in widths:
                emulator = drawn(
                    f"\x1b[1;1Ha{cluster}\x1b[1;{2 + width}Hbc\x1b[1;{3 + width}HC".encode(),
                    f"\x1b[2;1H{cluster}{cluster}\x1b[2;{1 + 2 * width}Hd".encode(),
                    f"\x1b[3;1H\x1b[2K{cluster}e\x1b[3;{1 + width}HE".encode(),
                )
                text = f"a{cluster}bC\n{cluster}{cluster}d\n{cluster}E"
                self.assertEqual(emulator.text_from(0), text, (cluster, width))
                self.assertFalse(emulator.uncertain_from(0), (cluster, width))

    def test_unknown(self) -> None:
        """
        A row in which something is placed behind a cluster by a program that has not shown
        how it counts is uncertain, until it is drawn anew.
        """
        for cluster, _, _ in CLUSTERS:
            for move in ("\x1b[1;9H", "\x1b[9G", "\x1b[2D", "\r\x1b[8C"):
                emulator = drawn(f"one {cluster} two".encode(), move.encode())
                self.assertFalse(emulator.uncertain_from(0))
                emulator.feed(b"x\r\nmore\r\n", lambda complete: None)
                self.assertTrue(emulator.uncertain_from(0), (cluster, move))
                self.assertFalse(emulator.uncertain_from(1))
                emulator.feed(b"\n" * 5, lambda complete: None)
                self.assertTrue(emulator.uncertain_from(0))
                emulator.feed(b"\x1b[5A\x1b[2Kagain", lambda complete: None)
        emulator = drawn("👍🏽 two\x1b[1;5Hx\r\x1b[2K👍🏽 three".encode())
        self.assertFalse(emulator.uncertain_from(0))
        self.assertEqual(emulator.text_from(0), "👍🏽 three")

    def test_overwritten(self) -> None:
        """
        Nothing is left of a cluster of which a part is overwritten.
        """
        emulator = drawn("a👩\u200d👩\u200d👧\x1b[1;8Hx\x1b[1;4Hyy".encode())
        self.assertEqual(emulator.text_from(0), "a  yy  x")
        emulator = drawn("a👩\u200d👩\u200d👧\x1b[1;4Hx\x1b[1;2Hyy".encode())
        self.assertEqual(emulator.text_from(0), "ayyx")

    def test_many_marks(self) -> None:
        """
        Characters without a width do not swallow what follows them.
        """
        text = "a\u200b" + "é" * 100
        self.assertEqual(drawn(text.encode(), columns=200).text_from(0), text)


class QueryTests(SynchronousTestCase):
    """
    Tests for what programs ask their terminal.
    """

    def test_position(self) -> None:
        """
        A query is answered with the position that the cursor has at that moment.
        """
        queries = TerminalQueries()
        emulator = Emulator(5, 20, 100, queries)
        emulator.feed(
            b"\x1b[6n\r\nab\x1b[6n\x1b[?2026hc\x1b[6n\x1b[?2026l\x1b]11;?\x07",
            lambda complete: None,
        )
        self.assertEqual(
            queries.data_to_send(),
            b"\x1b[1;1R\x1b[2;3R\x1b[2;4R\x1b]11;rgb:0000/0000/0000\x1b\\",
        )
        self.assertEqual(emulator.rows()[1], "abc")


class FilterTests(SynchronousTestCase):
    """
    Tests for sequences that must not reach pyte.
    """

    def test_sequences(self) -> None:
        """
        Sequences without a meaning for a reader leave no trace, and none raises.
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
            self.assertEqual(emulator.text_from(0), "ab", sequence)

    def test_odd_parameters(self) -> None:
        """
        Erasing with an unknown parameter erases nothing.
        """
        for sequence in (b"\x1b[5K", b"\x1b[7J", b"\x1b[1;2K"):
            self.assertEqual(drawn(b"text" + sequence).text_from(0), "text")
        for final in b"ABCDEFGHLMPXadefg`r@":
            for parameters in (b"1;2", b"1;2;3", b"9" * 5000, b""):
                drawn(b"text\x1b[?6h\x1b[" + parameters + bytes([final]) + b"more")

    def test_cursor_is_kept(self) -> None:
        """
        The cursor returns to where it was last saved, with either pair of sequences.
        """
        for save, restore in ((b"\x1b7", b"\x1b8"), (b"\x1b[s", b"\x1b[u")):
            emulator = drawn(b"a" + save + b"b" + save + b"\x1b[3;1Hc" + restore + b"d")
            self.assertEqual(emulator.text_from(0), "abd\n\nc")

    def test_half_of_a_wide_character(self) -> None:
        """
        The remaining half of a wide character that was partly overwritten becomes a blank.
        """
        self.assertEqual(drawn("大大\x1b[1;2Hx".encode()).text_from(0), " x大")
        self.assertEqual(drawn("大大\x1b[1;3Hx".encode()).text_from(0), "大x")

    def test_rows_that_vanish(self) -> None:
        """
        When rows are moved away without a trace, all rows get new numbers.
        """
        for sequence in (b"\x1b[S", b"\x1b[2L", b"\x1b[M", b"\x1b[2;3r\x1b[3;1H\n", b"\x1b[H\x1bM"):
            self.assertGreater(drawn(b"old" + sequence).first_row, 0, sequence)

    def test_title_and_state(self) -> None:
        """
        The title and the agent's state are kept, and the screen can be inspected at each
        change.
        """
        seen: list[tuple[str, str]] = []
        emulator = Emulator(5, 20, 100)
        emulator.feed(
            b"\x1b]0;one\x07\x1b]2;two\x1b\\\x1b]7501;state=idle\x1b\\",
            lambda complete: seen.append((emulator.title, emulator.state)),
        )
        self.assertEqual(seen, [("one", ""), ("two", ""), ("two", "state=idle")])

    def test_updates_are_whole(self) -> None:
        """
        A synchronized update can be inspected when it ends, and not before.
        """
        seen: list[tuple[bool, str]] = []
        emulator = Emulator(5, 20, 100)

        def inspect(complete: bool) -> None:
            seen.append((complete, emulator.rows()[0]))

        emulator.feed(b"\x1b[?2026hhalf\r\n", inspect)
        self.assertTrue(emulator.updating)
        self.assertEqual(seen, [])
        emulator.feed(b"\x1b[1;5H done\x1b[?2026l", inspect)
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
        When rows are deleted, the blank rows below move up like any others, and overwrite
        what they move to.
        """
        emulator = drawn(b"one\r\ntwo\r\nthree\x1b[3;1H\x1b[J\x1b[1;1H\x1b[1M", rows=4)
        self.assertEqual(emulator.rows(), ["two", "", "", ""])
        emulator = drawn(b"one\r\ntwo\r\nthree\x1b[1;1H\x1b[J\x1b[2;1Htwo\x1b[1;1H\x1b[2M", rows=4)
        self.assertEqual(emulator.rows(), ["", "", "", ""])

    def test_endless_sequence(self) -> None:
        """
        A control string that never ends is finally drawn as text, at a cost linear in its
        length.
        """
        emulator = drawn(*[b"\x1b]0;" + b"x" * 1000] + [b"y" * 1000] * 200, b"\r\nend")
        self.assertIn("end", emulator.text_from(emulator.first_row))


class MalformedTests(SynchronousTestCase):
    """
    Tests for output that no program should print.
    """

    @given(st.lists(st.sampled_from(FRAGMENTS), max_size=25), st.integers(1, 7))
    def test_anything(self, fragments: list[bytes], size: int) -> None:
        """
        Nothing raises, and it does not matter where the output was cut.
        """
        data = b"".join(fragments)

        def seen(chunks: list[bytes]) -> tuple[object, ...]:
            emulator = drawn(*chunks)
            return (
                emulator.rows(),
                emulator.text_from(emulator.first_row),
                emulator.first_row,
                emulator.title,
            )

        chunks = [data[start : start + size] for start in range(0, len(data), size)]
        self.assertEqual(seen(chunks), seen([data]))

    def test_half_of_a_wide_character(self) -> None:
        """
        A wide character that loses a column is blank, and says nothing about other rows.
        """
        changes = {
            b"\x1b[P": " x",
            b"\x1b[X": "  x",
            b"\x1b[2G\x1b[K": "",
            b"\x1b[2G\x1b[@": "   x",
            b"\x1b[2G\x1b[X": "  x",
        }
        for change, row in changes.items():
            emulator = drawn("大x".encode() + b"\r" + change)
            self.assertEqual((change, emulator.rows()[0]), (change, row))
            emulator.feed(b"\ra", lambda complete: None)
            self.assertEqual((change, emulator.rows()[0]), (change, ("a" + row[1:])))

    def test_pushed_off_the_edge(self) -> None:
        """
        An insertion loses the characters that it pushes over the right edge, a wide one as a whole.
        """
        emulator = drawn(b"x" * 18 + "大\r\x1b[@".encode())
        self.assertEqual(emulator.rows()[0], " " + "x" * 18)
        emulator = drawn(b"x" * 20 + b"\r\x1b[@")
        self.assertEqual(emulator.rows()[0], " " + "x" * 19)


class CutTests(SynchronousTestCase):
    """
    Tests for output that is cut anywhere.
    """

    def test_cut_anywhere(self) -> None:
        """
        What can be inspected, and when, does not depend on where the output was cut.
        """
        data = (
            "\x1b[2J\x1b[Hüber\r\n\x1b[?2026h\x1b[1A\r\x1b[2K\x1b[38;2;1;2;3m大きい🎉\x1b[0m"
            "\r\n\x1b[?2026l\x1b]0;◇ Ready\x07more\r\n\x1b[2Aup\x1b[K\x1bP junk \x1b\\!"
        ).encode()

        def seen(chunks: list[bytes]) -> list[object]:
            emulator = Emulator(5, 20, 1000)
            moments: list[object] = []
            for chunk in chunks:
                emulator.feed(
                    chunk,
                    lambda complete: moments.append((complete, emulator.title, emulator.rows())),
                )
            return [*moments, emulator.rows()]

        whole = seen([data])
        self.assertEqual(seen([bytes([byte]) for byte in data]), whole)
        random = Random(2)
        for _ in range(100):
            cuts = sorted(random.choices(range(len(data) + 1), k=random.randrange(10)))
            self.assertEqual(seen([data[a:b] for a, b in pairwise([0, *cuts, len(data)])]), whole)
