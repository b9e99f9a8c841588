"""
Tests for `docs.offline_examples`.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from docs import offline_examples


class PageTests(SynchronousTestCase):
    """
    Tests for the page with the offline agent's results.
    """

    def test_page(self) -> None:
        """
        The page has what the rules make of the ideas; if not, judge again and run
        ``python docs/offline_examples.py``.
        """
        page = offline_examples.PAGE.read_text(encoding="utf-8")
        self.assertEqual(page, offline_examples.page())
        self.assertEqual(len(offline_examples.EXAMPLES), 60)
