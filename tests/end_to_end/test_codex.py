"""
End-to-end tests with Codex CLI, which asks a model server on loopback.

They are skipped if it is not installed: see ``tests/agents/install.sh``.
"""

from __future__ import annotations

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

_CONFIG = """
model = "fake-model"
model_provider = "fake"

[model_providers.fake]
name = "fake"
base_url = "{base}/v1"
env_key = "OPENAI_FAKE_KEY"
wire_api = "responses"
request_max_retries = 0
stream_max_retries = 0

[analytics]
enabled = false
"""
_TRUST = '\n[projects."{folder}"]\ntrust_level = "trusted"\n'


class Codex(ModelTestCase):
    """
    Run a model server, and write Codex's settings for it.
    """

    def settings(self, *folders: Path) -> dict[str, str]:
        """
        Return the variables with which Codex uses the model server and trusts `folders`.
        """
        self.codex = find_agent("codex")
        home = self.make_folder()
        trust = "".join(_TRUST.format(folder=folder) for folder in (ROOT, *folders))
        (home / "config.toml").write_text(_CONFIG.format(base=self.start_model()) + trust)
        return {"CODEX_HOME": str(home), "HOME": str(home), "OPENAI_FAKE_KEY": "dummy"}


class ContractTests(Codex, RealSessionStarter, Contract):
    """
    Tests for the contract of sessions.
    """

    timeout = 60
    arguments = load_dialect("codex").command(None)
    endless = "never answer [[silent]]"
    # A line that is longer than the screen's width cannot be read reliably.
    hostile = (*HOSTILE[:-1], "x" * 8000)

    def setUp(self) -> None:
        self.variables = self.settings()

    def environment(self, slow: bool) -> dict[str, str]:
        return environment(**self.variables)

    def read_dialect(self) -> Dialect:
        dialect = load_dialect("codex")
        return evolve(dialect, start=evolve(dialect.start, program=self.codex))


class ServerTests(Codex, ServerTestCase):
    """
    Tests for a server with the agent.
    """

    timeout = 60

    async def test_stories(self) -> None:
        """
        Concurrent requests get their own stories, unchanged up to the 8 KB that a line of
        the screen holds, and each from a conversation of its own.
        """
        variables: Any = self.settings(self.folder)
        self.path = f"{Path(self.codex).parent}{os.pathsep}{self.path}"
        await self.start("--agent", "codex", **variables)
        # The quotes and commas would be ambiguous if the line were cut.
        long = " ".join(f"{number}: " + 'ä, "' * 10 for number in range(145))
        ideas = ["Export the list", "Filter by date", long, "Sort by name"]
        for pair in (ideas[:2], ideas[2:]):
            for idea, (response, story) in zip(
                pair, await gatherResults(map(self.story, pair)), strict=True
            ):
                self.assertEqual((response.code, story.get("title")), (200, idea), story)
                self.assertEqual(self.header(response, "x-kiroworkers-completion"), "idle-sign")
                self.assertEqual(self.header(response, "x-kiroworkers-agent"), "codex")
        self.assertEqual([len(prompts) for prompts in self.model.conversations], [1, 1, 1, 1])
