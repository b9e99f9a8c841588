"""
Helpers for tests with real agents, which ask a model server on loopback.

Agents are searched for in the folder that AGENTS_BIN names, beside this Python, and
on PATH.  A test whose agent is not installed is skipped with a reason.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.trial.unittest import SkipTest, TestCase

from kiroworkers.conversations import load_dialect
from kiroworkers.proof.setup import write_home
from tests.modelserver import FakeModel
from tests.programs import folder_outside
from tests.servers import real

#: How to install an agent, if not from npm.
_INSTALL = {"llm": "pip install '.[agents]'"}
_NPM = "tests/agents/install.sh FOLDER, then AGENTS_BIN=FOLDER/node_modules/.bin"


def find_agent(name: str) -> str:
    """
    Return the path of the program `name`.

    Raises:
        SkipTest: The program is not installed.
    """
    folders = [os.environ.get("AGENTS_BIN", ""), str(Path(sys.executable).parent)]
    search_path = os.pathsep.join([*filter(None, folders), os.environ.get("PATH", os.defpath)])
    path = shutil.which(name, path=search_path)
    if path is None:
        raise SkipTest(f"{name} is not installed: {_INSTALL.get(name, _NPM)}")
    return path


class AbortableFactory(WrappingFactory):
    """
    Keep track of connections, so that a test can abort those that are left.

    The server may not have noticed yet that an agent was killed.
    """

    _aborted: Deferred[None] | None = None

    def abort_connections(self) -> Deferred[None]:
        """
        Abort all connections; return a Deferred that fires when none is left.
        """
        if not self.protocols:
            return succeed(None)
        aborted: Deferred[None] = Deferred()
        self._aborted = aborted
        for protocol in list(self.protocols):
            protocol.transport.abortConnection()
        return aborted

    def unregisterProtocol(self, p: ProtocolWrapper) -> None:
        super().unregisterProtocol(p)
        if self._aborted is not None and not self.protocols:
            aborted, self._aborted = self._aborted, None
            aborted.callback(None)


class ModelTestCase(TestCase):
    """
    Run a model server for an agent.

    Attributes:
        model: The model, which records the requests and the prompts in them.
        program: The path of the agent's program.
    """

    def settings(self, name: str, folder: Path) -> dict[str, str]:
        """
        Start a model server; return the variables with which an agent uses it, from a new home.

        Args:
            name: The agent's dialect.
            folder: The folder in which its sessions run.

        Raises:
            SkipTest: The agent is not installed.
        """
        dialect = load_dialect(name)
        assert dialect.start.program is not None, "it is a program"
        assert dialect.model_server is not None, "it can use another model server"
        self.program = find_agent(dialect.start.program)
        root = self.make_folder()
        home = root / "home"
        variables = write_home(
            dialect.model_server, home, folder, self.start_model(), root / "answers.json"
        )
        return {**variables, "HOME": str(home)}

    def start_model(self) -> str:
        """
        Start the model server and return its URL, without a path.
        """
        self.model = self.new_model()
        factory = AbortableFactory(self.model.site(real))
        port: Any = real.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(factory.abort_connections)
        self.addCleanup(port.stopListening)
        return f"http://127.0.0.1:{port.getHost().port}"

    def new_model(self) -> FakeModel:
        """
        Return the model.
        """
        return FakeModel()

    def make_folder(self) -> Path:
        """
        Return a new folder for an agent's settings or work.
        """
        return folder_outside(self)
