"""
Tests for `kiroworkers.classic.editor`.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.classic.editor import LineEditor, Signal


class EditorTests(SynchronousTestCase):
    """
    Tests for `LineEditor`.
    """

    def read(self, *reads: bytes) -> str | Signal | None:
        editor = LineEditor("> ")
        editor.open()
        outcome: str | Signal | None = None
        for data in reads:
            self.assertIsNone(outcome)
            _, outcome = editor.feed(data)
        return outcome

    def test_prompt_cycle(self) -> None:
        """
        The editor marks the beginning and the end of its reading as bracketed paste does,
        and draws the prompt and its hint in between.
        """
        editor = LineEditor("\x1b[35m> \x1b[0m", "What?")
        opened = editor.open()
        self.assertTrue(opened.endswith(b"> \x1b[0m\x1b[38;5;240mWhat?\x1b[m\r\x1b[2C"))
        self.assertIn(b"\x1b[?2004h\r\x1b[K", opened)
        drawn, outcome = editor.feed(b"hi\r")
        self.assertEqual(outcome, "hi")
        self.assertTrue(drawn.endswith(b"hi\r\x1b[4C\x1b[?2004l\n"))

    def test_enter(self) -> None:
        """
        CR submits, but not after a backslash or inside an open code fence; LF
        never does.
        """
        self.assertEqual(self.read(b"hi\r"), "hi")
        self.assertEqual(self.read(b"a\nb", b"\r"), "a\nb")
        self.assertEqual(self.read(b"a\\\r", b"b\r"), "a\\\nb")
        self.assertEqual(self.read(b"```x\r", b"```\r"), "```x\n```")

    def test_rest_of_a_read_is_lost(self) -> None:
        """
        Input after the submitting CR in the same read is lost.
        """
        self.assertEqual(self.read(b"hi\r/clear\r"), "hi")

    def test_paste(self) -> None:
        """
        A paste is text, including its newlines, however the reads cut its marks.
        """
        paste = b"\x1b[200~/quit\r\n\x03!ls\x1b[201~\r"
        expected = "/quit\n\x03!ls"
        self.assertEqual(self.read(paste), expected)
        self.assertEqual(self.read(*(bytes([byte]) for byte in paste)), expected)

    def test_keys(self) -> None:
        """
        Backspace, Ctrl-U and arrows edit; Ctrl-C and Ctrl-D end the reading.
        """
        self.assertEqual(self.read(b"ab\x7fc\r"), "ac")
        self.assertEqual(self.read(b"ab\x15c\r"), "c")
        self.assertEqual(self.read(b"a\x1b[Db\x1bOA\r"), "ab")
        self.assertIs(self.read(b"ab\x03"), Signal.INTERRUPTED)
        self.assertIs(self.read(b"\x04"), Signal.END_OF_INPUT)
        self.assertEqual(self.read(b"a\x04\r"), "a")

    @given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1))
    def test_any_text(self, text: str) -> None:
        """
        Any pasted text is read unchanged, also byte by byte.
        """
        text = text.replace("`", "'").rstrip("\\") + "."
        paste = b"\x1b[200~" + text.encode() + b"\x1b[201~"
        self.assertEqual(self.read(paste, b"\r"), text)
        self.assertEqual(self.read(*(bytes([byte]) for byte in paste), b"\r"), text)
