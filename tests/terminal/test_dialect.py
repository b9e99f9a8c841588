"""
Tests for `kiroworkers.terminal.dialect`.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.terminal.dialect import load_dialect, version_in


class KiroTests(SynchronousTestCase):
    """
    Tests for the dialect of Kiro's classic interface.
    """

    def setUp(self) -> None:
        self.kiro = load_dialect("kiro-classic")

    def test_flags_by_version(self) -> None:
        """
        A version is passed the flags it knows, and no tool is trusted by any.
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

    def test_environment(self) -> None:
        """
        A session sees a plain terminal, and keeps the rest of the environment.
        """
        environment = self.kiro.environment({"HOME": "/h", "NO_COLOR": "1", "TMUX": "x"})
        self.assertEqual(environment["TERM"], "xterm-256color")
        self.assertEqual(environment["HOME"], "/h")
        self.assertFalse({"NO_COLOR", "TMUX"} & set(environment))

    def test_offline_draws_the_same(self) -> None:
        """
        The offline agent's dialect is Kiro's but for what starts it.
        """
        offline = load_dialect("offline")
        self.assertEqual(offline.prompt_open, self.kiro.prompt_open)
        self.assertEqual(offline.clear, self.kiro.clear)
        self.assertEqual((offline.name, offline.program), ("offline", None))
        self.assertEqual(offline.command(None), ("-m", "kiroworkers.offline"))
