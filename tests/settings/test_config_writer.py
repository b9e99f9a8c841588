"""
Tests for `kiroworkers.settings.config_writer`.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.settings import EffectiveSettings, Settings, options
from kiroworkers.settings.config_writer import config_json, to_toml, write_config

#: A value of each option that is not its default, as in a flag.
VALUES = {
    "port": "007",
    "interface": "::1",
    "listen": 'tcp:0:interface="\\x"\u0080',
    "graceful-timeout": "0.00001",
    "agent": "acp=3,./mine.toml=2, q",
    "agent-command": "cat -u 'a b' # no",
    "prompt-pattern": r"^\$ \"$",
    "model": "m",
    "effort": "high",
    "models": "a,b-*",
    "kiro-agent": "minimal",
    "pass-env": "A,kiro:B_*",
    "repo-path": "/",
    "workdir": "per-worker",
    "tasks": "/",
    "strict-input": "yes",
    "max-job-bytes": "5k",
    "max-body": "4096",
    "max-workers": "+9",
    "idle-timeout": "1.5h",
    "check-interval": ".5",
    "tools": "allow",
    "allow-tools": "yes",
    "state-dir": str(Path(__file__).parent),
    "token-file": __file__,
    "callback-secret-file": __file__,
    "database-file": __file__,
    "lease": "9",
    "server-name": "a",
    "account": "team",
    "callback-hosts": "*.example.org",
    "allow-host": "a.example,::1",
    "cors-origin": "https://a.example,loopback",
    "trusted-proxy": "unix,10.0.0.0/8",
    "reset": "none",
    "canary": "on",
    "insecure": "1",
    "log-format": "json",
    "log-level": "debug",
    "log-prompts": "yes",
    "record": "yes",
    "trace-content": "yes",
    "otlp-endpoint": "http://127.0.0.1:4318",
}

#: A value of an option of each type that has no value above.
_BY_VALUE_NAME = {"N": "3", "SECONDS": "2m", "SIZE": "3MiB"}


class WriteTests(SynchronousTestCase):
    """
    Tests for `write_config`.
    """

    def read_back(self, text: str) -> Settings:
        """
        Return the settings from a file with `text`, which is stored in another folder.
        """
        path = Path(self.mktemp()).absolute()
        path.write_text(text, encoding="utf-8")
        return evolve(Settings.read({"config": str(path)}, {}), config=None)

    def test_round_trip(self) -> None:
        """
        The output is a configuration file that gives the same settings, whether each option
        has its default or another value.
        """
        flags: dict[str, str | None] = {
            option.key: VALUES.get(option.key) or _BY_VALUE_NAME[option.value_name]
            for option in options()
            if option.name != "config"
        }
        given = EffectiveSettings.read(flags, {})
        self.assertEqual({*given.given}, {option.name for option in options()} - {"config"})
        for effective in (given, EffectiveSettings.read({}, {})):
            settings = self.read_back(write_config(effective))
            self.assertEqual(settings, effective.settings)
            changed = self.read_back(write_config(effective, only_given=True))
            self.assertEqual(changed, effective.settings)

    def test_alias(self) -> None:
        """
        With --allow-tools, --tools is shown as it is in effect.
        """
        effective = EffectiveSettings.read({"allow-tools": "yes"}, {})
        text = write_config(effective, only_given=True)
        self.assertIn(
            "[tools]\n"
            'tools = "allow"     # flag --allow-tools\n'
            "allow-tools = true  # flag --allow-tools\n",
            text,
        )
        self.assertEqual(self.read_back(text), effective.settings)

    def test_task_defaults(self) -> None:
        """
        Default values for the fields of tasks are part of the output, whatever their types.
        """
        table = (
            "[tasks.story]\n"
            "a = [1, 2.5, -inf, true, 'x']\n"
            "b = {c = [], d = {}, 'e f' = {g = 1}}\n"
            "h = 1979-05-27T07:32:00Z\ni = 1979-05-27\nj = 07:32:00\n"
            '"k\\n" = "\\u0000\\u007f\\u009b\\n"\n'
            '[tasks."a b"]\n'
        )
        path = Path(self.mktemp()).absolute()
        path.write_text(table)
        effective = EffectiveSettings.read({"config": str(path)}, {})
        expected = tomllib.loads(table)["tasks"]
        self.assertEqual(effective.settings.task_defaults, expected)
        text = write_config(effective, only_given=True)
        self.assertEqual(self.read_back(text).task_defaults, expected)

    def test_text(self) -> None:
        """
        Each value has its origin as a comment; an option that is not set is a comment, and a
        group without any changes is left out of the short output.
        """
        path = Path(self.mktemp()).absolute()
        path.write_text("[pool]\nworkers = 4\n[server]\nport = 3\n")
        effective = EffectiveSettings.read({"config": str(path), "interface": "::1"}, {"PORT": "4"})
        self.assertEqual(
            write_config(effective, only_given=True),
            f"# The settings of a server that starts here; its configuration file is {path}.\n\n"
            "# Server\n[server]\n"
            "port = 4           # environment variable PORT\n"
            'interface = "::1"  # flag --interface\n\n'
            f"# Workers\n[pool]\nworkers = 4  # {path} line 2\n",
        )
        text = write_config(effective)
        self.assertIn("\n# listen =              # not set\n", text)
        self.assertIn("\n# repo-path =       # not set: the current folder\n", text)
        self.assertIn("\nmax-workers = 0             # default\n", text)

    @given(st.recursive(
        st.booleans()
        | st.integers()
        | st.floats(allow_nan=False)
        | st.text()
        | st.datetimes()
        | st.dates()
        | st.times(),
        lambda values: st.lists(values) | st.dictionaries(st.text(), values),
    ))  # fmt: skip
    def test_values(self, value: Any) -> None:
        """
        Every value of TOML is written so that it is read back the same.
        """
        self.assertEqual(tomllib.loads(f"x = {to_toml(value)}")["x"], value)


class JsonTests(SynchronousTestCase):
    """
    Tests for `config_json`.
    """

    def test_values(self) -> None:
        """
        Each option has its value, in the type that it has in a configuration file, and its
        origin; those that are not set have null.
        """
        effective = EffectiveSettings.read({"port": "1", "agent": "kiro=2,q"}, {})
        shown = config_json(effective)
        self.assertEqual(shown["server"]["port"], {"value": 1, "origin": "flag --port"})
        self.assertEqual(shown["server"]["listen"], {"value": None, "origin": "default"})
        self.assertEqual(shown["sessions"]["canary"], {"value": False, "origin": "default"})
        self.assertEqual(
            shown["agents"]["agent"], {"value": ["kiro=2", "q"], "origin": "flag --agent"}
        )
        self.assertEqual(shown["taskDefaults"], {})
        changed = config_json(effective, only_given=True)
        self.assertEqual([*changed["server"]], ["port"])
