"""
Tests for `kiroworkers.agents.choice`.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.agents import (
    Agent,
    AgentSpec,
    choose_agent,
    isolate_env,
    validate_agent,
    validate_agents,
)
from kiroworkers.conversations import LinePrompt, load_dialect
from kiroworkers.errors import CannotStart, InvalidSetting, VersionUnknown
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
        Auto chooses the same agent again, and fails if that agent is no longer installed.
        """
        for previous, path in [("offline", self.path), ("kiro", self.path)]:
            agent = choose_agent(AgentSpec(), {"PATH": path}, lambda *_: "2.11.0", previous)
            self.assertEqual(agent.name, previous)
        with self.assertRaises(CannotStart):
            choose_agent(AgentSpec(), {"PATH": "/nowhere"}, lambda *_: "", "kiro")

    def test_version_needed(self) -> None:
        """
        If the version was known before, no dialect is chosen without it.
        """

        def get_output(command: list[str], environment: Mapping[str, str]) -> str:
            # The help of a program that offers none of Kiro's interfaces.
            return "" if command[1:] == ["--version"] else "[possible values: none]"

        environment = {"PATH": self.path}
        with self.assertRaises(VersionUnknown) as caught:
            choose_agent(AgentSpec("kiro"), environment, get_output, needs_version=True)
        self.assertIn("kiro-cli does not say its version", str(caught.exception))

        def get_no_help(command: list[str], environment: Mapping[str, str]) -> str:
            return "kiro-cli 2.28.0" if command[1:] == ["--version"] else ""

        for name in ("kiro", "kiro-acp"):
            with self.assertRaises(VersionUnknown) as caught:
                choose_agent(AgentSpec(name), environment, get_no_help, needs_version=True)
            self.assertIn("kiro-cli does not print its help", str(caught.exception))
        offline = AgentSpec("offline")
        agent = choose_agent(offline, environment, lambda *_: "", needs_version=True)
        self.assertEqual(agent.version, "")

    def test_built_in(self) -> None:
        """
        The package's dialects are told from a dialect file of the same name.
        """
        for name in ("auto", "kiro", "kiro-acp", "kiro-tui"):
            self.assertTrue(self.choose(name, self.path).is_built_in, name)
        builtin = files("kiroworkers.conversations.dialects") / "kiro-classic.toml"
        own = Path(self.mktemp())
        own = own.with_name("kiro.toml")
        own.write_text(builtin.read_text().replace('label = "Kiro CLI', 'label = "My Kiro CLI'))
        agent = self.choose(str(own.absolute()), self.path)
        self.assertEqual((agent.name, agent.dialect.name), ("kiro", "kiro"))
        self.assertFalse(agent.is_built_in)
        command = AgentSpec(command="kiro-cli chat")
        self.assertFalse(choose_agent(command, {"PATH": self.path}, lambda *_: "").is_built_in)

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

    def choose_with_help(self, agent: str, version: str, help_text: str) -> Agent:
        """
        Choose `agent` where `kiro-cli acp --help` prints `help_text`.
        """

        def get_output(command: list[str], environment: Mapping[str, str]) -> str:
            self.commands.append(command[1:])
            return f"kiro-cli {version}\n" if command[1:] == ["--version"] else help_text

        self.commands: list[list[str]] = []
        return choose_agent(AgentSpec(agent), {"PATH": self.path}, get_output)

    def test_engine(self) -> None:
        """
        Over ACP, Kiro is driven with its engine v2, unless its help lists other engines only;
        then with v3, which keeps its token to itself.
        """
        both = """
Options:
      --agent-engine <AGENT_ENGINE>
          Engine to run [default: v3] [possible values: v1, v2, v3]
  -h, --help
          Print help [possible values: on, off]
"""
        bullets = """
      --agent-engine <AGENT_ENGINE>
          Engine to run

          Possible values:
          - v2: the earlier engine
          - v3: the unified engine
"""
        for help_text in (
            both,
            bullets,
            "",
            "error: unrecognized subcommand",
            "  --agent-engine <ENGINE>\n  --format <FORMAT>  [possible values: text, json]\n",
            "[--agent-engine <v1|v2|v3>]",
            "[--agent-engine v1|v2|v3]",
            "Use --agent-engine v3 for the unified engine",
        ):
            agent = self.choose_with_help("kiro", "3.0.1", help_text)
            self.assertEqual(agent.arguments, ("acp", "--agent-engine=v2"), help_text)
            self.assertIn("engine v2", agent.dialect.label)
        for help_text in (
            both.replace("v1, v2, v3", "v3"),
            both.replace("v1, v2, v3", "v3, kas"),
            bullets.replace("- v2: the earlier engine\n", ""),
            "[--agent-engine <v3|kas>]",
        ):
            agent = self.choose_with_help("kiro", "3.4.0", help_text)
            self.assertEqual(
                agent.arguments, ("acp", "--agent-engine", "v3", "--auth-method", "cli"), help_text
            )
            self.assertIn("engine v3", agent.dialect.label)
            with self.assertRaises(CannotStart) as raised:
                self.choose_with_help("kiro-acp", "3.4.0", help_text)
            self.assertIn("kiro-cli acp --help no longer offers", str(raised.exception))

    def test_help_is_read_once(self) -> None:
        """
        The help is read only where it decides.
        """
        for agent, version, commands in [
            ("kiro", "2.27.0", 1),
            ("kiro", "2.28.0", 2),
            ("kiro-acp", "2.4.0", 2),
            ("kiro-acp-v3", "2.28.0", 1),
        ]:
            self.choose_with_help(agent, version, "")
            self.assertEqual(self.commands, [["--version"], ["acp", "--help"]][:commands])

    def test_too_old(self) -> None:
        """
        A version that does not have the interface yet is refused.
        """
        for name, version, since in [("kiro-acp", "1.24.0", "1.25"), ("kiro-acp-v3", "2.6", "2.7")]:
            with self.assertRaises(CannotStart) as raised:
                self.choose(name, self.path, f"kiro-cli {version}")
            self.assertIn(f"needs {since} or later", str(raised.exception))

    def test_refused_by_its_service(self) -> None:
        """
        The reason of the choice says if the service refuses the version.
        """
        for name in ("kiro", "kiro-acp", "kiro-classic"):
            refused = self.choose(name, self.path, "kiro-cli 1.28.1")
            self.assertIn("its service refuses versions before 1.28.2", refused.reason)
            served = self.choose(name, self.path, "kiro-cli 1.28.2")
            self.assertNotIn("refuses", served.reason)

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

    def test_unknown_version(self) -> None:
        """
        Without a version, the agent's first dialect is used, with the newest flags.
        """
        self.assertIn("--legacy-ui", self.choose("kiro", self.path, "").arguments)

    def test_notice(self) -> None:
        """
        A notice of a newer version decides about nothing.
        """
        output = "A new version is available: 3.1.0\nkiro-cli 2.11.0\n"
        agent = self.choose("kiro-classic", self.path, output)
        self.assertIn(", kiro-cli 2.11.0", agent.reason)
        self.assertIn("--agent-engine=v1", agent.arguments)

    def test_file(self) -> None:
        """
        A dialect file can be chosen, and names the agent.
        """
        mine = Path(self.mktemp() + ".toml")
        mine.write_text('extends = "offline"\nname = "mine"')
        validate_agent(AgentSpec(str(mine)))
        self.assertEqual(self.choose(str(mine), "/nowhere").name, "mine")

    def test_program_not_installed(self) -> None:
        """
        The program of --agent-command must be on PATH.
        """
        with self.assertRaises(CannotStart) as refused:
            choose_agent(AgentSpec(command="no-such-program"), {"PATH": self.path}, lambda *_: "")
        self.assertIn("no-such-program is not on PATH", str(refused.exception))


