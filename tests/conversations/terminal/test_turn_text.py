"""
Tests for `kiroworkers.conversations.terminal.turn_text`.
"""

from __future__ import annotations

import re

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.conversations.terminal.turn_text import TurnText, number_in

SUFFIX = re.compile(r"(?m)^cost (?P<credits>[0-9.]+)$")


class TurnTextTests(SynchronousTestCase):
    """
    Tests for `TurnText`.
    """

    def test_finish(self) -> None:
        """
        The text ends before the suffix and the white space around it, with what it cost.
        """
        for output, text, credits in [
            (b"one\r\n\r\ncost 0.5\r\n\r\n", "one", 0.5),
            (b"cost 1\r\ntwo  \r\ncost 2", "cost 1\ntwo", 2),
            (b"cost 1\r\nthree", "cost 1\nthree", None),
            (b"", "", None),
        ]:
            turn = TurnText(SUFFIX)
            turn.add(output)
            self.assertEqual(turn.finish(), (text, ()))
            self.assertEqual(turn.credits, credits)

    def test_release(self) -> None:
        """
        A possible suffix, and blank lines before it, are held back until a line follows.
        """
        turn = TurnText(SUFFIX)
        turn.add(b"one\r\n\r\ncost 1\r\ntwo\r\nthree\r\ncost 2\r\n")
        released = [turn.release(line) for line in turn.convert()]
        self.assertEqual(released, ["one", "", "", "\n\ncost 1\ntwo", "\nthree", ""])
        text, _ = turn.finish()
        self.assertEqual(text, "one\n\ncost 1\ntwo\nthree")
        self.assertEqual(turn.unreleased(text), "")

    def test_styled(self) -> None:
        """
        Styles of the suffix are not among those of the text.
        """
        turn = TurnText(SUFFIX)
        turn.add(b"a\x1b[1mb\r\n\x1b[2mcost\x1b[1m 1\r\n")
        self.assertEqual(turn.finish(), ("ab", (1,)))


class NumberTests(SynchronousTestCase):
    """
    Tests for `number_in`.
    """

    def test_numbers(self) -> None:
        """
        A number is one, and anything else is not, such as one that is infinite as a float.
        """
        numbers = [number_in(text) for text in ("16", "0.05", "1.2.3", "", "\u0661", "1e9", None)]
        self.assertEqual(numbers, [16, 0.05, None, None, None, None, None])
        self.assertIsNone(number_in("9" * 400))
