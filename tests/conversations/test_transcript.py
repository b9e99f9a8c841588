"""
Tests for `kiroworkers.conversations.transcript`.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.conversations.transcript import Transcript, plain_text


def text_in_pieces(data: bytes, size: int) -> str:
    """
    Return the text of `data`, fed to a transcript in pieces of `size` bytes.
    """
    transcript = Transcript()
    pieces = (data[start : start + size] for start in range(0, len(data), size))
    return "".join(map(transcript.feed, pieces)) + transcript.rest()


class PlainTextTests(SynchronousTestCase):
    """
    Tests for `plain_text`.
    """

    def test_escapes_vanish(self) -> None:
        """
        Colours, titles, other control strings and charset escapes are removed.
        """
        for data in [
            b"\x1b[38;5;141m> \x1b[0mred\x1b[0m\x1b[0m",
            b"\x1b]0;a title\x07> red",
            b"\x1b]8;;http://x\x1b\\> red\x1b]8;;\x1b\\",
            b"\x1bP+q544e\x1b\\> red",
            b"\x1b(B> \x1b[<ured\x1b[=5u\x1b[4:3m",
            b"\x07> r\x08ed\x7f",
        ]:
            self.assertEqual(plain_text(data), "> red")

    def test_rewritten_lines(self) -> None:
        """
        Only the last version of a rewritten line counts, whether the cursor went back by
        CR, by erasing, or by moving to the first column.
        """
        self.assertEqual(plain_text(b"Think\rThought.\r\n"), "Thought.\n")
        self.assertEqual(plain_text("\r⠋ Thinking...\x1b[2K\x1b[1GDone".encode()), "Done")
        self.assertEqual(plain_text(b"1%\x1b[G2%\r\nnext"), "2%\nnext")

    def test_newlines(self) -> None:
        """
        CR LF is one newline, and so is CR CR LF, as a terminal may print it.
        """
        self.assertEqual(plain_text(b"a\r\nb\r\r\nc\nd"), "a\nb\nc\nd")

    def test_piece_sizes(self) -> None:
        """
        The text does not depend on where the output is cut, even in a line that was
        rewritten many times.
        """
        frames = "".join(f"\r{frame} Thinking..." for frame in "⠋⠙⠹").encode() * 9
        data = b"a\r\n" + frames + b"\x1b[2K\x1b[1GDone\r\x1b[0m\r\r\nb\xe2\ncd\r\r\x1b[K"
        for size in range(1, len(data) + 2):
            self.assertEqual(text_in_pieces(data, size), "a\nDone\nb\ufffd\ncd")

    @given(
        st.lists(
            st.sampled_from(
                [
                    b"a",
                    b"\r",
                    b"\n",
                    b"\x1b[2K",
                    b"\x1b[G",
                    b"\x1b[32m",
                    b"\x1b",
                    b"\xff",
                    b"\x1b]0;t",
                    b"\x1bPq",
                    b"\x1b\\",
                    b"\x07",
                    b"\x1b(",
                    b"[3",
                    "é".encode(),
                ]
            )
        ).map(b"".join),
        st.integers(1, 20),
    )
    def test_any_piece_size(self, data: bytes, size: int) -> None:
        """
        Any data gives the same text in pieces of any size.
        """
        self.assertEqual(text_in_pieces(data, size), plain_text(data))

    def test_keeps_little(self) -> None:
        """
        Output that will not be text, such as a string without an end, is not kept.
        """
        transcript = Transcript()
        for _ in range(1000):
            transcript.feed(b"\x1b]0;" + b"x" * 1000)
            transcript.feed(b"\r" * 1000)
        self.assertEqual(transcript.rest(), "")

    def test_not_utf8(self) -> None:
        """
        Bytes that are not UTF-8 are replaced, not refused.
        """
        self.assertEqual(plain_text(b"a\xffb"), "a\ufffdb")

    def test_unended_strings(self) -> None:
        """
        A title that is never ended hides the rest of its line, but not the lines after it.
        """
        self.assertEqual(plain_text(b"a\x1b]0;title\r\nb"), "a\nb")

    @given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc"])))
    def test_text_is_kept(self, text: str) -> None:
        """
        Text without control characters is kept as it is.
        """
        self.assertEqual(plain_text(text.encode()), text)
