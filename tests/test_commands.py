"""
Tests for `docs.commands`.
"""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from docs import commands


class PageTests(SynchronousTestCase):
    """
    Tests for the page of commands.
    """

    def test_page(self) -> None:
        """
        The page has the help of every command; if not, run
        ``python docs/commands.py > docs/commands.rst``.
        """
        page = Path(commands.__file__).with_suffix(".rst").read_text(encoding="utf-8")
        self.assertEqual(page, commands.page())
        for title in ("serve", "ask", "task check", "dialect new"):
            self.assertIn(f"\nkiroworkers {title}\n", page)
