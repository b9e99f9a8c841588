"""
End-to-end tests with real agents that speak ACP: Gemini CLI and opencode.

They ask a model server on loopback.  The tests of an agent that is not installed are
skipped: see `tests/agents/install.sh`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attrs import evolve
from twisted.internet.defer import CancelledError, gatherResults
from twisted.trial.unittest import TestCase

from kiroworkers.conversations import Dialect, load_dialect
from kiroworkers.tasks import builtin_tasks
from tests.programs import ROOT, environment
from tests.realagents import ModelTestCase, find_agent
from tests.servers import ServerTestCase
from tests.session.test_contract import Contract, RealSessionStarter

STORY = builtin_tasks()["generate-story"]


class Gemini(ModelTestCase):
    """
    Run a model server, and write Gemini CLI's settings for it.
    """

    name = "gemini-acp"

    def settings(self) -> dict[str, str]:
        """
        Return the variables with which the agent uses the model server.
        """
        self.program = find_agent("gemini")
        home = self.make_folder()
        settings = {
            "security": {"auth": {"selectedType": "gemini-api-key"}},
            "general": {"disableAutoUpdate": True},
            "privacy": {"usageStatisticsEnabled": False},
            "telemetry": {"enabled": False},
            "model": {"name": "gemini-2.5-flash"},
        }
        (home / ".gemini").mkdir()
        (home / ".gemini" / "settings.json").write_text(json.dumps(settings))
        return {
            "HOME": str(home),
            "GEMINI_API_KEY": "dummy",
            "GOOGLE_GEMINI_BASE_URL": self.start_model(),
        }


class Opencode(ModelTestCase):
    """
    Run a model server, and write opencode's settings for it.
    """

    name = "opencode-acp"

    def settings(self) -> dict[str, str]:
        """
        Return the variables with which the agent uses the model server.
        """
        self.program = find_agent("opencode")
        home = self.make_folder()
        provider = {
            "npm": "@ai-sdk/openai-compatible",
            "options": {"baseURL": self.start_model() + "/v1", "apiKey": "dummy"},
            "models": {"fake-model": {}},
        }
        settings = {
            "model": "fake/fake-model",
            "small_model": "fake/fake-model",
            "enabled_providers": ["fake"],
            "provider": {"fake": provider},
        }
        folder = home / ".config" / "opencode"
        folder.mkdir(parents=True)
        (folder / "opencode.json").write_text(json.dumps(settings))
        return {
            "HOME": str(home),
            "OPENCODE_DISABLE_MODELS_FETCH": "1",
            "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
        }


class AgentContract(RealSessionStarter, Contract):
    """
    Tests for the contract of sessions, and for what the model is asked.
    """

    timeout = 180
    endless = "never answer [[silent]]"
    name: str
    program: str
    model: Any
    settings: Any
    make_folder: Any

    def setUp(self) -> None:
        self.variables = self.settings()
        self.dialect = self.name
        self.arguments = load_dialect(self.name).command(None)

    def environment(self, slow: bool) -> dict[str, str]:
        return environment(**self.variables)

    def read_dialect(self) -> Dialect:
        dialect = load_dialect(self.name)
        return evolve(dialect, start=evolve(dialect.start, program=self.program))

    async def test_exact(self) -> None:
        """
        An answer of 8 KB arrives as the model gave it, and each answer comes from a
        conversation of its own.
        """
        watched = await self.started()
        for idea in ('größer "大きい" \\ 🎉 ``` ' * 250, "a second"):
            request = STORY.accept({"idea": idea})
            reply = await watched.ask(STORY.prompt(request))
            self.assertEqual(STORY.answer_search(request, reply.text).find().value["title"], idea)
            await self.wait(watched.idle())
        self.assertEqual([len(prompts) for prompts in self.model.conversations], [1, 1])
        await self.stop(watched)

    async def test_tool(self) -> None:
        """
        A tool that the model calls is denied and not run; the next turn is not affected.
        """
        watched = await self.started()
        reply = await self.wait(watched.ask("Task: use a tool [[tool]]"))
        self.assertEqual(len(reply.denied), 1, reply)
        await self.wait(watched.idle())
        await self.ask_story(watched, "The one after")
        self.assertFalse((ROOT / "pwned").exists())
        await self.wait(watched.idle())
        await self.stop(watched)

    async def test_cancel_reaches_the_model(self) -> None:
        """
        When a turn is cancelled while the model answers, the agent hangs up on it.
        """
        watched = await self.started()
        reply = watched.ask(self.endless)
        await self.model.begun.get()
        reply.cancel()
        with self.assertRaises(CancelledError):
            await reply
        await self.model.abandoned.get()
        await self.wait(watched.idle())
        await self.stop(watched)


class GeminiTests(Gemini, AgentContract, TestCase):
    """
    Tests for sessions of Gemini CLI.
    """


class OpencodeTests(Opencode, AgentContract, TestCase):
    """
    Tests for sessions of opencode.
    """


class AgentServer:
    """
    Tests for a server with the agent.
    """

    timeout = 180
    name: str
    program: str
    path: str
    settings: Callable[[], dict[str, Any]]
    start: Callable[..., Any]
    story: Any
    header: Callable[..., str]
    assertEqual: Callable[..., None]

    async def test_stories(self) -> None:
        """
        Two concurrent requests get their own stories, each from a worker of its own.
        """
        variables = self.settings()
        self.path = f"{Path(self.program).parent}:{self.path}"
        await self.start("--agent", self.name, **variables)
        ideas = ["Export the list", "Filter by date"]
        answers = await gatherResults([self.story(idea) for idea in ideas])
        self.assertEqual([story["title"] for _, story in answers], ideas)
        workers = {self.header(response, "x-kiroworkers-worker") for response, _ in answers}
        self.assertEqual(workers, {"worker1", "worker2"})
        for response, _ in answers:
            self.assertEqual(self.header(response, "x-kiroworkers-completion"), "response")
            self.assertEqual(self.header(response, "x-kiroworkers-agent"), self.name)


class GeminiServerTests(Gemini, AgentServer, ServerTestCase):
    """
    Tests for a server with Gemini CLI.
    """

    async def test_model(self) -> None:
        """
        The model of --model answers, which Gemini CLI is started with.
        """
        variables = self.settings()
        self.path = f"{Path(self.program).parent}:{self.path}"
        options = ("--agent", self.name, "--model", "gemini-2.5-pro")
        await self.start(*options, workers=1, **variables)
        response, _ = await self.story("Export the list")
        self.assertEqual(response.code, 200)
        streamed = [path for path, _ in self.requests if path.endswith(":streamGenerateContent")]
        self.assertEqual(streamed, ["/v1beta/models/gemini-2.5-pro:streamGenerateContent"])


class OpencodeServerTests(Opencode, AgentServer, ServerTestCase):
    """
    Tests for a server with opencode.
    """

    async def test_model(self) -> None:
        """
        The model of --model answers, which each session selects; a request may choose another
        one, and the next request gets that of --model again.
        """
        variables = self.settings()
        settings = Path(variables["HOME"], ".config", "opencode", "opencode.json")
        config = json.loads(settings.read_text())
        config["provider"]["fake"]["models"]["second"] = {}
        settings.write_text(json.dumps(config))
        self.path = f"{Path(self.program).parent}:{self.path}"
        options = ("--agent", self.name, "--model", "fake/second", "--models", "fake/*")
        await self.start(*options, workers=1, **variables)
        for header, is_second in [(None, True), ("fake/fake-model", False), (None, True)]:
            self.requests.clear()
            headers = {} if header is None else {"X-Model": header}
            response, _ = await self.story("Export the list", headers=headers)
            self.assertEqual(response.code, 200)
            # The first model also gives each session its title.
            models = {body["model"] for _, body in self.requests}
            self.assertEqual("second" in models, is_second)
