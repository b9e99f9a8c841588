"""
End-to-end tests with Gemini CLI on a terminal, which asks a model server on loopback.

They are skipped if it is not installed: see ``tests/agents/install.sh``.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from attrs import evolve
from twisted.internet.defer import gatherResults

from kiroworkers.conversations import Dialect, load_dialect
from tests.programs import ROOT, environment
from tests.realagents import ModelTestCase, find_agent
from tests.servers import ServerTestCase
from tests.session.test_contract import HOSTILE, Contract, RealSessionStarter

_SETTINGS = {
    "security": {
        "auth": {"selectedType": "gemini-api-key"},
        "folderTrust": {"enabled": False},
    },
    "general": {"enableAutoUpdate": False, "enableAutoUpdateNotification": False},
    "privacy": {"usageStatisticsEnabled": False},
    "telemetry": {"enabled": False},
}


class Gemini(ModelTestCase):
    """
    Run a model server, and write Gemini CLI's settings for it.
    """

    def settings(self) -> dict[str, str]:
        """
        Return the variables with which Gemini CLI uses the model server.
        """
        self.gemini = find_agent("gemini")
        home = self.make_folder()
        (home / ".gemini").mkdir()
        (home / ".gemini" / "settings.json").write_text(json.dumps(_SETTINGS))
        return {
            "HOME": str(home),
            "GEMINI_API_KEY": "dummy",
            "GOOGLE_GEMINI_BASE_URL": self.start_model(),
            "GEMINI_CLI_TRUST_WORKSPACE": "true",
            "GEMINI_MODEL": "gemini-2.5-flash",
        }


class ContractTests(Gemini, RealSessionStarter, Contract):
    """
    Tests for the contract of sessions.
    """

    timeout = 120
    arguments = load_dialect("gemini").command(None)
    endless = "never answer [[silent]]"
    # A line that is longer than the screen's width cannot be read reliably.
    hostile = (*HOSTILE[:-1], "x" * 8000)

    def setUp(self) -> None:
        self.variables = self.settings()

    def environment(self, slow: bool) -> dict[str, str]:
        return environment(**self.variables)

    def read_dialect(self) -> Dialect:
        dialect = load_dialect("gemini")
        return evolve(dialect, start=evolve(dialect.start, program=self.gemini))

    async def test_tool(self) -> None:
        """
        A tool is denied, which ends the turn, and is not run.
        """
        watched = await self.started()
        reply = await self.wait(watched.ask("use a tool [[tool]]"))
        self.assertEqual(len(reply.denied), 1)
        self.assertFalse((ROOT / "pwned").exists())
        await self.wait(watched.idle())
        await self.ask_story(watched, "The one after")
        await self.wait(watched.idle())
        await self.stop(watched)


class ServerTests(Gemini, ServerTestCase):
    """
    Tests for a server with the agent.
    """

    timeout = 120

    async def test_stories(self) -> None:
        """
        Concurrent requests get their own stories, unchanged up to the 8 KB that a line of
        the screen holds, and each from a conversation of its own.
        """
        variables: Any = self.settings()
        self.path = f"{Path(self.gemini).parent}{os.pathsep}{self.path}"
        await self.start("--agent", "gemini", **variables)
        # The quotes and commas would be ambiguous if the line were cut.
        long = " ".join(f"{number}: " + 'ä, "' * 10 for number in range(145))
        ideas = ["Export the list", "Filter by date", long, "Sort by name"]
        for pair in (ideas[:2], ideas[2:]):
            for idea, (response, story) in zip(
                pair, await gatherResults(map(self.story, pair)), strict=True
            ):
                self.assertEqual((response.code, story.get("title")), (200, idea), story)
                self.assertEqual(self.header(response, "x-kiroworkers-completion"), "idle-sign")
        # Beside other tests the model was seen to get a fifth request, from a conversation of its
        # own; it is not known whether Gemini or the server sent it.
        lengths = [len(prompts) for prompts in self.model.conversations]
        self.assertGreaterEqual(len(lengths), 4)
        self.assertEqual({*lengths}, {1})
