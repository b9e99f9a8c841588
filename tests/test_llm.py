"""
End to end with a real agent that is not Kiro: `llm chat`, from PyPI, against a
model server on loopback.

Skipped where llm is not installed: ``pip install '.[agents]'``.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from attrs import evolve
from twisted.internet.interfaces import IListeningPort
from twisted.trial.unittest import SkipTest, TestCase

from kiroworkers.terminal import Dialect, load_dialect
from tests.modelserver import Completions, model_server
from tests.programs import environment
from tests.servers import ServerTestCase, real
from tests.sessions.test_contract import Contract, RealStarting

LLM = shutil.which("llm", path=str(Path(sys.executable).parent))


class Model(TestCase):
    """
    A model server, and llm's settings for it.
    """

    def start_model(self) -> dict[str, str]:
        """
        The variables with which llm asks it.
        """
        if LLM is None:
            raise SkipTest("llm is not installed: pip install '.[agents]'")
        self.completions = Completions()
        port: IListeningPort = real.listenTCP(
            0, model_server(self.completions), interface="127.0.0.1"
        )
        self.addCleanup(port.stopListening)
        folder = Path(self.mktemp()).absolute()
        folder.mkdir(parents=True)
        base = f"http://127.0.0.1:{port.getHost().port}/v1"  # type: ignore[attr-defined]
        model = {"model_id": "fake", "model_name": "fake-model", "api_base": base}
        # A file of JSON is one of YAML, too.
        (folder / "extra-openai-models.yaml").write_text(json.dumps([model]))
        (folder / "keys.json").write_text('{"openai": "dummy"}')
        return {"LLM_USER_PATH": str(folder)}


class ContractTests(Model, RealStarting, Contract):
    """
    It keeps what a program with only a prompt can keep of the contract.
    """

    timeout = 120
    arguments = ("chat", "-m", "fake")
    endless = "never answer [[silent]]"

    def setUp(self) -> None:
        self.variables = self.start_model()

    def environment(self, slow: bool) -> dict[str, str]:
        return environment(**self.variables)

    def read_dialect(self) -> Dialect:
        return evolve(load_dialect("llm"), program=LLM)


class ServerTests(Model, ServerTestCase):
    """
    It answers over HTTP.
    """

    timeout = 120

    async def test_story(self) -> None:
        """
        Two requests get their own stories, each from a conversation of its own.
        """
        variables: Any = self.start_model()
        arguments = '["chat", "-m", "fake"]'
        dialect = f'extends = "llm"\n[start]\nprogram = "{LLM}"\narguments = {arguments}'
        (self.folder / "mine.toml").write_text(dialect)
        await self.start("--agent", "./mine.toml", workers=1, **variables)
        for idea in ("Export the list", "Filter by date"):
            response, story = await self.story(idea)
            self.assertEqual((response.code, story["title"]), (200, idea), story)
            self.assertEqual(self.header(response, "x-kiroworkers-completion"), "quiet")
            self.assertEqual(self.header(response, "x-kiroworkers-agent"), "llm")
        self.assertEqual([len(each) for each in self.completions.conversations], [1, 1])
