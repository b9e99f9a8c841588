"""
Tests for `kiroworkers.agents`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.agents import Agent, Wanted, ask_version, check_agent, choose_agent
from kiroworkers.errors import BadSetting, CannotStart
from kiroworkers.terminal import Line
from tests.programs import install_fake_kiro


class ChooseTests(SynchronousTestCase):
    """
    Tests for `choose_agent`.
    """

    def setUp(self) -> None:
        self.path = install_fake_kiro(Path(self.mktemp()).absolute())

    def choose(self, wanted: str, path: str, version: str = "kiro-cli 2.11.0") -> Agent:
        def said(command: list[str], environment: Mapping[str, str]) -> str:
            return version

        return choose_agent(Wanted(wanted), {"PATH": path, "NO_COLOR": "1"}, said)

    def test_auto_without_kiro(self) -> None:
        """
        Where Kiro is not installed, auto takes the offline agent and says why.
        """
        agent = self.choose("auto", "/nowhere")
        self.assertEqual((agent.name, agent.executable), ("offline", sys.executable))
        self.assertIn("kiro-cli is not on PATH", agent.reason)

    def test_auto_with_kiro(self) -> None:
        """
        Where Kiro is installed, auto takes it, with the flags of its version.
        """
        agent = self.choose("auto", self.path)
        self.assertEqual(agent.name, "kiro")
        self.assertEqual(agent.executable, self.path.split(os.pathsep)[0] + "/kiro-cli")
        self.assertIn("--agent-engine=v1", agent.arguments)
        self.assertIn("2.11.0", agent.reason)
        self.assertNotIn("NO_COLOR", agent.environment)

    def test_offline_though_kiro_is_there(self) -> None:
        """
        The offline agent can be chosen anyway.
        """
        self.assertEqual(self.choose("offline", self.path).name, "offline")

    def test_kiro_that_is_not_there(self) -> None:
        """
        Kiro asked for by name and not installed is no start.
        """
        with self.assertRaises(CannotStart) as raised:
            self.choose("kiro", "/nowhere")
        self.assertIn("kiro-cli is not on PATH", str(raised.exception))

    def test_without_a_classic_interface(self) -> None:
        """
        A version of Kiro that has no classic interface is driven by its screen.
        """
        for version, classic in [("2.29.0", True), ("3.0.1", False)]:
            agent = self.choose("auto", self.path, f"kiro-cli {version}")
            self.assertEqual(agent.name, "kiro")
            self.assertEqual("--legacy-ui" in agent.arguments, classic)
            self.assertEqual("full-screen" in agent.dialect.label, not classic)

    def test_too_new(self) -> None:
        """
        A version that no dialect drives is refused in words.
        """
        with self.assertRaises(CannotStart) as raised:
            self.choose("kiro-classic", self.path, "kiro-cli 3.0.1")
        self.assertIn("3.0.1", str(raised.exception))

    def test_command(self) -> None:
        """
        Any program can be an agent, with a pattern for its prompt.
        """
        wanted = Wanted(command="kiro-cli 'two words' -x", prompt="^>>> $")
        check_agent(wanted)
        agent = choose_agent(wanted, {"PATH": self.path}, lambda command, environment: "1.0")
        self.assertEqual(agent.name, "generic")
        self.assertEqual(agent.arguments, ("two words", "-x"))
        self.assertIn("'two words'", agent.dialect.label)
        readiness = agent.dialect.readiness
        assert isinstance(readiness, Line), "it is known by its prompt"
        self.assertEqual(readiness.prompt.pattern, "^>>> $")

    def test_wrong_command(self) -> None:
        """
        A command that cannot be one, and what does not go together, are bad
        settings that name the flag.
        """
        for wanted, name in [
            (Wanted(command="a 'b"), "--agent-command"),
            (Wanted(command=" "), "--agent-command"),
            (Wanted(command="a", prompt="a{99999999999999999999}"), "--prompt-pattern"),
            (Wanted(command="a", prompt="("), "--prompt-pattern"),
            (Wanted(prompt="^> $"), "--prompt-pattern"),
            (Wanted(agent="q", command="a"), "--agent-command"),
        ]:
            with self.assertRaises(BadSetting) as raised:
                check_agent(wanted)
            self.assertEqual(raised.exception.name, name)
        with self.assertRaises(CannotStart) as refused:
            choose_agent(Wanted(command="no-such-program"), {"PATH": self.path}, lambda *_: "")
        self.assertIn("no-such-program is not on PATH", str(refused.exception))

    def test_unknown_version(self) -> None:
        """
        A version that cannot be read is taken for the newest known.
        """
        self.assertIn("--legacy-ui", self.choose("kiro", self.path, "").arguments)

    def test_ask_version(self) -> None:
        """
        A program's version is its first line; one that cannot say has none.
        """
        script = "print('tool 1.2.3'); print('more')"
        self.assertEqual(ask_version([sys.executable, "-c", script], {}), "tool 1.2.3")
        self.assertEqual(ask_version(["/nowhere/tool"], {}), "")

    def test_file(self) -> None:
        """
        A dialect file chooses its own program.
        """
        mine = Path(self.mktemp() + ".toml")
        mine.write_text('extends = "offline"\nname = "mine"')
        check_agent(Wanted(str(mine)))
        self.assertEqual(self.choose(str(mine), "/nowhere").name, "mine")

    def test_wrong_file(self) -> None:
        """
        A file that is no dialect, or a name that is none, is a bad setting.
        """
        mine = Path(self.mktemp() + ".toml")
        mine.write_text('extends = "offline"\nnames = "mine"')
        for wanted, reason in [
            (str(mine), "'names'"),
            (
                "kirro",
                "must be auto, kiro, kiro-classic, kiro-tui, q, llm, codex, offline or a dialect",
            ),
        ]:
            with self.assertRaises(BadSetting) as raised:
                check_agent(Wanted(wanted))
            self.assertIn(reason, str(raised.exception))