class OptionTests(SynchronousTestCase):
    """
    Tests for `choose_agent` with --model, --effort and --kiro-agent.
    """

    def setUp(self) -> None:
        folder = Path(self.mktemp()).absolute()
        for name in ("kiro-cli", "opencode", "gemini", "llm", "q"):
            self.path = install_fake_kiro(folder, name=name)

    def choose(self, spec: AgentSpec, version: str = "2.28.0", path: str | None = None) -> Agent:
        validate_agents([spec])
        environment = {"PATH": path or self.path, "HOME": "/h"}
        return choose_agent(spec, environment, lambda *_: f"tool {version}\n")

    def test_at_the_start(self) -> None:
        """
        An agent whose program has the options is started with them.
        """
        agent = self.choose(AgentSpec("kiro-acp", model="opus", effort="low", kiro_agent="mine"))
        self.assertEqual(
            agent.arguments[2:], ("--model", "opus", "--effort", "low", "--agent", "mine")
        )
        self.assertEqual((agent.model, agent.effort, agent.agent_name), ("", "", "mine"))
        self.assertIsNone(agent.minimal)
        agent = self.choose(AgentSpec("gemini-acp", model="flash"), "0.61.0")
        self.assertEqual(agent.arguments, ("--acp", "--model", "flash"))
        self.assertEqual(agent.model, "")

    def test_over_the_protocol(self) -> None:
        """
        Where the program has no option, an agent that speaks ACP gets the model in each
        session, and Kiro's engine v3 the effort and its configuration as well.
        """
        for spec in [
            AgentSpec("opencode-acp", model="m"),
            AgentSpec("acp", "opencode serve", model="m"),
        ]:
            agent = self.choose(spec)
            self.assertEqual(agent.model, "m")
            self.assertNotIn("m", agent.arguments)
        agent = self.choose(AgentSpec("kiro-acp-v3", model="m", effort="max", kiro_agent="mine"))
        self.assertEqual((agent.model, agent.effort, agent.agent_name), ("m", "max", "mine"))
        self.assertEqual(len(agent.arguments), 5)

    def test_old_version(self) -> None:
        """
        A version that does not know an option yet is not started with it.  It gets a model
        over the protocol; other options are refused.
        """
        agent = self.choose(AgentSpec("kiro-acp", model="opus"), "2.3.0")
        self.assertEqual((agent.arguments, agent.model), (("acp",), "opus"))
        with self.assertRaises(CannotStart) as raised:
            self.choose(AgentSpec("kiro-acp", effort="low"), "2.3.0")
        self.assertIn("--effort low: ", str(raised.exception))
        self.assertIn("(tool 2.3.0) does not support it", str(raised.exception))
        with self.assertRaises(CannotStart) as raised:
            self.choose(AgentSpec("kiro", effort="low"), "2.27.0")
        self.assertIn("classic interface", str(raised.exception))
        self.choose(AgentSpec("kiro", effort="low"), "2.28.0")

    def test_minimal(self) -> None:
        """
        The minimal agent of Kiro's engine v2 is a file of kiroworkers that its --agent names;
        that of v3 is defined in each session.
        """
        agent = self.choose(AgentSpec("kiro-acp", kiro_agent="minimal"))
        minimal = agent.minimal
        assert minimal is not None, "that is what was chosen"
        self.assertEqual(agent.agent_name, minimal.name)
        self.assertEqual(agent.arguments[-2:], ("--agent", minimal.name))
        self.assertEqual((minimal.variable, minimal.default), ("KIRO_HOME", ".kiro"))
        [(file, text)] = minimal.files.items()
        self.assertEqual(file, f"agents/{minimal.name}.json")
        config = json.loads(text)
        self.assertEqual(config["name"], minimal.name)
        self.assertEqual((config["tools"], config["mcpServers"], config["resources"]), ([], {}, []))
        self.assertIs(config["includeMcpJson"], False)
        self.assertIsNone(agent.session_meta)

        agent = self.choose(AgentSpec("kiro-acp-v3", kiro_agent="minimal"))
        minimal, meta = agent.minimal, agent.session_meta
        assert minimal is not None and meta is not None, "that is what was chosen"
        self.assertEqual(minimal.files, {})
        [defined] = meta["kiro"]["customAgents"]
        self.assertEqual((defined["id"], defined["tools"]), (agent.agent_name, []))
        self.assertNotIn("--agent", agent.arguments)

    def test_same_minimal_agent(self) -> None:
        """
        The minimal agent is the same over each of Kiro's interfaces.  On its classic one Kiro
        is also told not to render the answers.
        """
        acp, classic, tui = (
            load_dialect(name).minimal for name in ("kiro-acp", "kiro-classic", "kiro-tui")
        )
        assert acp is not None and classic is not None and tui is not None, "Kiro has agents"
        self.assertEqual(tui, acp)
        files = dict(classic.files)
        settings = json.loads(files.pop("settings/cli.json"))
        self.assertEqual(settings, {"chat.disableMarkdownRendering": True})
        self.assertEqual(evolve(classic, files=files), acp)

    def test_folders(self) -> None:
        """
        Sessions with the minimal agent need a folder of their own, others of Kiro do not.
        """
        for name, needs_folders in [("", False), ("mine", False), ("minimal", True)]:
            agent = self.choose(AgentSpec("kiro-acp", kiro_agent=name))
            self.assertIs(agent.needs_folders, needs_folders)

    def test_other_agents(self) -> None:
        """
        --kiro-agent does not concern agents that are not Kiro, but one must be.
        """
        kiro, llm = AgentSpec("kiro", kiro_agent="mine"), AgentSpec("llm", kiro_agent="mine")
        validate_agents([kiro, llm])
        self.assertEqual(self.choose(kiro).agent_name, "mine")
        agent = choose_agent(llm, {"PATH": self.path}, lambda *_: "llm, version 0.36")
        self.assertEqual((agent.agent_name, agent.minimal), ("", None))
        with self.assertRaises(InvalidSetting) as raised:
            validate_agents([llm])
        self.assertEqual(raised.exception.name, "--kiro-agent")
        with self.assertRaises(InvalidSetting):
            validate_agents([AgentSpec("q", kiro_agent="minimal")])

    def test_auto(self) -> None:
        """
        If auto finds no Kiro, the offline agent answers, whatever options Kiro was to get.
        """
        spec = AgentSpec(model="opus", effort="low", kiro_agent="minimal")
        agent = self.choose(spec, path="/nowhere")
        self.assertEqual((agent.name, agent.model, agent.minimal), ("offline", "", None))
        self.assertIn("opus", self.choose(spec).arguments)

    def test_journal(self) -> None:
        """
        Kiro's journals are below its configuration folder, wherever that is.
        """
        agent = self.choose(AgentSpec("kiro-tui"))
        for environment, folder in [
            ({"HOME": "/h"}, "/h/.kiro/sessions/cli"),
            ({"HOME": "/h", "KIRO_HOME": "/k"}, "/k/sessions/cli"),
            ({}, None),
        ]:
            journal = agent.journal_folder(environment)
            self.assertEqual(journal, None if folder is None else Path(folder))
        self.assertIsNone(self.choose(AgentSpec("kiro-acp")).journal_folder({"HOME": "/h"}))
