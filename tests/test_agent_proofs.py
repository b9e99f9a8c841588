"""
Tests for `docs.agent_proofs`.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from docs import agent_proofs


class PageTests(SynchronousTestCase):
    """
    Tests for the table of proven versions.
    """

    def test_page(self) -> None:
        """
        The page has the table that the package's reports give; if not, run
        ``python docs/agent_proofs.py``.
        """
        page = agent_proofs.PAGE.read_text(encoding="utf-8")
        self.assertEqual(page, agent_proofs.page())
