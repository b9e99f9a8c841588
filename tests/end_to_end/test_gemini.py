"""
End to end with Gemini CLI on its terminal, against a model server on loopback.

Skipped where it is not installed: ``tests/agents/install.sh``.
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
    A model server, and Gemini's settings for it.
    """

    def settings(self) -> dict[str, str]:
        """
        The variables with which Gemini asks it.
        """
        self.gemini = find_agent("gemini")
        home = self.folder_of_its_own()
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
    It keeps the contract of sessions.
    """

    timeout = 120
    arguments = load_dialect("gemini").command(None)
    endless = "never answer [[silent]]"
    # A line that is longer than the screen is wide cannot be read for certain.
    hostile = (*HOSTILE[:-1], "x" * 8000)

    def setUp(self) -> None:
        self.variables = self.settings()

    def environment(self, slow: bool) -> dict[str, str]:
        return environment(**self.variables)

    def read_dialect(self) -> Dialect:
        return evolve(load_dialect("gemini"), program=self.gemini)

    async def test_tool(self) -> None:
        """
        A tool is denied, which ends the turn, and nothing was run.
        """
        watched = await self.started()
        reply = await self.wait(watched.session.ask("use a tool [[tool]]"))
        self.assertEqual(len(reply.denied), 1)
        self.assertFalse((ROOT / "pwned").exists())
        await self.wait(watched.idle())
        await self.ask_story(watched, "The one after")
        await self.wait(watched.idle())
        await self.stop(watched)


class ServerTests(Gemini, ServerTestCase):
    """
    It answers over HTTP.
    """

    timeout = 120

    async def test_stories(self) -> None:
        """
        Requests get their own stories, side by side and exactly, up to the 8 KB
        that a line of the screen holds, each from a conversation of its own.
        """
        variables: Any = self.settings()
        self.path = f"{Path(self.gemini).parent}{os.pathsep}{self.path}"
        await self.start("--agent", "gemini", **variables)
        # With quotes and commas that no rule for cut lines could do without.
        long = " ".join(f"{number}: " + 'ä, "' * 10 for number in range(145))
        ideas = ["Export the list", "Filter by date", long, "Sort by name"]
        for two in (ideas[:2], ideas[2:]):
            for idea, (response, story) in zip(
                two, await gatherResults(map(self.story, two)), strict=True
            ):
                self.assertEqual((response.code, story.get("title")), (200, idea), story)
                self.assertEqual(self.header(response, "x-kiroworkers-completion"), "idle-sign")
        self.assertEqual([len(each) for each in self.model.conversations], [1, 1, 1, 1])
