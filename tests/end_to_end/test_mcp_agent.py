"""
End-to-end tests: real agents call a task of a server, which they know as a tool of MCP.

Their model is on loopback: it calls the tool, and remembers what the agent sends it as the result.
The configurations are those of the page for users.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kiroworkers.model_server import ModelReply, ModelRequest, ToolCall
from tests.modelserver import FakeModel
from tests.programs import ROOT, Program, environment
from tests.realagents import ModelTestCase
from tests.servers import ServerTestCase, real
from tests.snippets import read_page

_PAGE = ROOT / "docs" / "how-to" / "mcp-clients.rst"

_TOKEN = "all-all-all-all-all"
_TASK = "generate-story"
_IDEA = 'Öffner & "Zitat" \\ <b> 😀 `x` $HOME'
_PROMPT = "Use the tool to make a story"


class ToolCallingModel(FakeModel):
    """
    Call the tool for stories once, and then end the turn.

    Attributes:
        results: What an agent has sent as the result of the tool.
    """

    def __init__(self) -> None:
        super().__init__()
        self.results: list[str] = []

    def answer(self, request: ModelRequest) -> ModelReply:
        results = [message.text for message in request.messages if message.role == "tool"]
        if results:
            self.results += results
            return ModelReply("There is a story")
        for name in request.tools:
            # Some agents allow only letters, digits and underscores.
            if name.replace("_", "-").endswith(_TASK):
                return ModelReply(tool=ToolCall(name, {"idea": _IDEA}))
        return ModelReply("{}" if request.structured else "A few words")


class AgentTestCase(ModelTestCase, ServerTestCase):
    """
    Run an agent whose configuration names a server.

    Attributes:
        model: The agent's model.
    """

    model: ToolCallingModel

    def new_model(self) -> ToolCallingModel:
        return ToolCallingModel()

    async def check(
        self, dialect: str, name: str, configure: Callable[[Path, str], Any], *arguments: str
    ) -> None:
        """
        Run an agent, and check that its model gets exactly what a client of the server gets.

        Args:
            dialect: The dialect with the agent's settings for a model server.
            name: The name of the configuration on the page.
            configure: Called with the agent's home directory and the configuration.
            *arguments: The arguments with which the agent runs without a terminal.
        """
        variables = self.settings(dialect, self.folder)
        home = Path(variables["HOME"])
        token = self.folder / "token"
        token.write_text(_TOKEN)
        tokens = self.folder / "tokens"
        tokens.write_text(f"all ask {_TOKEN}\n")
        tokens.chmod(0o600)
        await self.start("--token-file", str(tokens), workers=1)
        configure(home, self._configuration(name, token))
        agent = Program()
        path = f"{Path(self.program).parent}{os.pathsep}{self.path}"
        others = {"PATH": path, "KIROWORKERS_TOKEN": _TOKEN, "OPENCODE_DB": ":memory:"}
        real.spawnProcess(
            agent,
            self.program,
            [self.program, *arguments, _PROMPT],
            env=environment(**variables, **others),
            path=str(self.folder),
        )
        transport: Any = agent.transport
        transport.closeStdin()
        self.assertEqual(await agent.ended, 0, agent.output)
        authorization = {"Authorization": f"Bearer {_TOKEN}"}
        _, story = await self.ask(_TASK, {"idea": _IDEA}, headers=authorization)
        self.assertEqual(story["title"], _IDEA)
        self.assertEqual(len(self.model.results), 1, agent.output)
        # Some agents write more around it.
        found = re.search(r"\{.*\}", self.model.results[0], re.DOTALL)
        assert found is not None, self.model.results
        self.assertEqual(json.loads(found[0]), story)

    def _configuration(self, name: str, token: Path) -> str:
        """
        Return a configuration of the page, with the address, the program and the token of here.
        """
        program = self.folder / "kiroworkers"
        command = shlex.join([sys.executable, "-m", "kiroworkers"])
        program.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {command} "$@"\n')
        program.chmod(0o755)
        [text] = [
            snippet.text
            for snippet in read_page(_PAGE.name, _PAGE.read_text("utf-8"))
            if snippet.argument("file") == name
        ]
        for shown, actual in (
            ("http://127.0.0.1:8080", self.base),
            ("/home/me/kiroworkers/.venv/bin/kiroworkers", str(program)),
            ("/home/me/kiroworkers/token", str(token)),
        ):
            text = text.replace(shown, actual)
        return text

    def add_json(self, name: str) -> Callable[[Path, str], None]:
        """
        Return what adds a configuration to a file in JSON, of which there is a part already.
        """

        def add(home: Path, text: str) -> None:
            path = home / name
            path.write_text(json.dumps({**json.loads(path.read_text()), **json.loads(text)}))

        return add

    async def check_claude(self, transport: str) -> None:
        """
        Check Claude Code.
        """

        def add(home: Path, text: str) -> None:
            (self.folder / "mcp.json").write_text(text)

        allowed = f"mcp__kiroworkers__{_TASK}"
        options = ("--mcp-config", "mcp.json", "--allowedTools", allowed, "-p")
        # The adapter brings Claude Code along.
        await self.check("claude", f"claude-{transport}.json", add, "--cli", *options)

    async def check_codex(self, transport: str) -> None:
        """
        Check Codex CLI.
        """

        def add(home: Path, text: str) -> None:
            path = home / ".codex" / "config.toml"
            path.write_text(f"{path.read_text()}\n{text}")

        unasked = "--dangerously-bypass-approvals-and-sandbox"
        options = ("exec", "--skip-git-repo-check", unasked)
        await self.check("codex", f"codex-{transport}.toml", add, *options)

    async def check_gemini(self, transport: str) -> None:
        """
        Check Gemini CLI.
        """
        add = self.add_json(".gemini/settings.json")
        await self.check("gemini-acp", f"gemini-{transport}.json", add, "-p")

    async def check_opencode(self, transport: str) -> None:
        """
        Check opencode.
        """
        add = self.add_json(".config/opencode/opencode.json")
        await self.check("opencode-acp", f"opencode-{transport}.json", add, "run")


class AgentTests(AgentTestCase):
    """
    Tests with one agent over each transport.
    """

    async def test_gemini_http(self) -> None:
        """
        Gemini CLI calls the tool over HTTP, and its model gets the JSON.
        """
        await self.check_gemini("http")

    async def test_codex_stdio(self) -> None:
        """
        Codex CLI calls the tool over ``kiroworkers mcp``, and its model gets the JSON.
        """
        await self.check_codex("stdio")


class OtherAgentTests(AgentTestCase):
    """
    Tests with all other pairs of an agent and a transport.
    """

    async def test_claude_http(self) -> None:
        """
        Claude Code calls the tool over HTTP.
        """
        await self.check_claude("http")

    async def test_claude_stdio(self) -> None:
        """
        Claude Code calls the tool over ``kiroworkers mcp``.
        """
        await self.check_claude("stdio")

    async def test_codex_http(self) -> None:
        """
        Codex CLI calls the tool over HTTP.
        """
        await self.check_codex("http")

    async def test_gemini_stdio(self) -> None:
        """
        Gemini CLI calls the tool over ``kiroworkers mcp``.
        """
        await self.check_gemini("stdio")

    async def test_opencode_http(self) -> None:
        """
        Opencode calls the tool over HTTP.
        """
        await self.check_opencode("http")

    async def test_opencode_stdio(self) -> None:
        """
        Opencode calls the tool over ``kiroworkers mcp``.
        """
        await self.check_opencode("stdio")
