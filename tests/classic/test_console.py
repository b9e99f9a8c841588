"""
Tests for `kiroworkers.classic.console`.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.classic import drawing as classic
from kiroworkers.classic.console import Console
from kiroworkers.classic.editor import Signal


class ScriptedConsole(Console):
    """
    Read given lines, each followed by a Ctrl-C that arrives as a signal.

    Attributes:
        printed: Everything that was written.
        turns: The prompts of all turns that began.
    """

    def __init__(self, lines: Iterable[str | Signal]) -> None:
        super().__init__()
        self.printed: list[str | bytes] = []
        self.turns: list[str] = []
        self._lines = iter(lines)

    def read_line(self, prompt: str, hint: str = "") -> str | Signal:
        line = next(self._lines, Signal.END_OF_INPUT)
        if isinstance(line, str):
            signal.raise_signal(signal.SIGINT)
        return line

    def write(self, text: str | bytes) -> None:
        self.printed.append(text)

    def turn(self, text: str) -> None:
        self.turns.append(text)


class InterruptTests(SynchronousTestCase):
    """
    Tests for a Ctrl-C that `Console` receives as a signal.
    """

    def setUp(self) -> None:
        self.addCleanup(signal.signal, signal.SIGINT, signal.getsignal(signal.SIGINT))

    def test_between_editor_and_turn(self) -> None:
        """
        A Ctrl-C that arrives after a line was read and before its turn begins cancels that
        turn, and does not end the program.
        """
        console = ScriptedConsole(["one", "two"])
        self.assertEqual(console.run(), 0)
        self.assertEqual(console.turns, [])
        self.assertEqual(console.printed, ["", classic.CANCELLED, classic.CANCELLED])
