"""
End-to-end tests with ``llm chat``, which asks a model server on loopback.

They are skipped if llm is not installed: ``pip install '.[agents]'``.
"""

from __future__ import annotations

import json
from typing import Any

from attrs import evolve

from kiroworkers.conversations import Dialect, load_dialect
from tests.programs import environment
from tests.realagents import ModelTestCase, find_agent
from tests.servers import ServerTestCase
from tests.session.test_contract import Contract, RealSessionStarter


class Llm(ModelTestCase):
    """
    Run a model server, and write llm's settings for it.
    """

    def settings(self) -> dict[str, str]:
        """
        Return the variables with which llm uses the model server.
        """
        self.llm = find_agent("llm", "pip install '.[agents]'")
        folder = self.make_folder()
        base = self.start_model() + "/v1"
        model = {"model_id": "fake", "model_name": "fake-model", "api_base": base}
        # A JSON file is also a YAML file.
        (folder / "extra-openai-models.yaml").write_text(json.dumps([model]))
        (folder / "keys.json").write_text('{"openai": "dummy"}')
        return {"LLM_USER_PATH": str(folder)}


class ContractTests(Llm, RealSessionStarter, Contract):
    """
    Tests for the contract of sessions, as far as a program with only a prompt can keep it.
    """

    timeout = 120
    arguments = ("chat", "-m", "fake")
    endless = "never answer [[silent]]"

    def setUp(self) -> None:
        self.variables = self.settings()

    def environment(self, slow: bool) -> dict[str, str]:
        return environment(**self.variables)

    def read_dialect(self) -> Dialect:
        dialect = load_dialect("llm")
        return evolve(dialect, start=evolve(dialect.start, program=self.llm))


class ServerTests(Llm, ServerTestCase):
    """
    Tests for a server with the agent.
    """

    timeout = 120

    async def test_story(self) -> None:
        """
        Two requests get their own stories, each from a conversation of its own.
        """
        variables: Any = self.settings()
        arguments = '["chat", "-m", "fake"]'
        dialect = f'extends = "llm"\n[start]\nprogram = "{self.llm}"\narguments = {arguments}'
        (self.folder / "mine.toml").write_text(dialect)
        await self.start("--agent", "./mine.toml", workers=1, **variables)
        for idea in ("Export the list", "Filter by date"):
            response, story = await self.story(idea)
            self.assertEqual((response.code, story["title"]), (200, idea), story)
            self.assertEqual(self.header(response, "x-kiroworkers-completion"), "quiet")
            self.assertEqual(self.header(response, "x-kiroworkers-agent"), "llm")
        self.assertEqual([len(prompts) for prompts in self.model.conversations], [1, 1])
