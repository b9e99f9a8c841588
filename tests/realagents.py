"""
Real agents for the tests, and the model server that they ask.

They are looked for in the folder that AGENTS_BIN names, beside this Python, and
on PATH; a test skips with a reason where its agent is not there.
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

from tests.modelserver import FakeModel, model_server
from tests.programs import folder_outside
from tests.servers import real

#: How those agents are installed that npm has.
NPM = "tests/agents/install.sh FOLDER, then AGENTS_BIN=FOLDER/node_modules/.bin"


def find_agent(name: str, install: str = NPM) -> str:
    """
    Return the path of the program `name`.

    Args:
        name: The program.
        install: How to install it.

    Raises:
        SkipTest: The program is not installed.
    """
    folders = [os.environ.get("AGENTS_BIN", ""), str(Path(sys.executable).parent)]
    path = os.pathsep.join([*filter(None, folders), os.environ.get("PATH", os.defpath)])
    found = shutil.which(name, path=path)
    if found is None:
        raise SkipTest(f"{name} is not installed: {install}")
    return found


class Ending(WrappingFactory):
    """
    Ends its connections when it is told to: an agent that was killed need not
    have been noticed.
    """

    _ended: Deferred[None] | None = None

    def end(self) -> Deferred[None]:
        """
        Fires when there is no connection any more.
        """
        if not self.protocols:
            return succeed(None)
        ended: Deferred[None] = Deferred()
        self._ended = ended
        for each in list(self.protocols):
            each.transport.abortConnection()
        return ended

    def unregisterProtocol(self, p: ProtocolWrapper) -> None:
        super().unregisterProtocol(p)
        if self._ended is not None and not self.protocols:
            ended, self._ended = self._ended, None
            ended.callback(None)


class ModelTestCase(TestCase):
    """
    Runs a model server.

    Attributes:
        model: what it was asked.
    """

    def start_model(self) -> str:
        """
        Start it; its URL, without a path.
        """
        self.model = FakeModel()
        factory = Ending(model_server(self.model))
        port: Any = real.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(factory.end)
        self.addCleanup(port.stopListening)
        return f"http://127.0.0.1:{port.getHost().port}"

    def folder_of_its_own(self) -> Path:
        """
        A new folder, for an agent's settings or work.
        """
        return folder_outside(self)
