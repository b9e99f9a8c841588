"""
Tests for `kiroworkers.conversations.terminal.typed_text`.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.conversations.terminal.typed_text import TypedText


class TypedTextTests(SynchronousTestCase):
    """
    Tests for `TypedText`.
    """

    def test_drawn(self) -> None:
        """
        A text is drawn when its end is, wherever the line editor breaks its lines.
        """
        typed = TypedText()
        typed.type("a long text " * 50 + "and its\nend")
        for output, drawn in [(b"\r\x1b[K> and i", False), (b"ts\r\nen", False), (b"d", False)]:
            typed.draw(output)
            self.assertIs(typed.is_drawn, drawn)
        typed.draw(b"\r\x1b[K> " + b"a long\r\n text " * 50 + b"and its\r\nend\r\x1b[3C")
        self.assertTrue(typed.is_drawn)
        typed.draw(b" and a hint")
        self.assertFalse(typed.is_drawn)

    def test_forgotten(self) -> None:
        """
        Nothing is drawn of a text that was submitted.
        """
        typed = TypedText()
        typed.type("text")
        typed.draw(b"text")
        self.assertTrue(typed.is_drawn)
        typed.forget()
        self.assertFalse(typed.is_drawn)
