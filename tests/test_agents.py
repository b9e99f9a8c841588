"""
Tests for `kiroworkers.agents`.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
from collections.abc import Mapping
from pathlib import Path

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.agents import (
    Agent,
    AgentSpec,
    choose_agent,
    isolate_env,
    read_version,
    validate_agent,
    validate_agents,
)
from kiroworkers.conversations import LinePrompt
from kiroworkers.errors import CannotStart, InvalidSetting
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

        return choose_agent(AgentSpec(wanted), {"PATH": path, "NO_COLOR": "1"}, said)

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

    def test_name(self) -> None:
        """
        An agent is called what the operator called it, whichever dialect it
        speaks; for auto, what that stands for.
        """
        for wanted in ("kiro", "kiro-classic", "kiro-tui", "offline"):
            self.assertEqual(self.choose(wanted, self.path).name, wanted)
        self.assertEqual(self.choose("auto", self.path).name, "kiro")

    def test_side_by_side(self) -> None:
        """
        Agents that serve together have names of their own.
        """
        mine = Path(self.mktemp() + ".toml")
        mine.write_text('extends = "q"')
        validate_agents([AgentSpec("kiro-classic"), AgentSpec("kiro-tui"), AgentSpec(str(mine))])
        for names, reason in [
            (["q", "q"], "another agent named q"),
            (["q", str(mine)], "another agent named q"),
            (["q", "auto"], "goes without others"),
            (["q", "emacs"], "must be auto"),
        ]:
            with self.assertRaises(InvalidSetting) as raised:
                validate_agents([AgentSpec(name) for name in names])
            self.assertEqual(raised.exception.name, "--agent")
            self.assertIn(reason, str(raised.exception))

    def test_without_a_classic_interface(self) -> None:
        """
        A version of Kiro whose classic interface stops at a menu, or is gone, is
        driven over ACP; each way can be chosen.
        """
        for name, version, transport in [
            ("auto", "2.27.1", "terminal"),
            ("auto", "2.28.0", "acp"),
            ("kiro", "3.0.1", "acp"),
            ("kiro-classic", "2.29.0", "terminal"),
            ("kiro-acp", "2.4.0", "acp"),
        ]:
            agent = self.choose(name, self.path, f"kiro-cli {version}")
            self.assertEqual(agent.name, "kiro" if name == "auto" else name)
            self.assertEqual(agent.dialect.transport, transport, version)
            self.assertEqual("--legacy-ui" in agent.arguments, transport == "terminal")
            self.assertEqual(agent.arguments[0], "acp" if transport == "acp" else "chat")
        self.assertIn("full-screen", self.choose("kiro-tui", self.path).dialect.label)

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
        wanted = AgentSpec(command="kiro-cli 'two words' -x", prompt="^>>> $")
        validate_agent(wanted)
        agent = choose_agent(wanted, {"PATH": self.path}, lambda command, environment: "1.0")
        self.assertEqual(agent.name, "generic")
        self.assertEqual(agent.arguments, ("two words", "-x"))
        self.assertIn("'two words'", agent.dialect.label)
        readiness = agent.dialect.readiness
        assert isinstance(readiness, LinePrompt), "it is known by its prompt"
        self.assertEqual(readiness.prompt.pattern, "^>>> $")

    def test_acp_command(self) -> None:
        """
        So can any program that speaks ACP.
        """
        wanted = AgentSpec("acp", "kiro-cli acp")
        validate_agent(wanted)
        agent = choose_agent(wanted, {"PATH": self.path}, lambda command, environment: "1.0")
        self.assertEqual((agent.name, agent.dialect.transport), ("acp", "acp"))
        self.assertEqual(agent.arguments, ("acp",))
        self.assertEqual(agent.dialect.label, "the program kiro-cli acp, over ACP")

    def test_environment_of_others(self) -> None:
        """
        A program that gets everything gets nothing that an agent beside it has for
        its own, by its dialect or by the operator's word.
        """
        names = ("KIRO_API_KEY", "GITHUB_TOKEN", "PGPASSWORD")
        inherited = {"PATH": self.path, **dict.fromkeys(names, "secret")}
        passed = ("kiro:GITHUB_TOKEN",)
        wanted = [
            AgentSpec("kiro", pass_env=passed),
            AgentSpec("acp", "kiro-cli acp", pass_env=passed),
        ]
        # A pattern for all is not meant for what is one's own.
        wild = [evolve(each, pass_env=("kiro:GITHUB_TOKEN", "G*")) for each in wanted]
        for several, expected in (
            (wild, [{"KIRO_API_KEY", "GITHUB_TOKEN"}, {"PGPASSWORD"}]),
            (wanted, [{"KIRO_API_KEY", "GITHUB_TOKEN"}, {"PGPASSWORD"}]),
            (wanted[1:], [set(names)]),
        ):
            agents = [choose_agent(each, inherited, lambda *_: "") for each in isolate_env(several)]
            found = [
                {name for name, value in agent.environment.items() if value == "secret"}
                for agent in agents
            ]
            self.assertEqual(found, expected)

    def test_environment(self) -> None:
        """
        An agent, and whoever asks it for its version, gets its own variables, and
        those that the operator names for all or for this one.
        """
        names = ("KIRO_API_KEY", "OPENAI_API_KEY", "GITHUB_TOKEN", "NPM_TOKEN", "PGPASSWORD")
        inherited = {"PATH": self.path, **dict.fromkeys(names, "secret")}
        asked: list[Mapping[str, str]] = []

        def said(command: list[str], environment: Mapping[str, str]) -> str:
            asked.append(environment)
            return "kiro-cli 2.11.0"

        wanted = AgentSpec("kiro", pass_env=("GITHUB_TOKEN", "kiro:NPM_*", "llm:OPENAI_API_KEY"))
        agent = choose_agent(wanted, inherited, said)
        for environment in (agent.environment, *asked):
            got = {name for name in environment if environment[name] == "secret"}
            self.assertEqual(got, {"KIRO_API_KEY", "GITHUB_TOKEN", "NPM_TOKEN"})

    def test_wrong_command(self) -> None:
        """
        A command that cannot be one, and what does not go together, are bad
        settings that name the flag.
        """
        for wanted, name in [
            (AgentSpec(command="a 'b"), "--agent-command"),
            (AgentSpec(command=" "), "--agent-command"),
            (AgentSpec(command="a", prompt="a{99999999999999999999}"), "--prompt-pattern"),
            (AgentSpec(command="a", prompt="("), "--prompt-pattern"),
            (AgentSpec(prompt="^> $"), "--prompt-pattern"),
            (AgentSpec(agent="q", command="a"), "--agent-command"),
            (AgentSpec(agent="acp"), "--agent"),
            (AgentSpec(agent="acp", command="a", prompt="^> $"), "--prompt-pattern"),
        ]:
            with self.assertRaises(InvalidSetting) as raised:
                validate_agent(wanted)
            self.assertEqual(raised.exception.name, name)
        with self.assertRaises(CannotStart) as refused:
            choose_agent(AgentSpec(command="no-such-program"), {"PATH": self.path}, lambda *_: "")
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
        self.assertEqual(read_version([sys.executable, "-c", script], {}), "tool 1.2.3")
        self.assertEqual(read_version(["/nowhere/tool"], {}), "")

    def test_ask_version_of_a_wrapper(self) -> None:
        """
        A child that it leaves is not waited for, and ended.
        """
        script = (
            "import subprocess, sys\n"
            "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
            "print('tool 1.2.3', child.pid)"
        )
        said = read_version([sys.executable, "-c", script], {})
        self.assertTrue(said.startswith("tool 1.2.3 "))
        with contextlib.suppress(ProcessLookupError):
            ended = os.pidfd_open(int(said.split()[-1]))
            self.addCleanup(os.close, ended)
            self.assertEqual(select.select([ended], [], [], 30)[0], [ended])

    def test_file(self) -> None:
        """
        A dialect file chooses its own program.
        """
        mine = Path(self.mktemp() + ".toml")
        mine.write_text('extends = "offline"\nname = "mine"')
        validate_agent(AgentSpec(str(mine)))
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
                "must be auto, kiro, kiro-acp, kiro-classic, kiro-tui, q, llm, codex, gemini, "
                "gemini-acp, opencode-acp, offline, acp or a dialect",
            ),
        ]:
            with self.assertRaises(InvalidSetting) as raised:
                validate_agent(AgentSpec(wanted))
            self.assertIn(reason, str(raised.exception))
