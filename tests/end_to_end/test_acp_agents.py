"""
End to end with real agents that speak ACP: Gemini CLI and opencode, from npm,
against a model server on loopback.

Skipped where they are not installed: see `tests/agents/install.sh`.
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
    A model server, and Gemini CLI's settings for it.
    """

    name = "gemini-acp"

    def settings(self) -> dict[str, str]:
        """
        The variables with which it asks the model.
        """
        self.program = find_agent("gemini")
        home = self.folder_of_its_own()
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
    A model server, and opencode's settings for it.
    """

    name = "opencode-acp"

    def settings(self) -> dict[str, str]:
        """
        The variables with which it asks the model.
        """
        self.program = find_agent("opencode")
        home = self.folder_of_its_own()
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


class Started(RealSessionStarter, Contract):
    """
    The suite of every session, and what a model can tell.
    """

    timeout = 180
    endless = "never answer [[silent]]"
    name: str
    program: str
    model: Any
    settings: Any
    folder_of_its_own: Any

    def setUp(self) -> None:
        self.variables = self.settings()
        self.dialect = self.name
        self.arguments = load_dialect(self.name).command(None)

    def environment(self, slow: bool) -> dict[str, str]:
        return environment(**self.variables)

    def read_dialect(self) -> Dialect:
        return evolve(load_dialect(self.name), program=self.program)

    async def test_exact(self) -> None:
        """
        An answer of 8 KB comes back as the model gave it, each from a conversation
        that knows of no other.
        """
        watched = await self.started()
        for idea in ('größer "大きい" \\ 🎉 ``` ' * 250, "a second"):
            request = STORY.accept({"idea": idea})
            reply = await watched.session.ask(STORY.prompt(request))
            self.assertEqual(STORY.parse_answer(request, reply.text).value["title"], idea)
            await self.wait(watched.idle())
        self.assertEqual([len(each) for each in self.model.conversations], [1, 1])
        await self.stop(watched)

    async def test_tool(self) -> None:
        """
        A tool that the model calls is denied, and not run; the next turn is its own.
        """
        watched = await self.started()
        reply = await self.wait(watched.session.ask("Task: use a tool [[tool]]"))
        self.assertEqual(len(reply.denied), 1, reply)
        await self.wait(watched.idle())
        await self.ask_story(watched, "The one after")
        self.assertFalse((ROOT / "pwned").exists())
        await self.wait(watched.idle())
        await self.stop(watched)

    async def test_cancel_reaches_the_model(self) -> None:
        """
        When a turn is given up while the model speaks, the agent hangs up on it.
        """
        watched = await self.started()
        reply = watched.session.ask(self.endless)
        await self.model.begun.get()
        reply.cancel()
        with self.assertRaises(CancelledError):
            await reply
        await self.model.left.get()
        await self.wait(watched.idle())
        await self.stop(watched)


class GeminiTests(Gemini, Started, TestCase):
    """
    Gemini CLI keeps the contract.
    """


class OpencodeTests(Opencode, Started, TestCase):
    """
    So does opencode.
    """


class Served:
    """
    They answer over HTTP.
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
        Two requests side by side get their own stories, each from a worker of its
        own.
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


class GeminiServerTests(Gemini, Served, ServerTestCase):
    """
    Gemini CLI answers over HTTP.
    """


class OpencodeServerTests(Opencode, Served, ServerTestCase):
    """
    So does opencode.
    """
