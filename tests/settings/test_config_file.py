"""
Tests for `kiroworkers.settings.config_file`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.settings import options
from kiroworkers.settings.config_file import (
    MAX_BYTES,
    ConfigFile,
    InvalidConfig,
    load_config,
    parse_config,
)
from kiroworkers.settings.option_types import AgentCount


def parse(text: str, folder: Path = Path("/")) -> ConfigFile:
    """
    Return the content of a file with `text` in `folder`.
    """
    return parse_config(text.encode(), folder, options())


class ValueTests(SynchronousTestCase):
    """
    Tests for files that can be used.
    """

    def values(self, text: str) -> dict[str, Any]:
        """
        Return the values of options in a file, by the options' names.
        """
        return {name: value.value for name, value in parse(text).values.items()}

    def test_empty(self) -> None:
        """
        A file without keys sets nothing.
        """
        for text in ("", "# nothing\n", "[server]\n[tasks]\n"):
            self.assertEqual(parse(text), ConfigFile({}, {}))

    def test_native(self) -> None:
        """
        Numbers, booleans and arrays may be TOML's own.
        """
        text = """
            [server]
            port = 8081
            graceful-timeout = 0.25
            [sessions]
            canary = true
            memory-max = 65536
            [agents]
            agent = ["kiro=2", "q"]
            models = []
            [access]
            insecure = false
        """
        expected = {
            "port": 8081,
            "graceful_timeout": 0.25,
            "canary": True,
            "memory_max": 65536,
            "agent": (AgentCount("kiro", 2), AgentCount("q")),
            "models": (),
            "insecure": False,
        }
        self.assertEqual(self.values(text), expected)

    def test_text(self) -> None:
        """
        Every value may be written as in a flag.
        """
        text = """
            server.port = "8081"
            [sessions]
            canary = "yes"
            memory-max = "64k"
            idle-timeout = "5m"
            [agents]
            agent = "kiro=2, q"
        """
        expected = {
            "port": 8081,
            "canary": True,
            "memory_max": 65536,
            "idle_timeout": 300.0,
            "agent": (AgentCount("kiro", 2), AgentCount("q")),
        }
        self.assertEqual(self.values(text), expected)

    @given(st.floats(min_value=1e-9, max_value=1e9, exclude_min=True))
    def test_floats(self, number: float) -> None:
        """
        Any duration that TOML writes with an exponent or without is the same number.
        """
        values = self.values(f"[requests]\nqueue-timeout = {number!r}\n")
        self.assertAlmostEqual(values["queue_timeout"] / number, 1.0)

    def test_byte_order_mark(self) -> None:
        """
        A byte-order mark at the beginning is ignored, and lines may end as on Windows.
        """
        data = b"\xef\xbb\xbf[server]\r\nport = 1\r\n"
        [value] = parse_config(data, Path("/"), options()).values.values()
        self.assertEqual((value.value, value.line), (1, 2))

    def test_relative_paths(self) -> None:
        """
        Relative paths begin at the folder of the file, also those of dialect files in the
        list of agents; a path may begin with ~.
        """
        folder = Path(self.mktemp()).absolute()
        (folder / "tasks").mkdir(parents=True)
        self.patch(os, "environ", {**os.environ, "HOME": str(folder)})
        text = f"""
            [server]
            state-dir = "state"
            [agents]
            agent = ["mine.toml=2", "./other.toml", "q=1", "/etc/third.toml"]
            repo-path = "~"
            [tasks]
            tasks = "{folder.name}/../tasks"
        """
        (folder / folder.name).mkdir()
        values = parse(text, folder).values
        self.assertEqual(values["state_dir"].value, folder / "state")
        self.assertEqual(values["repo_path"].value, folder)
        self.assertEqual(values["tasks"].value, folder / folder.name / ".." / "tasks")
        self.assertEqual(
            values["agent"].text,
            f"{folder}/mine.toml=2,{folder}/other.toml,q=1,/etc/third.toml",
        )
        self.assertEqual(values["agent"].value[0], AgentCount(str(folder / "mine.toml"), 2))

    def test_task_defaults(self) -> None:
        """
        The tables of [tasks] have values for tasks, whatever they are called; its other keys
        are options.
        """
        content = parse(
            """
            [tasks]
            strict-input = true
            [tasks.generate-story]
            components = ["Web", "API"]
            [tasks.tasks]
            deep = {x = [1, {y = 2}]}
            """
        )
        self.assertEqual([*content.values], ["strict_input"])
        expected = {
            "generate-story": {"components": ["Web", "API"]},
            "tasks": {"deep": {"x": [1, {"y": 2}]}},
        }
        self.assertEqual(content.task_defaults, expected)


class ErrorTests(SynchronousTestCase):
    """
    Tests for files that cannot be used.
    """

    def reason(self, text: str) -> str:
        with self.assertRaises(InvalidConfig) as raised:
            parse(text)
        return str(raised.exception)

    def test_unknown(self) -> None:
        """
        An unknown key or table names the one that was probably meant.
        """
        for text, reason in [
            ("[server]\nprot = 1", "line 2: [server] prot: unknown key; did you mean port?"),
            ("[pool]\n\nmax_workers = 1", "line 3: [pool] max_workers: unknown key; "
             "did you mean max-workers?"),
            ("[pool]\nmax-bodi = 1", "line 2: [pool] max-bodi: unknown key; "
             "did you mean max-body in [requests]?"),
            ("[pool]\nzzz = 1", "line 2: [pool] zzz: unknown key"),
            ("[pool]\nport = 1", "line 2: [pool] port: belongs to the table [server]"),
            ("port = 1", "line 1: port: belongs to the table [server]"),
            ("prot = 1", "line 1: prot: unknown key; did you mean port in [server]?"),
            ("[sever]\nport = 1", "line 1: sever: unknown table; did you mean server?"),
            ("\n[zzz.y]\nport = 1", "line 2: zzz: unknown table"),
            ("[[sever]]", "line 1: sever: unknown table; did you mean server?"),
            ("sever.port = 1", "line 1: sever: unknown table; did you mean server?"),
            ("[server]\nconfig = 'x'", "line 2: [server] config: a configuration file cannot name "
             "another one"),
            ("[pool]\nserver.port = 1", "line 2: [pool] server: unknown key; did you mean "
             "server-name in [cluster]?"),
            ("[server.zzz]\nx = 1", "[server] zzz: unknown key"),
            ("[tasks]\nstrict = true", "line 2: [tasks] strict: unknown key; "
             "did you mean strict-input?"),
            ("[[tasks.zzz]]\nx = 1", "[tasks] zzz: must be one table, not an array of tables"),
            ("[server]\n'a\\nb' = 1", "line 2: [server] a\\nb: unknown key"),
            ('[server]\n"a\\nb" = 1', "[server] 'a\\nb': unknown key"),
            ("[server]\n" + "x" * 90 + " = 1", "line 2: [server] " + "x" * 80 + "…: unknown key"),
        ]:  # fmt: skip
            self.assertEqual(self.reason(text), reason)

    def test_invalid_values(self) -> None:
        """
        An invalid value is an error as in a flag, with the line of its key.
        """
        for text, reason in [
            ("[server]\nport = 70000", "line 2: [server] port = 70000: "
             "must be at least 0 and at most 65535"),
            ("[server]\nport = 'x'", "line 2: [server] port = 'x': must be a whole number"),
            ("[server]\nport = true", "line 2: [server] port = true: "
             "must be an integer, not a boolean"),
            ("[server]\nport = 1.5", "line 2: [server] port = 1.5: must be an integer, "
             "not a float"),
            ("[server]\nport = 1979-05-27", "line 2: [server] port = "
             "datetime.date(1979, 5, 27): must be an integer, not a date"),
            ("[sessions]\ncanary = 1", "line 2: [sessions] canary = 1: "
             "must be true or false, not an integer"),
            ("[sessions]\nmax-age = inf", "line 2: [sessions] max-age = inf: "
             "must be a number of seconds, such as 30, 0.5 or 5m"),
            ("[sessions]\nmax-age = []", "line 2: [sessions] max-age = []: "
             "must be a number, not an array"),
            ("[agents]\nmodel = 4", "line 2: [agents] model = 4: "
             "must be a string, not an integer"),
            ("[agents]\nagent = ['q', 4]", "line 2: [agents] agent = ['q', 4]: "
             "must be a string or an array of strings"),
            ("[agents]\nagent = 4", "line 2: [agents] agent = 4: "
             "must be a string or an array of strings, not an integer"),
            ("[agents]\nagent = []", "line 2: [agents] agent = []: must name an agent"),
            ("[agents.agent]\nq = 2", "[agents] agent: "
             "must be a string or an array of strings, not a table"),
            ("[access]\ntoken-file = 'x'", "line 2: [access] token-file = 'x': does not exist"),
            ('[server]\nlisten = "\\u0000"', "line 2: [server] listen = '\\x00': "
             "must not contain a NUL character"),
            ("[server]\nport = 'x" + "y" * 100 + "'", "line 2: [server] port = 'x" + "y" * 78
             + "…: must be a whole number"),
            ("server = 1", "line 1: server: must be a table, not an integer"),
            ("[[server]]\nport = 1", "line 1: server: must be a table, not an array"),
        ]:  # fmt: skip
            self.assertEqual(self.reason(text), reason)

    def test_lines(self) -> None:
        """
        The line of an error is that of the key in its own table, however it is written.
        """
        for text, line in [
            ("[pool] # port = 1\nworkers = 1\n[server]\n# port = 1\n  port=0x1ffff", 5),
            ('[server]\n"port" = 70000', 2),
            ("\n\nserver.port = 70000", 3),
            ("[ server ]\nport = 70000", 2),
            ('["server"] # x\nport = 70000', 2),
            ("[tasks.x]\na = [\n[1, 2],\n[3]]\n[server]\nlisten = 'x'\nport = 70000", 7),
            ("[tasks.x]\nport = 1\n[server]\nport = 70000", 4),
            ("# \x85 \u2028\n[server]\nport = 70000", 3),
        ]:
            self.assertTrue(self.reason(text).startswith(f"line {line}: [server] port = "), text)
        # Where the key is not found, no line is named.
        self.assertEqual(
            self.reason("server = {port = 70000}").partition(":")[0], "[server] port = 70000"
        )

    def test_not_toml(self) -> None:
        """
        A file that is not TOML, or not text, is an error that says where.
        """
        self.assertEqual(
            self.reason("[server\nport = 1"),
            "line 1: not valid TOML: Expected ']' at the end of a table declaration",
        )
        self.assertEqual(
            self.reason("[server]\nport = 1\nport = 2\n"),
            "line 3: not valid TOML: Cannot overwrite a value",
        )
        huge = "not valid TOML: an integer has more than 64 bits"
        for data, reason in [
            (b"[server]\nlisten = '\xff'", "line 2: is not UTF-8"),
            (b"#" * (MAX_BYTES + 1), "is larger than 1024 KiB"),
            (b"x = ", "not valid TOML: Invalid value (at end of document)"),
            (b"x = " + b"[" * 100_000, "not valid TOML: too many nested values"),
            (b"x = " + b"9" * 5000, huge),
            (b"[tasks.x]\ny = [{z = 0x8000000000000000}]", huge),
        ]:
            with self.assertRaises(InvalidConfig) as raised:
                parse_config(data, Path("/"), options())
            self.assertEqual(str(raised.exception), reason)

    @given(st.text())
    def test_any_text(self, text: str) -> None:
        """
        Any text is either read, or an error of one printable line.
        """
        for content in (text, f"[server]\n{text}", f"[server]\nlisten = 1\n'{text}' = 1"):
            try:
                parse(content)
            except InvalidConfig as error:
                self.assertEqual(len(str(error).splitlines()), 1)


class LoadTests(SynchronousTestCase):
    """
    Tests for `load_config`.
    """

    def test_relative_paths(self) -> None:
        """
        Relative paths begin at the folder of the file.
        """
        path = Path(self.mktemp()).absolute()
        path.write_text("[agents]\nagent = 'x.toml'\n")
        [value] = load_config(path, options()).values.values()
        self.assertEqual(value.text, str(path.parent / "x.toml"))

    def test_unreadable(self) -> None:
        """
        The error says why a file cannot be read.
        """
        for path, reason in [
            ("/", "cannot be read: Is a directory"),
            ("/no/such/file", "cannot be read: No such file or directory"),
        ]:
            with self.assertRaises(InvalidConfig) as raised:
                load_config(Path(path), options())
            self.assertEqual(str(raised.exception), reason)
