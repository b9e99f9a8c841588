"""
Tests for `kiroworkers.conversations.terminal.typed_lines`.
"""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.conversations.terminal.recording import Chunk
from kiroworkers.conversations.terminal.typed_lines import typed_lines, without_replies

#: What terminals send without a key, one of each form.
REPLIES = (
    b"\x1b[24;80R",  # the cursor's position, as DSR and as DECXCPR
    b"\x1b[?24;80;1R",
    b"\x1b[0n",
    b"\x1b[?997;1n",
    b"\x1b[?62;22c",
    b"\x1b[>1;10;0c",
    b"\x1bP!|00000000\x1b\\",
    b"\x1bP>|xterm(390)\x1b\\",
    b"\x1bP1+r544e=787465726d\x1b\\",
    b"\x1bP0+r544e\x1b\\",
    b"\x1bP1$r0m\x1b\\",
    b"\x1b]10;rgb:ffff/ffff/ffff\x1b\\",
    b"\x1b]11;rgb:0000/0000/0000\x07",
    b"\x1b]4;1;rgb:cdcd/0000/0000\x07",
    b"\x1b]lthe title\x1b\\",
    b"\x1b[?2026;2$y",
    b"\x1b[4;2$y",
    b"\x1b[?1u",
    b"\x1b[>4;2m",
    b"\x1b[97;1:3u",
    b"\x1b[1;1:3A",
    b"\x1b[8;50;200t",
    b"\x1b[48;50;200;1000;2000t",
    b"\x1b[I",
    b"\x1b[O",
    b"\x1b[<0;10;20M",
    b"\x1b[<0;10;20m",
    b"\x1b[0;10;20M",
    b"\x1b[M !!",
    b"\x1b_Gi=1;OK\x1b\\",
)


def typed(*pieces: bytes) -> list[Chunk]:
    """
    Return a recording of input that was read in these pieces.
    """
    return [Chunk(float(second), "i", data) for second, data in enumerate(pieces)]


class ReplyTests(SynchronousTestCase):
    """
    Tests for what a terminal sends by itself.
    """

    def test_forms(self) -> None:
        """
        No reply is part of a line, alone or joined to what is typed before and after it.
        """
        for reply in REPLIES:
            self.assertEqual(list(typed_lines(typed(reply))), [], reply)
            (line,) = typed_lines(typed(b"on" + reply + b"e\r" + reply))
            self.assertEqual((line.text, line.data), ("one", b"one\r"), reply)
            self.assertEqual(without_replies(reply + b"x"), b"x")

    @given(st.sampled_from(REPLIES), st.lists(st.integers(0, 40)))
    def test_cuts(self, reply: bytes, cuts: list[int]) -> None:
        """
        It does not matter where the reads cut a reply.
        """
        data = reply + b"hi\r"
        ends = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
        pieces = [data[a:b] for a, b in pairwise(ends)]
        (line,) = typed_lines(typed(*pieces))
        self.assertEqual(line.text, "hi")

    def test_first_key(self) -> None:
        """
        A line begins with its first key, not with a reply before it.
        """
        (line,) = typed_lines(typed(b"\x1b[1;", b"1R", b"y", b"\r"))
        self.assertEqual((line.first, line.last), (2, 3))

    def test_keys_are_no_replies(self) -> None:
        """
        Keys of menus are not taken for replies.
        """
        for keys in (b"\x1b[A\r", b"\x1b[B\r", b"\x1bOB\r", b"\x1b[1;5C\r", b"\x1b[3~\r"):
            (line,) = typed_lines(typed(keys))
            self.assertEqual((line.text, line.data), ("", keys))


class LineTests(SynchronousTestCase):
    """
    Tests for lines.
    """

    def test_editing(self) -> None:
        """
        The keys that erase change the text of a line, but not what was typed.
        """
        for keys, text in (
            (b"helo\x7flo", "hello"),
            ("größ\x7fße".encode(), "größe"),
            (b"wrong\x15right", "right"),
            (b"one two \x17three", "one three"),
            (b"a\x1b[Cb", "ab"),
        ):
            (line,) = typed_lines(typed(keys + b"\r"))
            self.assertEqual((line.text, line.data), (text, keys + b"\r"))

    def test_paste(self) -> None:
        """
        Enter within a paste is a newline of its text.
        """
        (line,) = typed_lines(typed(b"\x1b[200~one\rtwo\x1b[201~", b"\r"))
        self.assertEqual((line.text, line.end), ("one\ntwo", "submitted"))

    def test_ends(self) -> None:
        """
        Ctrl-C and Esc drop a line, Ctrl-D in an empty line ends the input, and a last line may
        have no end.
        """
        lines = typed_lines(typed(b"a\x03", b"\x1b", b"b\r", b"\x04", b"c"))
        ends = [(line.text, line.end) for line in lines]
        self.assertEqual(
            ends,
            [
                ("a", "dropped"),
                ("", "dropped"),
                ("b", "submitted"),
                ("", "end of input"),
                ("c", "unfinished"),
            ],
        )

    def test_submit(self) -> None:
        """
        Another key than Enter may submit.
        """
        (line,) = typed_lines(typed(b"one\rtwo\x1b\r"), b"\x1b\r")
        self.assertEqual(line.end, "submitted")
