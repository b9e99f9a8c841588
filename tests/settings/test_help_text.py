"""
Tests for `kiroworkers.settings.help_text`.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.settings import GROUPS, options
from kiroworkers.settings.help_text import help_text
from kiroworkers.settings.option_types import any_text, boolean, seconds
from kiroworkers.settings.options import Option


def option(name: str, help_text: str, **fields: object) -> Option:
    """
    Return an option of the group `first`.
    """
    defaults = {
        "default_text": "",
        "type": any_text,
        "group": "first",
        "value_name": "TEXT",
        "is_boolean": False,
        "is_repeatable": False,
    }
    return Option(name=name, help_text=help_text, **{**defaults, **fields})  # type: ignore[arg-type]


class HelpTests(SynchronousTestCase):
    """
    Tests for `help_text`.
    """

    def test_layout(self) -> None:
        """
        Each option has its flag, its value's name, its summary and its default; those whose
        flag is long have the summary below it, and a default is never broken.
        """
        rows = (
            option("name", "Name of it. More about it is in the reference."),
            option("fast", "Do it fast.", type=boolean, is_boolean=True, default_text="no"),
            option(
                "a_long_timeout",
                "Time that it may take, in all cases.",
                type=seconds,
                value_name="SECONDS",
                default_text="1.5 h",
                group="second",
            ),
        )
        text = help_text(rows, {"first": "First", "second": "Second group"}, 60)
        expected = """
First [first]:
  --name TEXT         Name of it
  --fast              Do it fast

Second group [second]:
  --a-long-timeout SECONDS
                      Time that it may take, in all cases
                      [1.5 h]

Other:
  --version           Print the version and exit
  --help              Print this help and exit
"""
        self.assertTrue(text.endswith(expected), text)

    def test_width(self) -> None:
        """
        No line is longer than the terminal is wide, and none is longer than 100 characters.
        """
        for width, longest in [(10, 40), (40, 40), (80, 80), (1000, 100)]:
            lines = help_text(options(), GROUPS, width).splitlines()
            # A flag with its value stays in one piece.
            wide = [line for line in lines if len(line) > longest and not line.startswith("  --")]
            self.assertEqual(wide, [])
            self.assertGreater(max(map(len, lines)), longest - 10)

    def test_every_option(self) -> None:
        """
        Every option is listed once.
        """
        lines = help_text(options(), GROUPS, 80).splitlines()
        flags = [line.split()[0] for line in lines if line.startswith("  --")]
        self.assertEqual(flags, [*(option.flag for option in options()), "--version", "--help"])
