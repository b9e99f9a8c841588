"""
End-to-end tests with real agents, which ask a model server on loopback.

They are for what ``kiroworkers prove`` does not check.  The tests of an agent that is not
installed are skipped: see ``tests/agents/install.sh``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from attrs import evolve

from kiroworkers.conversations import Dialect, load_dialect
from tests.programs import ROOT, environment
from tests.realagents import ModelTestCase
from tests.servers import ServerTestCase
from tests.session.test_contract import HOSTILE, Contract, RealSessionStarter


class AgentContract(ModelTestCase, RealSessionStarter, Contract):
    """
    Tests for the contract of sessions.
    """

    endless = "never answer [[silent]]"

    def setUp(self) -> None:
        self.variables = self.settings(self.dialect, ROOT)
        self.arguments = load_dialect(self.dialect).command(None)

    def environment(self, slow: bool) -> dict[str, str]:
        return environment(**self.variables)

    def read_dialect(self) -> Dialect:
        dialect = load_dialect(self.dialect)
        return evolve(dialect, start=evolve(dialect.start, program=self.program))


class TerminalContract(AgentContract):
    """
    Tests for the contract of sessions, with text that a screen can hold.
    """

    # A line that is longer than the screen's width cannot be read reliably.
    hostile = (*HOSTILE[:-1], "x" * 8000)


class CodexTests(TerminalContract):
    """
    Tests for sessions of Codex CLI.
    """

    dialect = "codex"


class GeminiTests(TerminalContract):
    """
    Tests for sessions of Gemini CLI on a terminal.
    """

    dialect = "gemini"


class GeminiAcpTests(AgentContract):
    """
    Tests for sessions of Gemini CLI over ACP.
    """

    dialect = "gemini-acp"


class OpencodeTests(AgentContract):
    """
    Tests for sessions of opencode.
    """

    dialect = "opencode-acp"


class LlmTests(AgentContract):
    """
    Tests for sessions of ``llm chat``, as far as a program with only a prompt can pass them.
    """

    dialect = "llm"


# They would be run as tests of no agent.
del AgentContract, TerminalContract


class ModelTests(ModelTestCase, ServerTestCase):
    """
    Tests for the choice of a model.
    """

    async def serve(self, agent: str, dialect: str, *options: str) -> None:
        """
        Start a server with the agent.
        """
        self.agent = agent
        variables: Any = self.settings(dialect, self.folder)
        passed = ",".join(sorted({*variables} - {"HOME"}))
        self.path = f"{Path(self.program).parent}{os.pathsep}{self.path}"
        await self.start("--agent", agent, "--pass-env", passed, *options, workers=1, **variables)

    async def models(self, model: str | None = None) -> set[str]:
        """
        Ask for a story by `model`, and return the models that the agent asked.
        """
        self.model.requests.clear()
        headers = {} if model is None else {"X-Model": model}
        response, story = await self.story("Export the list", headers=headers)
        self.assertEqual((response.code, story.get("title")), (200, "Export the list"), story)
        self.assertEqual(self.header(response, "x-kiroworkers-agent"), self.agent)
        return {request.model for request in self.model.requests}

    async def test_option(self) -> None:
        """
        The model of --model answers if the agent is started with it.
        """
        await self.serve("gemini-acp", "gemini-acp", "--model", "gemini-2.5-pro")
        await self.models()
        streamed = [
            request.path
            for request in self.model.requests
            if request.path.endswith(":streamGenerateContent")
        ]
        self.assertEqual(streamed, ["/v1beta/models/gemini-2.5-pro:streamGenerateContent"])

    async def test_copilot(self) -> None:
        """
        Copilot is started with the model of --model.
        """
        await self.serve("copilot", "copilot", "--model", "fake-second")
        self.assertEqual(await self.models(), {"fake-second"})

    async def test_protocol(self) -> None:
        """
        The model of --model answers if each session selects it; a request may choose another
        one, and the next request gets that of --model again.
        """
        await self.serve("opencode", "opencode-acp", "--model", "fake/second", "--models", "fake/*")
        for model, is_second in [(None, True), ("fake/fake-model", False), (None, True)]:
            # The first model also gives each session its title.
            self.assertEqual("second" in await self.models(model), is_second)

    async def test_claude(self) -> None:
        """
        Claude Code's sessions select a model by its short name.
        """
        await self.serve("claude", "claude", "--model", "sonnet", "--models", "haiku")
        for model, expected in [(None, "sonnet"), ("haiku", "haiku"), (None, "sonnet")]:
            models = await self.models(model)
            self.assertTrue(all(expected in name for name in models), models)
