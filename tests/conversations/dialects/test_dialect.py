"""
Tests for `kiroworkers.conversations.dialects.dialect`.
"""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.conversations import BadDialect, load_dialect, read_dialect
from kiroworkers.conversations.dialects.dialect import StateDir, version_in


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
        self.assertEqual((offline.name, offline.program), ("offline", None))
        self.assertEqual(offline.command(None), ("-m", "kiroworkers.offline"))


class FileTests(SynchronousTestCase):
    """
    Tests for `read_dialect`.
    """

    def write(self, text: str) -> Path:
        path = Path(self.mktemp() + ".toml")
        path.write_text(text)
        return path

    def test_builtin(self) -> None:
        """
        The built-in dialects are valid by the rules for users' files.
        """
        for name in ("kiro-classic", "kiro-tui", "q", "offline", "generic", "llm"):
            dialect = read_dialect(self.write(f'extends = "{name}"'))
            self.assertEqual(dialect, load_dialect(name))

    def test_extends(self) -> None:
        """
        A file takes the tables that it does not give from the dialect that it extends.
        """
        dialect = read_dialect(
            self.write(
                'extends = "kiro-classic"\nname = "mine"\n'
                "[start]\nprogram = \"my-kiro\"\narguments = ['chat', '--fast']\n"
                '[[trouble]]\nkind = "throttled"\ntext = "slow down"\n'
            )
        )
        self.assertEqual((dialect.name, dialect.program), ("mine", "my-kiro"))
        self.assertEqual(dialect.command(None), ("chat", "--fast"))
        self.assertEqual([pattern.kind for pattern in dialect.failures], ["throttled"])
        self.assertEqual(dialect.keys, load_dialect("kiro-classic").keys)

    def test_environment(self) -> None:
        """
        A file names the variables to pass on and the directories that each session needs
        for itself; by default only the variables are passed that every agent gets.
        """
        dialect = read_dialect(
            self.write(
                'extends = "kiro-classic"\n[environment]\nset = {}\n'
                '[[state]]\nvariable = "MY_HOME"\ndefault = ".my"\nlink = ["auth.json"]\n'
            )
        )
        self.assertEqual(dialect.environment({"KIRO_API_KEY": "x", "HOME": "/h"}), {"HOME": "/h"})
        self.assertEqual(dialect.state_dirs, (StateDir("MY_HOME", ".my", (), ("auth.json",)),))

    def test_wrong(self) -> None:
        """
        An error names the file and the key.
        """
        for text, reason in [
            ("name = ", "Invalid value"),
            ('name = "x"', "label is required"),
            ('extends = "other"', "no built-in dialect 'other'"),
            ('extends = "../q"', "no built-in dialect '../q'"),
            ('extends = "q"\ncolour = 1', "may not have 'colour'"),
            ('extends = "q"\n[answer]\nprefix = "("', "answer.prefix must be a regular expression"),
            ("extends = \"q\"\n[answer]\nprefix = '\\u1234'", "answer.prefix must be a regular"),
            ('extends = "q"\n[answer]\nsuffix = "("', "answer may not have 'suffix'"),
            ('extends = "q"\n[keys]\nsubmit = "x"', "keys.interrupt is required"),
            ('extends = "q"\n[signs]\nidle = {}', "signs.busy is required"),
            ('extends = "q"\n[screen]\nrows = 0\ncolumns = 80', "screen.rows must be at least 2"),
            ('extends = "q"\n[start]\narguments = "chat"', "start.arguments must be a list"),
            ('extends = "q"\n[start]\narguments = ["a\\u0000"]', "start.arguments[0] does not"),
            ('extends = "q"\n[environment]\nset = {X = "\\u0000"}', "environment.set.X does"),
            ('extends = "q"\n[environment]\nset = {"A=B" = "x"}', "environment.set does not"),
            (
                'extends = "acp"\n[keys]\nsubmit="x"\ninterrupt="y"',
                "keys is not allowed with acp",
            ),
            (
                'name = "x"\nlabel = "x"\n[start]\narguments = []\n[environment]\nset = {}\n'
                '[line]\nprompt = "x"',
                "screen is required",
            ),
            ('extends = "q"\n[environment]\nset = {}\nunset = ["X"]', "may not have 'unset'"),
            ('extends = "q"\n[environment]\nset = {}\npass = ["A B"]', "environment.pass[0] does"),
            ('extends = "q"\n[[state]]\nvariable = "X"', "state[0].default is required"),
            (
                'extends = "q"\n[[state]]\nvariable = "X"\ndefault = "x"\ncopy = ["a", "./a"]',
                "state[0] names a variable or a file twice",
            ),
            (
                'extends = "q"' + '\n[[state]]\nvariable = "X"\ndefault = "x"' * 2,
                "state[1] names a variable or a file twice",
            ),
            (
                'extends = "q"\n[[state]]\nvariable = "X"\ndefault = "x"\ncopy = ["a\\u0000"]',
                "state[0].copy[0] must be a path inside",
            ),
            ('extends = "q"\nname = "odd\\n"', "name does not fit"),
            (
                'extends = "q"\n[[state]]\nvariable = "X"\ndefault = "/x"',
                "state[0].default must be a path inside the folder: '/x' leads outside",
            ),
            (
                'extends = "q"\n[[state]]\nvariable = "X"\ndefault = "x"\ncopy = ["a/../../b"]',
                "state[0].copy[0] must be a path inside",
            ),
            ('extends = "q"\n[[trouble]]\nkind = "bad"\ntext = "x"', "trouble[0].kind must be one"),
        ]:
            path = self.write(text)
            with self.assertRaises(BadDialect) as raised:
                read_dialect(path)
            self.assertIn(str(path), str(raised.exception))
            self.assertIn(reason, str(raised.exception))

    def test_acp(self) -> None:
        """
        An agent that speaks ACP has no terminal, whatever its dialect extends.
        """
        dialect = read_dialect(self.write('extends = "kiro-classic"\n[acp]'))
        self.assertEqual((dialect.transport, dialect.window), ("acp", None))
        self.assertEqual((dialect.clear, dialect.approval, dialect.menus), (None, None, ()))
        self.assertEqual(dialect.program, "kiro-cli")

    def test_no_file(self) -> None:
        """
        An error about a missing file names the file.
        """
        with self.assertRaises(BadDialect) as raised:
            read_dialect(Path("/nowhere/mine.toml"))
        self.assertIn("/nowhere/mine.toml", str(raised.exception))
