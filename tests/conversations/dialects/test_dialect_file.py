"""
Tests for `kiroworkers.conversations.dialects.dialect_file`.
"""

from __future__ import annotations

import json
import runpy
import tomllib
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.conversations import BadDialect, load_dialect, read_dialect
from kiroworkers.conversations.dialects.dialect import Acp, StateDir
from tests.programs import ROOT

#: The built-in dialects: their names, and what is in their files.
BUILTIN = {
    path.name.removesuffix(".toml"): tomllib.loads(path.read_text(encoding="utf-8"))
    for path in files("kiroworkers.conversations.dialects").iterdir()
    if path.name.endswith(".toml")
}

#: Tables that no built-in dialect has, or not with every key.
EXAMPLE: dict[str, Any] = {
    "extends": "kiro-classic",
    "line": {"prompt": "^> $", "quiet": 0.5},
    "keys": {"submit": "\r", "interrupt": "\x03", "empty": "\x15", "apart": True},
    "approval": {
        "question": "Allow",
        "deny": [{"question": "No", "keys": "\r"}],
        "allow": [{"question": "Yes", "keys": "\r"}],
    },
    "start": {
        "arguments": ["chat"],
        "model": ["--model={model}"],
        "effort": ["--effort", "{effort}"],
        "agent": ["--agent", "{agent}"],
        "option-since": {"model": "1.2", "effort": "1.3", "agent": "1.4"},
        "since": "1.0",
        "served-since": "1.1",
        "login": ["whoami"],
        "logged-out": "nobody",
        "help": ["--help"],
        "gone": "gone",
    },
    "tools": {"used": "Used (?P<title>.*)", "command": "^Using "},
    "minimal": {
        "name": "a",
        "variable": "A_HOME",
        "default": ".a",
        "files": {"b/a.json": "{}"},
        "meta": "{}",
    },
    "model-server": {"environment": {"A_URL": "$url/v1"}, "files": {"a/b": "$home $$"}},
    "answer": {"prefix": "> ", "suffix": "took", "layout": "lines", "journal": ".kiro"},
    "state": [{"variable": "A_HOME", "default": ".a", "copy": ["c"], "link": ["d", "e"]}],
    "menu": [{"question": "a", "keys": "b"}, {"question": "c", "keys": "d"}],
}

#: A value of each kind that TOML has, and texts that are no pattern, path, version or name.
ODD_VALUES: tuple[Any, ...] = (
    *(0, -1, 10**30, 1.5, float("nan"), float("inf"), True),
    *("", "(", "\0", "/x", "a/../..", "A=B", "\n", "3", "x" * 400),
    *([], [[]], [1], [""], ["("], [{}], {}, {"x": 1}, {"A=B": "x"}),
)


def toml(value: Any) -> str:
    """
    Return `value` as a TOML value on one line.
    """
    match value:
        case dict():
            return f"{{{', '.join(f'{json.dumps(key)} = {toml(value[key])}' for key in value)}}}"
        case list():
            return f"[{', '.join(map(toml, value))}]"
        case float():
            return str(value)
        case _:
            return json.dumps(value)


def changes(value: Any, table: str = "") -> Iterator[tuple[str, Any]]:
    """
    Yield what `value` becomes if one key in it is changed, each with the kind of change.

    Args:
        value: A table, or a value in a table.
        table: The key of the table.
    """
    match value:
        case list():
            for index, item in enumerate(value):
                for kind, changed in changes(item):
                    yield kind, [*value[:index], changed, *value[index + 1 :]]
        case dict():
            for key, item in value.items():
                others = {name: other for name, other in value.items() if name != key}
                yield "removed", others
                # Any name of a variable or a file is good.
                free = table in ("set", "files", "model-server.files", "model-server.environment")
                yield "renamed" if free else "misspelled", {**others, f"{key}x": item}
                for odd in ODD_VALUES:
                    yield "mistyped", {**others, key: odd}
                path = f"{table}.{key}" if table == "model-server" else key
                for kind, changed in changes(item, path):
                    yield kind, {**others, key: changed}


