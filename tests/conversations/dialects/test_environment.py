"""
Tests for `kiroworkers.conversations.dialects.environment`.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.conversations import load_dialect
from kiroworkers.conversations.dialects.environment import passed

#: Secrets, by the agent that may know them.
SECRETS = {
    "kiro-classic": ("KIRO_API_KEY", "AMAZON_Q_SIGV4", "AWS_SECRET_ACCESS_KEY"),
    "kiro-tui": ("KIRO_API_KEY", "AMAZON_Q_SIGV4", "AWS_SECRET_ACCESS_KEY"),
    "kiro-acp": ("KIRO_API_KEY", "AMAZON_Q_SIGV4", "AWS_SECRET_ACCESS_KEY"),
    "gemini-acp": ("GEMINI_API_KEY", "GOOGLE_APPLICATION_CREDENTIALS"),
    "opencode-acp": ("OPENCODE_API_KEY",),
    "q": ("AMAZON_Q_SIGV4", "AWS_SECRET_ACCESS_KEY"),
    "llm": ("LLM_GEMINI_KEY", "OPENAI_API_KEY", "ANTHROPIC_API_KEY"),
    "offline": (),
}
OTHERS = ("GITHUB_TOKEN", "DATABASE_URL", "SSH_AUTH_SOCK", "PGPASSWORD")


class PassedTests(SynchronousTestCase):
    """
    Tests for `passed`.
    """

    def test_baseline(self) -> None:
        """
        Every agent knows whose it is, its language and the way to the network.
        """
        names = ("PATH", "HOME", "LC_ALL", "TZ", "XDG_CONFIG_HOME", "https_proxy", "SSL_CERT_FILE")
        inherited = dict.fromkeys(names, "x")
        self.assertEqual(passed(inherited, ()), inherited)

    def test_named(self) -> None:
        """
        What else there is passes by its name, or by a pattern.
        """
        inherited = {"A": "1", "B_X": "2", "B_Y": "3", "AB": "4"}
        self.assertEqual(set(passed(inherited, ["A", "B_*"])), {"A", "B_X", "B_Y"})

    def test_own_room(self) -> None:
        """
        No pattern brings in the server's terminal and its folder, which are not
        the session's.
        """
        inherited = dict.fromkeys(("COLUMNS", "LINES", "TMUX", "PWD", "OTHER"), "x")
        self.assertEqual(set(passed(inherited, ["*", "COLUMNS"])), {"OTHER"})

    def test_servers_own(self) -> None:
        """
        The server's own variables pass by no pattern, and those of its offline
        agent only by one of theirs.
        """
        inherited = dict.fromkeys(("KIROWORKERS_TOKEN_FILE", "KIROWORKERS_OFFLINE_DELAY"), "x")
        self.assertEqual(passed(inherited, ["*", "KIRO*", "KIROWORKERS_*"]), {})
        self.assertEqual(
            set(passed(inherited, ["KIROWORKERS_OFFLINE_*"])), {"KIROWORKERS_OFFLINE_DELAY"}
        )


class DialectTests(SynchronousTestCase):
    """
    The lists of the built-in dialects.
    """

    def test_secrets(self) -> None:
        """
        An agent gets its own secrets, and none that is only another's.
        """
        known = {name for names in SECRETS.values() for name in names}
        inherited = dict.fromkeys((*known, *OTHERS), "secret")
        for name, own in SECRETS.items():
            got = load_dialect(name).environment(inherited)
            self.assertEqual({each for each in got if got[each] == "secret"}, set(own), name)

    def test_any_program(self) -> None:
        """
        A program of the operator's gets all but the server's own.
        """
        inherited = dict.fromkeys((*OTHERS, "KIROWORKERS_TOKEN_FILE"), "x")
        got = load_dialect("generic").environment(inherited)
        self.assertEqual(set(got), {*OTHERS, "TERM"})
