"""
Tests for `docs.agent_proofs`.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from docs import agent_proofs
from kiroworkers.agents.dialects import AGENT_DIALECTS


class PageTests(SynchronousTestCase):
    """
    Tests for the tables of proven versions.
    """

    def test_page(self) -> None:
        """
        The page has the table that the package's reports give; if not, run
        ``python docs/agent_proofs.py``.
        """
        page = agent_proofs.PAGE.read_text(encoding="utf-8")
        self.assertEqual(page, agent_proofs.page())

    def test_readme(self) -> None:
        """
        README has a row for each agent, with the level that the package's reports give; if not,
        run ``python docs/agent_proofs.py``.
        """
        text = agent_proofs.README.read_text(encoding="utf-8")
        self.assertEqual(text, agent_proofs.readme())
        for name in AGENT_DIALECTS:
            if not name.startswith(("kiro-", "opencode-")):
                self.assertIn(f"``{name}``", agent_proofs.readme_table())
