"""
Tests for `kiroworkers.conversations.transcript`.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.conversations.transcript import Transcript, plain_text


def in_pieces(data: bytes, size: int) -> tuple[str, tuple[int, ...]]:
    """
    Return the text of `data` and where it was styled, fed in pieces of `size` bytes.
    """
    transcript = Transcript()
    pieces = (data[start : start + size] for start in range(0, len(data), size))
    text = "".join(map(transcript.feed, pieces)) + transcript.rest()
    return text, transcript.styled()


def text_in_pieces(data: bytes, size: int) -> str:
    """
    Return the text of `data`, fed to a transcript in pieces of `size` bytes.
    """
    return in_pieces(data, size)[0]


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
                    b"\x1b[0m",
                    b"\x1b[K",
                    b"\x1b[?25l",
                    b"\x08",
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
        Any data gives the same text in pieces of any size, styled at the same places.
        """
        text, styled = in_pieces(data, size)
        self.assertEqual(text, plain_text(data))
        self.assertEqual(styled, in_pieces(data, len(data) + 1)[1])
        self.assertEqual(list(styled), sorted({*styled}))
        self.assertTrue(all(offset <= len(text) for offset in styled), styled)

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


class StyledTests(SynchronousTestCase):
    """
    Tests for `Transcript.styled`.
    """

    def styled(self, data: bytes) -> list[str]:
        """
        Return what follows on the same line at each place where the text of `data` is styled.
        """
        text, offsets = in_pieces(data, len(data))
        for size in range(1, len(data)):
            self.assertEqual(in_pieces(data, size), (text, offsets), size)
        return [text[offset:].partition("\n")[0] for offset in offsets]

    def test_markdown(self) -> None:
        """
        Text is styled where the renderer has changed it, and where that ends.
        """
        self.assertEqual(
            self.styled(b'{"a": "\x1b[1mbold\x1b[22m and \x1b[38;5;10mcode\x1b[0m"}'),
            ['bold"'[:4] + ' and code"}', ' and code"}', 'code"}', '"}'],
        )

    def test_ends_of_lines(self) -> None:
        """
        Resets at the end of a line are not style, even if a cursor appears there, but those
        within a line are.
        """
        self.assertEqual(
            self.styled(b"{\x1b[0m\x1b[0m\r\n}\x1b[0m\x1b[?25h\x1b[0m\r\n\x1b[m\r\n"), []
        )
        self.assertEqual(self.styled(b"{\x1b[0m\x1b[0m\r\n\x1b[0m}"), ["}"])

    def test_fence(self) -> None:
        """
        A code fence is styled before and after its content.
        """
        fence = b'\x1b[1mjson\r\n\x1b[0m\x1b[38;5;10m{"a":\r\n 1}\r\n\x1b[0m\x1b[0m\x1b[0m\r\n'
        self.assertEqual(self.styled(b"\x1b[0m" + fence + b"Well"), ["json", '{"a":'])

    def test_not_style(self) -> None:
        """
        Titles, modes and the usual character set are not style.
        """
        for sequence in [b"\x1b]0;title\x07", b"\x1b[?25l", b"\x1b(B\x0f", b"\x1b[>4;1m"]:
            self.assertEqual(self.styled(b"on" + sequence + b"e"), [])

    def test_moves(self) -> None:
        """
        Text is styled where something was erased, or the cursor moved or went back.
        """
        for sequence in [
            b"\x1b[K",
            b"\x1b[3D",
            b"\x1b[A",
            b"\x08",
            b"\x1b7",
            b"\x1b]8;;http://x\x07",
        ]:
            self.assertEqual(self.styled(b"1\r\non" + sequence + b"e"), ["e"])

    def test_hidden(self) -> None:
        """
        Text is styled where a character or a string is not shown, or shown as another.
        """
        for hidden in [
            b"\x7f",
            b"\x00",
            b"\x07",
            b"\x0c",
            b"\x0e",
            b"\x1b\xc3",
            b"\x1bPq\x1b\\",
            b"\x1b(0",
            b"\x1b]08;;http://x\x07",
        ]:
            for rest in [b"e", b"e\r\n"]:
                *_, last = self.styled(b"1\r\non" + hidden + rest)
                self.assertEqual(last.strip("\ufffd"), "e")

    def test_not_utf_8(self) -> None:
        """
        Text is styled where a byte is replaced, on complete lines and on the last one.
        """
        expected = ["\ufffdb", "\ufffdc"]
        self.assertEqual(self.styled("\ufffd\na".encode() + b"\xffb\r\n1\xfec"), expected)
        self.assertEqual(self.styled(b"\x1b(Ba\xffb\r\n1\xfec"), expected)

    def test_rewritten(self) -> None:
        """
        A rewritten line is styled at its beginning, and a line that only ends in CR is not.
        """
        for data in [b"two\rone", b"two\x1b[2K\x1b[1Gone", b"\x1b[1mt\x1b[1mwo\rone", b"a\rb\rone"]:
            self.assertEqual(self.styled(b"\r0\r\r\n" + data + b"\r\r\n"), ["one"])

    def test_characters(self) -> None:
        """
        The offsets count characters, also behind bytes that are not UTF-8.
        """
        data = "\r\nünï🎉".encode() + b"\xff\x1b[1m" + "ö\x1b[1mx".encode()
        self.assertEqual(in_pieces(data, 3)[1], (5, 6, 7))

    def test_incomplete(self) -> None:
        """
        A line that an incomplete sequence replaces is not styled where it was longer.
        """
        self.assertEqual(in_pieces(b"aa\x1b[32m\r\x1b[3", 20), ("3", ()))
