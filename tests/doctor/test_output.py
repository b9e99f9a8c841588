"""
Tests for `kiroworkers.doctor.output`.
"""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.doctor.finding import failure, has_failed, ok, skipped, warning
from kiroworkers.doctor.output import as_json, line, summary

_FINDINGS = [
    ok("python", "3.13"),
    warning("user", "root", "Use another"),
    failure("agent", "it said\n\x1b[2J", "Install it"),
    skipped("session", "--no-start"),
]


class OutputTests(SynchronousTestCase):
    """
    Tests for how findings are written.
    """

    def test_lines(self) -> None:
        """
        Each finding is one aligned line without control characters, and ends with the advice.
        """
        self.assertEqual(
            [line(finding, 8, colour=False) for finding in _FINDINGS],
            [
                "ok       python    3.13",
                "warning  user      root. Use another",
                r"FAILED   agent     it said\n\x1b[2J. Install it",
                "skipped  session   --no-start",
            ],
        )

    def test_colour(self) -> None:
        """
        Only the outcome is coloured, so that the columns stay aligned.
        """
        self.assertEqual(
            line(_FINDINGS[2], 8, colour=True),
            "\x1b[31mFAILED \x1b[0m" + r"  agent     it said\n\x1b[2J. Install it",
        )

    def test_json(self) -> None:
        """
        The JSON has every finding, and whether none is a failure.
        """
        document = json.loads(as_json(_FINDINGS))
        self.assertIs(document["ok"], False)
        self.assertEqual(
            document["checks"][1],
            {
                "check": "user",
                "outcome": "warning",
                "detail": "root",
                "advice": "Use another",
            },
        )
        self.assertIs(json.loads(as_json(_FINDINGS[:2]))["ok"], True)

    def test_summary(self) -> None:
        """
        The last line counts failures and warnings; a warning is no failure.
        """
        self.assertEqual(summary(_FINDINGS), "1 failed, 1 warning")
        self.assertEqual(summary(_FINDINGS[:1]), "no problems found")
        self.assertIs(has_failed(_FINDINGS), True)
        self.assertIs(has_failed(_FINDINGS[:2]), False)
