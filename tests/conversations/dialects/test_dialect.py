"""
Tests for `kiroworkers.conversations.dialects.dialect`.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.conversations import load_dialect
from kiroworkers.conversations.dialects.dialect import version_in


class KiroTests(SynchronousTestCase):
    """
    Tests for the dialect of Kiro's classic interface.
    """

    def setUp(self) -> None:
        self.kiro = load_dialect("kiro-classic")

    def test_flags_by_version(self) -> None:
        """
        Each version gets the flags that it knows, and no version trusts a tool.
        """
        for version, flags in [
            ("kiro-cli 1.24.0", ()),
            ("kiro-cli 2.0.1", ("--legacy-ui",)),
            ("kiro-cli 2.11.0", ("--legacy-ui", "--agent-engine=v1")),
            ("no number", ("--legacy-ui", "--agent-engine=v1")),
        ]:
            self.assertEqual(
                self.kiro.command(version_in(version)),
                ("chat", *flags, "--wrap", "never", "--trust-tools="),
            )

    def test_options(self) -> None:
        """
        Options of the start come last, with their values as they are; braces in a value mean
        nothing.
        """
        self.assertEqual(
            self.kiro.command((2, 27), {"model": "a{agent}", "agent": "{model}"})[-4:],
            ("--model", "a{agent}", "--agent", "{model}"),
        )

    def test_since(self) -> None:
        """
        A version has an option if its dialect names one and the version is new enough.
        """
        acp = load_dialect("kiro-acp")
        self.assertTrue(acp.has_option("effort", (2, 4)))
        self.assertFalse(acp.has_option("effort", (2, 3, 9)))
        self.assertTrue(acp.has_option("effort", None))
        self.assertFalse(self.kiro.has_option("effort", None))

    def test_environment(self) -> None:
        """
        A session gets a plain terminal, and only such variables of the server's as are
        named.
        """
        environment = self.kiro.environment({"HOME": "/h", "NO_COLOR": "1", "X": "x"}, ["X"])
        self.assertEqual(environment["TERM"], "xterm-256color")
        self.assertEqual(environment["HOME"], "/h")
        self.assertEqual(environment["X"], "x")
        self.assertFalse("NO_COLOR" in environment)

    def test_offline_draws_the_same(self) -> None:
        """
        The offline agent's dialect differs from Kiro's only in what starts it.
        """
        offline = load_dialect("offline")
        self.assertEqual(offline.keys, self.kiro.keys)
        self.assertEqual(offline.clear, self.kiro.clear)
        self.assertEqual((offline.name, offline.start.program), ("offline", None))
        self.assertEqual(offline.command(None), ("-m", "kiroworkers.offline"))
