"""
Tests for `kiroworkers.conversations.dialects.environment`.
"""

from __future__ import annotations

from importlib.resources import files

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.conversations import load_dialect
from kiroworkers.conversations.dialects.environment import filter_environment

#: Secrets, by the agent that may know them.
SECRETS = {
    "kiro-classic": ("KIRO_API_KEY", "AMAZON_Q_SIGV4", "AWS_SECRET_ACCESS_KEY"),
    "kiro-tui": ("KIRO_API_KEY", "AMAZON_Q_SIGV4", "AWS_SECRET_ACCESS_KEY"),
    "kiro-acp": ("KIRO_API_KEY", "AMAZON_Q_SIGV4", "AWS_SECRET_ACCESS_KEY"),
    "gemini-acp": ("GEMINI_API_KEY", "GOOGLE_APPLICATION_CREDENTIALS"),
    "opencode-acp": ("OPENCODE_API_KEY",),
    "q": ("AMAZON_Q_SIGV4", "AWS_SECRET_ACCESS_KEY"),
    "claude": ("ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN"),
    "copilot": ("COPILOT_GITHUB_TOKEN",),
    "codex": ("CODEX_API_KEY", "OPENAI_API_KEY"),
    "llm": ("LLM_GEMINI_KEY", "OPENAI_API_KEY", "ANTHROPIC_API_KEY"),
    "offline": (),
}
UNRELATED = ("GITHUB_TOKEN", "DATABASE_URL", "SSH_AUTH_SOCK", "PGPASSWORD")


class FilterEnvironmentTests(SynchronousTestCase):
    """
    Tests for `filter_environment`.
    """

    def test_baseline(self) -> None:
        """
        Every agent gets the variables for its user, its language and the network.
        """
        names = ("PATH", "HOME", "LC_ALL", "TZ", "XDG_CONFIG_HOME", "https_proxy", "SSL_CERT_FILE")
        inherited = dict.fromkeys(names, "x")
        self.assertEqual(filter_environment(inherited, ()), inherited)

    def test_named(self) -> None:
        """
        Other variables are passed by their names, or by a pattern.
        """
        inherited = {"A": "1", "B_X": "2", "B_Y": "3", "AB": "4"}
        self.assertEqual(set(filter_environment(inherited, ["A", "B_*"])), {"A", "B_X", "B_Y"})

    def test_terminal_variables(self) -> None:
        """
        No pattern passes on the variables of the server's terminal and folder, because a
        session has its own.
        """
        inherited = dict.fromkeys(("COLUMNS", "LINES", "TMUX", "PWD", "OTHER"), "x")
        self.assertEqual(set(filter_environment(inherited, ["*", "COLUMNS"])), {"OTHER"})

    def test_service_variables(self) -> None:
        """
        No pattern passes on the variables with which systemd addresses the server: an agent
        that had them could report that the server is alive.
        """
        inherited = dict.fromkeys(
            ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "OTHER"), "x"
        )
        patterns = ["*", "NOTIFY_SOCKET", "WATCHDOG_*"]
        self.assertEqual(set(filter_environment(inherited, patterns)), {"OTHER"})

    def test_servers_own(self) -> None:
        """
        No pattern passes on the server's own options, except that the offline agent's are
        passed by a pattern of theirs.
        """
        inherited = dict.fromkeys(("KIROWORKERS_TOKEN_FILE", "KIROWORKERS_OFFLINE_DELAY"), "x")
        self.assertEqual(filter_environment(inherited, ["*", "KIRO*", "KIROWORKERS_*"]), {})
        self.assertEqual(
            set(filter_environment(inherited, ["KIROWORKERS_OFFLINE_*"])),
            {"KIROWORKERS_OFFLINE_DELAY"},
        )


class DialectTests(SynchronousTestCase):
    """
    Tests for the variables of the built-in dialects.
    """

    def test_secrets(self) -> None:
        """
        An agent gets its own secrets, and none that belong only to another agent.
        """
        known = {name for names in SECRETS.values() for name in names}
        inherited = dict.fromkeys((*known, *UNRELATED), "secret")
        for name, own in SECRETS.items():
            environment = load_dialect(name).environment(inherited)
            self.assertEqual(
                {variable for variable in environment if environment[variable] == "secret"},
                set(own),
                name,
            )

    def test_model_server(self) -> None:
        """
        An agent gets every variable that leads it to another model server as its dialect gives
        it, and no dialect sets another value.
        """
        for path in files("kiroworkers.conversations.dialects").iterdir():
            if not path.name.endswith(".toml"):
                continue
            dialect = load_dialect(path.name.removesuffix(".toml"))
            if dialect.model_server is not None:
                names = set(dialect.model_server.environment)
                environment = dialect.environment(dict.fromkeys(names, "given"))
                got = {name for name, value in environment.items() if value == "given"}
                self.assertEqual(got, names, path.name)

    def test_any_program(self) -> None:
        """
        A program of the operator's choice gets everything except the server's own options.
        """
        inherited = dict.fromkeys((*UNRELATED, "KIROWORKERS_TOKEN_FILE"), "x")
        environment = load_dialect("generic").environment(inherited)
        self.assertEqual(set(environment), {*UNRELATED, "TERM"})
