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
    version_line,
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

    def choose(self, name: str, path: str, version: str = "kiro-cli 2.11.0") -> Agent:
        def get_version(command: list[str], environment: Mapping[str, str]) -> str:
            return version

        return choose_agent(AgentSpec(name), {"PATH": path, "NO_COLOR": "1"}, get_version)

    def test_auto_without_kiro(self) -> None:
        """
        If Kiro is not installed, auto chooses the offline agent and says why.
        """
        agent = self.choose("auto", "/nowhere")
        self.assertEqual((agent.name, agent.executable), ("offline", sys.executable))
        self.assertIn("kiro-cli is not on PATH", agent.reason)

    def test_auto_with_kiro(self) -> None:
        """
        If Kiro is installed, auto chooses it, with the flags for its version.
        """
        agent = self.choose("auto", self.path)
        self.assertEqual(agent.name, "kiro")
        self.assertEqual(agent.executable, self.path.split(os.pathsep)[0] + "/kiro-cli")
        self.assertIn("--agent-engine=v1", agent.arguments)
        self.assertIn("2.11.0", agent.reason)
        self.assertNotIn("NO_COLOR", agent.environment)

    def test_auto_keeps_its_choice(self) -> None:
        """
        What auto has chosen before is chosen again, or is missing.
        """
        for previous, path in [("offline", self.path), ("kiro", self.path)]:
            agent = choose_agent(AgentSpec(), {"PATH": path}, lambda *_: "2.11.0", previous)
            self.assertEqual(agent.name, previous)
        with self.assertRaises(CannotStart):
            choose_agent(AgentSpec(), {"PATH": "/nowhere"}, lambda *_: "", "kiro")

    def test_offline_with_kiro(self) -> None:
        """
        The offline agent can be chosen even if Kiro is installed.
        """
        self.assertEqual(self.choose("offline", self.path).name, "offline")

    def test_kiro_not_installed(self) -> None:
        """
        Choosing Kiro by name fails if it is not installed.
        """
        with self.assertRaises(CannotStart) as raised:
            self.choose("kiro", "/nowhere")
        self.assertIn("kiro-cli is not on PATH", str(raised.exception))

    def test_name(self) -> None:
        """
        An agent keeps the name that the operator used, whichever dialect it speaks;
        auto gets the name of the agent that it chose.
        """
        for name in ("kiro", "kiro-classic", "kiro-tui", "offline"):
            self.assertEqual(self.choose(name, self.path).name, name)
        self.assertEqual(self.choose("auto", self.path).name, "kiro")

    def test_side_by_side(self) -> None:
        """
        Agents that run side by side must have different names.
        """
        mine = Path(self.mktemp() + ".toml")
        mine.write_text('extends = "q"')
        validate_agents([AgentSpec("kiro-classic"), AgentSpec("kiro-tui"), AgentSpec(str(mine))])
        for names, reason in [
            (["q", "q"], "another agent named q"),
            (["q", str(mine)], "another agent named q"),
            (["q", "auto"], "cannot be combined with other agents"),
            (["q", "emacs"], "must be auto"),
        ]:
            with self.assertRaises(InvalidSetting) as raised:
                validate_agents([AgentSpec(name) for name in names])
            self.assertEqual(raised.exception.name, "--agent")
            self.assertIn(reason, str(raised.exception))

    def test_without_a_classic_interface(self) -> None:
        """
        A version of Kiro whose classic interface stops at a menu, or is gone, is
        driven over ACP; either can be chosen by name.
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
        A version that no dialect supports is refused.
        """
        with self.assertRaises(CannotStart) as raised:
            self.choose("kiro-classic", self.path, "kiro-cli 3.0.1")
        self.assertIn("3.0.1", str(raised.exception))

    def test_command(self) -> None:
        """
        Any program can be an agent, given a pattern for its prompt.
        """
        spec = AgentSpec(command="kiro-cli 'two words' -x", prompt="^>>> $")
        validate_agent(spec)
        agent = choose_agent(spec, {"PATH": self.path}, lambda command, environment: "1.0")
        self.assertEqual(agent.name, "generic")
        self.assertEqual(agent.arguments, ("two words", "-x"))
        self.assertIn("'two words'", agent.dialect.label)
        readiness = agent.dialect.readiness
        assert isinstance(readiness, LinePrompt), "the generic dialect has a prompt pattern"
        self.assertEqual(readiness.prompt.pattern, "^>>> $")

    def test_acp_command(self) -> None:
        """
        Any program that speaks ACP can be an agent.
        """
        spec = AgentSpec("acp", "kiro-cli acp")
        validate_agent(spec)
        agent = choose_agent(spec, {"PATH": self.path}, lambda command, environment: "1.0")
        self.assertEqual((agent.name, agent.dialect.transport), ("acp", "acp"))
        self.assertEqual(agent.arguments, ("acp",))
        self.assertEqual(agent.dialect.label, "the program kiro-cli acp, over ACP")

    def test_environment_of_others(self) -> None:
        """
        A program that inherits everything does not get the variables of another agent,
        whether its dialect or the operator names them.
        """
        names = ("KIRO_API_KEY", "GITHUB_TOKEN", "PGPASSWORD")
        inherited = {"PATH": self.path, **dict.fromkeys(names, "secret")}
        pass_env = ("kiro:GITHUB_TOKEN",)
        specs = [
            AgentSpec("kiro", pass_env=pass_env),
            AgentSpec("acp", "kiro-cli acp", pass_env=pass_env),
        ]
        # A pattern for all agents does not include what is another agent's own.
        wild = [evolve(spec, pass_env=("kiro:GITHUB_TOKEN", "G*")) for spec in specs]
        for group, expected in (
            (wild, [{"KIRO_API_KEY", "GITHUB_TOKEN"}, {"PGPASSWORD"}]),
            (specs, [{"KIRO_API_KEY", "GITHUB_TOKEN"}, {"PGPASSWORD"}]),
            (specs[1:], [set(names)]),
        ):
            agents = [choose_agent(spec, inherited, lambda *_: "") for spec in isolate_env(group)]
            secrets = [
                {name for name, value in agent.environment.items() if value == "secret"}
                for agent in agents
            ]
            self.assertEqual(secrets, expected)

    def test_environment(self) -> None:
        """
        An agent and its version command get the agent's own variables, and those that
        the operator passes to all agents or to this one.
        """
        names = ("KIRO_API_KEY", "OPENAI_API_KEY", "GITHUB_TOKEN", "NPM_TOKEN", "PGPASSWORD")
        inherited = {"PATH": self.path, **dict.fromkeys(names, "secret")}
        environments: list[Mapping[str, str]] = []

        def get_version(command: list[str], environment: Mapping[str, str]) -> str:
            environments.append(environment)
            return "kiro-cli 2.11.0"

        spec = AgentSpec("kiro", pass_env=("GITHUB_TOKEN", "kiro:NPM_*", "llm:OPENAI_API_KEY"))
        agent = choose_agent(spec, inherited, get_version)
        for environment in (agent.environment, *environments):
            secrets = {name for name in environment if environment[name] == "secret"}
            self.assertEqual(secrets, {"KIRO_API_KEY", "GITHUB_TOKEN", "NPM_TOKEN"})

    def test_wrong_command(self) -> None:
        """
        An invalid command, and options that contradict each other, are invalid settings
        that name the flag.
        """
        for spec, name in [
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
                validate_agent(spec)
            self.assertEqual(raised.exception.name, name)
        with self.assertRaises(CannotStart) as refused:
            choose_agent(AgentSpec(command="no-such-program"), {"PATH": self.path}, lambda *_: "")
        self.assertIn("no-such-program is not on PATH", str(refused.exception))

    def test_unknown_version(self) -> None:
        """
        Without a version, the agent's first dialect is used, with the newest flags.
        """
        self.assertIn("--legacy-ui", self.choose("kiro", self.path, "").arguments)

    def test_read_version(self) -> None:
        """
        What a program prints is its version; it is empty if it cannot be run.
        """
        script = "print('tool 1.2.3'); print('more')"
        self.assertEqual(read_version([sys.executable, "-c", script], {}), "tool 1.2.3\nmore\n")
        self.assertEqual(read_version(["/nowhere/tool"], {}), "")

    def test_version_line(self) -> None:
        """
        The program's own version line is found among notices, however it is written.
        """
        notice = "A new version of kiro-cli is available: 3.1.0"
        for program, output, expected in [
            ("kiro-cli", f"{notice}\nkiro-cli 2.11.0\n", "kiro-cli 2.11.0"),
            ("kiro-cli", f"kiro-cli 2.11.0\n{notice}\n", "kiro-cli 2.11.0"),
            ("kiro-cli", "kiro-cli 3.1.0 is available!\n\nkiro-cli 2.11.0", "kiro-cli 2.11.0"),
            ("kiro-cli", "Update: 3.1.0\nkiro-cli-chat 2.11.0", "kiro-cli-chat 2.11.0"),
            ("q", "update 3.1.0\nq 1.19.7\n", "q 1.19.7"),
            ("codex", "codex-cli 0.169.0\n", "codex-cli 0.169.0"),
            ("llm", "llm, version 0.36\n", "llm, version 0.36"),
            ("gemini", "Update available 0.61.0 -> 0.62.0\n0.61.0\n", "0.61.0"),
            ("claude", "notice 3.0.0\n2.1.39 (Claude Code)\n", "2.1.39 (Claude Code)"),
            ("opencode", "\x1b[1mv1.18.33\x1b[0m", "[1mv1.18.33[0m"),
            ("tool", "Hello\nThe version is 1.2\n", "The version is 1.2"),
            ("tool", "unknown\nflag", "unknown"),
            ("tool", "\n", ""),
        ]:
            self.assertEqual(version_line(output, program), expected)

    def test_notice(self) -> None:
        """
        A notice of a newer version decides about nothing.
        """
        output = "A new version is available: 3.1.0\nkiro-cli 2.11.0\n"
        agent = self.choose("kiro-classic", self.path, output)
        self.assertIn(", kiro-cli 2.11.0", agent.reason)
        self.assertIn("--agent-engine=v1", agent.arguments)

    def test_read_version_of_a_wrapper(self) -> None:
        """
        A child that the version command leaves is not waited for, and is killed.
        """
        script = (
            "import subprocess, sys\n"
            "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
            "print('tool 1.2.3', child.pid)"
        )
        line = read_version([sys.executable, "-c", script], {})
        self.assertTrue(line.startswith("tool 1.2.3 "), line)
        with contextlib.suppress(ProcessLookupError):
            ended = os.pidfd_open(int(line.split()[-1]))
            self.addCleanup(os.close, ended)
            self.assertEqual(select.select([ended], [], [], 30)[0], [ended])

    def test_file(self) -> None:
        """
        A dialect file can be chosen, and names the agent.
        """
        mine = Path(self.mktemp() + ".toml")
        mine.write_text('extends = "offline"\nname = "mine"')
        validate_agent(AgentSpec(str(mine)))
        self.assertEqual(self.choose(str(mine), "/nowhere").name, "mine")

    def test_wrong_file(self) -> None:
        """
        An invalid dialect file and an unknown name are invalid settings.
        """
        mine = Path(self.mktemp() + ".toml")
        mine.write_text('extends = "offline"\nnames = "mine"')
        for name, reason in [
            (str(mine), "'names'"),
            (
                "kirro",
                "must be auto, kiro, kiro-acp, kiro-classic, kiro-tui, q, llm, codex, gemini, "
                "gemini-acp, opencode-acp, offline, acp or a dialect",
            ),
        ]:
            with self.assertRaises(InvalidSetting) as raised:
                validate_agent(AgentSpec(name))
            self.assertIn(reason, str(raised.exception))
