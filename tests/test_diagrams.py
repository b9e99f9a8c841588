"""
Tests for `docs.diagrams`.
"""

from __future__ import annotations

import re

from twisted.trial.unittest import SynchronousTestCase

from docs import diagrams


class DiagramTests(SynchronousTestCase):
    """
    Tests for the diagrams in the documentation.
    """

    def test_page(self) -> None:
        """
        The page shows every machine as it is; if not, run ``python docs/diagrams.py``.
        """
        page = diagrams.PAGE.read_text(encoding="utf-8")
        self.assertEqual(page, diagrams.fill(page))
        shown = re.findall(r"^\.\. diagram: (\w+)$", page, re.M)
        self.assertEqual(sorted(shown), sorted(diagrams.DIAGRAMS))

    def test_draw(self) -> None:
        """
        Inputs with the same next state share an arrow, and the last arrow of a state has a
        corner; a state without a way out is drawn if it has a meaning.
        """
        transitions = [("a", "go", "b"), ("a", "run", "b"), ("a", "stop", "c"), ("b", "x", "a")]
        self.assertEqual(
            diagrams.draw(transitions, {"a": "First.", "c": "Last."}).splitlines(),
            [
                "a: First.",
                "  ├─ go, run ─▶ b",
                "  └─ stop ────▶ c",
                "",
                "c: Last.",
                "",
                "b",
                "  └─ x ───────▶ a",
            ],
        )
