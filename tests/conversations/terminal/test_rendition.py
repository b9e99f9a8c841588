"""
Tests for `kiroworkers.conversations.terminal.rendition`.
"""

from __future__ import annotations

from functools import reduce

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.conversations.terminal.rendition import PLAIN, next_rendition


def after(*parameters: str) -> str:
    """
    Return the rendition of text after sequences with `parameters`.
    """
    return reduce(next_rendition, parameters, PLAIN)


class RenditionTests(SynchronousTestCase):
    """
    Tests for `next_rendition`.
    """

    def test_reset(self) -> None:
        """
        Text is plain again when all that was set is turned off, in whatever way.
        """
        for off in ("0", "", "22;39", "21;24;22;39;49", "00"):
            self.assertEqual(after("1", "38;2;1;2;3;49", off), PLAIN, off)

    def test_attributes(self) -> None:
        """
        Each attribute changes the rendition until its own code turns it off.
        """
        for on, off in (("1", "22"), ("2", "22"), ("3", "23"), ("4", "24"), ("7", "27")):
            self.assertNotEqual(after("31", on), after("31"), on)
            self.assertEqual(after("31", on, off), after("31"), on)
        self.assertEqual(after("4:3", "4:0"), PLAIN)

    def test_colours(self) -> None:
        """
        The numbers of a colour are no attributes, and the same colour is the same rendition.
        """
        self.assertEqual(after("38;5;1", "39"), PLAIN)
        self.assertEqual(after("38;2;1;3;4", "39"), PLAIN)
        self.assertEqual(after("38;5;4;1", "39"), after("1"))
        self.assertEqual(after("58;2;1;3;4"), PLAIN)
        self.assertEqual(after("38;5;1", "39", "38;5;1"), after("38;5;1"))
        self.assertNotEqual(after("38;5;1"), after("48;5;1"))
        self.assertNotEqual(after("38:2::1:2:3"), after("38:2::1:2:4"))

    def test_nonsense(self) -> None:
        """
        Codes that mean nothing change nothing.
        """
        for parameters in ("999", "38", "38;9", "38;2;1", "?", "1" * 10_000):
            self.assertEqual(after(parameters, "39"), PLAIN, parameters)
