"""
Tests for `kiroworkers.agents.validation`.
"""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.agents import AgentSpec, validate_agent, validate_agents
from kiroworkers.errors import InvalidSetting


class ValidateTests(SynchronousTestCase):
    """
    Tests for `validate_agents` and `validate_agent`.
    """

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
                "must be auto, kiro, kiro-acp, kiro-acp-v3, kiro-classic, kiro-tui, q, claude, "
                "copilot, codex, gemini, gemini-acp, opencode, opencode-acp, llm, offline, acp "
                "or a dialect",
            ),
        ]:
            with self.assertRaises(InvalidSetting) as raised:
                validate_agent(AgentSpec(name))
            self.assertIn(reason, str(raised.exception))

    def test_no_option(self) -> None:
        """
        An agent that cannot be given a model or an effort is an invalid setting that names
        the option and the agent.
        """
        for spec, option, name in [
            (AgentSpec("llm", model="m"), "--model", "llm"),
            (AgentSpec("offline", model="m"), "--model", "offline"),
            (AgentSpec(command="my-agent -x", model="m"), "--model", "my-agent -x"),
            (AgentSpec("opencode-acp", effort="low"), "--effort", "opencode-acp"),
            (AgentSpec("acp", "my-agent", effort="low"), "--effort", "my-agent"),
        ]:
            with self.assertRaises(InvalidSetting) as raised:
                validate_agent(spec)
            self.assertEqual(raised.exception.name, option)
            self.assertIn(f"the agent {name} does not support it", str(raised.exception))

    def test_words(self) -> None:
        """
        A value that the program could take for an option, or for two words, is refused.
        """
        for value in ("-x", "--trust-all-tools", "a b", " ", "a\0", "a\n"):
            for spec in [
                AgentSpec("kiro-acp", model=value),
                AgentSpec("kiro-acp", effort=value),
                AgentSpec("kiro-acp", kiro_agent=value),
            ]:
                with self.assertRaises(InvalidSetting) as raised:
                    validate_agent(spec)
                self.assertIn("must be one word", str(raised.exception))
        validate_agent(AgentSpec("opencode-acp", model="provider/some-model:3.5@x"))