CHANGES = [change for document in (*BUILTIN.values(), EXAMPLE) for change in changes(document)]


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
        for name in BUILTIN:
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
        self.assertEqual((dialect.name, dialect.start.program), ("mine", "my-kiro"))
        self.assertEqual(dialect.command(None), ("chat", "--fast"))
        self.assertEqual(dialect.keys, load_dialect("kiro-classic").keys)

    def test_failures(self) -> None:
        """
        The failures that a file names come before those of the dialect that it extends.
        """
        dialect = read_dialect(
            self.write('extends = "kiro-classic"\n[[trouble]]\nkind = "throttled"\ntext = "slow"\n')
        )
        inherited = [pattern.text.pattern for pattern in load_dialect("kiro-classic").failures]
        texts = [pattern.text.pattern for pattern in dialect.failures]
        self.assertEqual(texts, ["slow", *inherited])

    def test_engine(self) -> None:
        """
        An ACP agent has the engine that its file names, or none in particular.
        """
        dialect = read_dialect(self.write('extends = "acp"\n[acp]\nengine = "v3"'))
        self.assertEqual(dialect.acp, Acp("v3"))
        self.assertEqual(load_dialect("acp").acp, Acp(""))

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

    def test_model_server(self) -> None:
        """
        A file takes the way to another model server from the dialect that it extends, unless
        it says by an empty table that there is none.
        """
        inherited = read_dialect(self.write('extends = "codex"'))
        self.assertIsNotNone(inherited.model_server)
        without = read_dialect(self.write('extends = "codex"\n[model-server]'))
        self.assertIsNone(without.model_server)

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
            (
                'extends = "q"\n[answer]\nprefix = "[z-\\n]"',
                "answer.prefix must be a regular expression: bad character range z-\\n at",
            ),
            ('extends = "q"\n[line]\nprompt = "(?\\u001b)"', r"unknown extension ?\x1b at"),
            ('extends = "q"\n[answer]\nsufix = "("', "answer may not have 'sufix'"),
            (
                'extends = "q"\n[start]\narguments = []\nmodel = ["-m"]',
                "start model must have {model} in one of its arguments",
            ),
            (
                'extends = "q"\n[tools]\nused = "Used (.*)"',
                "tools used must have a group named title",
            ),
            (
                'extends = "q"\n[start]\narguments = []\ngone = "x"',
                "start gone requires help",
            ),
            ('extends = "acp"\n[acp]\nengine = "v1"', "acp.engine must be one of v2, v3"),
            ('extends = "acp"\n[tools]\nused = "(?P<title>.)"', "tools is not allowed with acp"),
            (
                'extends = "q"\n[minimal]\nname = "a"\nvariable = "A"\ndefault = "a"\nmeta = "[]"',
                "minimal.meta must be a JSON object",
            ),
            (
                'extends = "q"\n[minimal]\nname = "a"\nvariable = "A"\ndefault = "a"\n'
                'files = {"../b" = ""}',
                "must be a relative path that stays inside",
            ),
            ('extends = "q"\n[keys]\nsubmit = "x"', "keys.interrupt is required"),
            ('extends = "q"\n[signs]\nidle = {}', "signs.busy is required"),
            (
                'extends = "q"\n[screen]\nrows = 0\ncolumns = 80',
                "screen.rows must be between 2 and",
            ),
            ('extends = "q"\n[start]\narguments = "chat"', "start.arguments must be a list"),
            (
                'extends = "q"\n[start]\narguments = ["a\\u0000"]',
                "start.arguments[0] must not contain NUL",
            ),
            (
                'extends = "q"\n[environment]\nset = {X = "\\u0000"}',
                "environment.set.X must not contain NUL",
            ),
            (
                'extends = "q"\n[environment]\nset = {"A=B" = "x"}',
                "environment.set.'A=B' must be a name without =",
            ),
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
            (
                'extends = "q"\n[environment]\nset = {}\npass = ["A B"]',
                "environment.pass[0] must be the name",
            ),
            ('extends = "q"\n[[state]]\nvariable = "X"', "state[0].default is required"),
            (
                'extends = "q"\n[[state]]\nvariable = "X"\ndefault = "x"\ncopy = ["a", "./a"]',
                "state[0] names a file twice",
            ),
            (
                'extends = "q"' + '\n[[state]]\nvariable = "X"\ndefault = "x"' * 2,
                "state[1] names the variable X a second time",
            ),
            (
                'extends = "q"\n[[state]]\nvariable = "X"\ndefault = "x"\ncopy = ["a\\u0000"]',
                "state[0].copy[0] must be a relative path",
            ),
            ('extends = "q"\nname = "odd\\n"', "name must be at most 64 lower-case letters"),
            (
                'extends = "q"\n[[state]]\nvariable = "X"\ndefault = "/x"',
                "state[0].default must be a relative path that stays inside",
            ),
            (
                'extends = "q"\n[[state]]\nvariable = "X"\ndefault = "x"\ncopy = ["a/../../b"]',
                "state[0].copy[0] must be a relative path",
            ),
            ('extends = "q"\n[[trouble]]\nkind = "bad"\ntext = "x"', "trouble[0].kind must be one"),
            ('extends = "q"\nkeys = []', "keys must be a table, not a list"),
            ('extends = "q"\nmenu = [1]', "menu[0] must be a table, not an integer"),
            (
                'extends = "q"' + '\n[[menu]]\nquestion = "x"\nkeys = ""' * 2,
                "menu[0].keys must not be empty",
            ),
            (
                'extends = "q"\nmenu = [{question = "x", keys = "x"}, {question = "x"}]',
                "menu[1].keys is required",
            ),
            (
                'extends = "q"\n[approval]\nquestion = "x"\ndeny = [{question = "(", keys = "x"}]',
                "approval.deny[0].question must be a regular expression: missing )",
            ),
            (
                'extends = "q"\n[approval]\nquestion = "x"\ndeny = 2020-01-01',
                "approval.deny must be a string or a list, not a date or time",
            ),
            ('extends = "q"\n[answer]\nlayout = "x"', "must be one of compact, lines"),
            (
                'extends = "q"\n[start]\narguments = []\nuntil = "3"',
                "start.until must be a version, such as 2.11",
            ),
            (
                'extends = "q"\n[signs]\nidle = {}\nbusy = {title = "x"}\noutput = "x"',
                "signs.idle must have at least one of the keys screen, title and state",
            ),
            ('extends = "q"\n[line]\npromtp = "x"', "line may not have 'promtp'"),
            ('extends = "q"\n[line]\nprompt = "x"\nquiet = nan', "line.quiet must be above 0 and"),
            (
                'extends = "q"\n[line]\nprompt = "x"\n[acp]',
                "exactly one of the tables prompt, line, signs, acp is required",
            ),
            (
                'extends = "q"\n[model-server.environment]\nA = "$port"',
                "a dollar sign must be $$ or begin one of $answers, $folder, $home, $url",
            ),
            ("x = " + "1" * 5000, "Exceeds the limit"),
            ("x = " + "[" * 5000, "recursion"),
        ]:
            path = self.write(text)
            with self.assertRaises(BadDialect) as raised:
                read_dialect(path)
            message = str(raised.exception)
            self.assertTrue(message.startswith(f"{path}: "), message)
            self.assertIn(reason, message)
            self.assertNotIn("\n", message)

    def test_acp(self) -> None:
        """
        An agent that speaks ACP has no terminal, whatever its dialect extends.
        """
        dialect = read_dialect(self.write('extends = "kiro-classic"\n[acp]'))
        self.assertEqual((dialect.transport, dialect.window), ("acp", None))
        self.assertEqual((dialect.clear, dialect.approval, dialect.menus), (None, None, ()))
        self.assertEqual(dialect.start.program, "kiro-cli")

    def test_no_file(self) -> None:
        """
        An error about a missing file names the file.
        """
        with self.assertRaises(BadDialect) as raised:
            read_dialect(Path("/nowhere/mine.toml"))
        self.assertIn("/nowhere/mine.toml", str(raised.exception))

    @given(st.sampled_from(CHANGES))
    def test_any_change(self, change: tuple[str, Any]) -> None:
        """
        A file with one key removed, misspelled or of a wrong type is read, or rejected
        with one line that names the file.
        """
        kind, document = change
        path = self.write("".join(f"{key} = {toml(document[key])}\n" for key in document))
        try:
            read_dialect(path)
        except BadDialect as error:
            file, _, reason = str(error).partition(": ")
            self.assertEqual(file, str(path))
            self.assertNotRegex(reason, r"\n|<|None|object")
            self.assertLessEqual(len(reason), 300)
        else:
            self.assertNotEqual(kind, "misspelled", document)


class PageTests(SynchronousTestCase):
    """
    Tests for `docs/dialect-keys.rst`.
    """

    def test_page(self) -> None:
        """
        The page has the keys that are declared; if not, print it again:
        ``python docs/dialect_keys.py > docs/dialect-keys.rst``.
        """
        docs = ROOT / "docs"
        page = runpy.run_path(str(docs / "dialect_keys.py"))["page"]()
        self.assertEqual((docs / "dialect-keys.rst").read_text(encoding="utf-8"), page)
