"""
End-to-end tests for servers whose log cannot be written.
"""

from __future__ import annotations

import fcntl
import os
import re
import signal
from typing import Any

from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.web.client import Agent
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from tests.programs import exits
from tests.servers import ServerTestCase, real


@implementer(IAgentEndpointFactory)
class SocketEndpoints:
    """
    Connect to a Unix socket, whatever the URL says.
    """

    def __init__(self, path: str) -> None:
        self._path = path

    def endpointForURI(self, uri: Any) -> UNIXClientEndpoint:
        return UNIXClientEndpoint(real, self._path)


class LogTests(ServerTestCase):
    """
    Tests for servers whose log cannot be written, and which answer all the same.
    """

    async def ask_often(self, times: int) -> None:
        """
        Send this many requests, one after the other.
        """
        for number in range(times):
            response, _ = await self.story(f"Idea {number}")
            self.assertEqual(response.code, 200)

    async def test_unread_pipe(self) -> None:
        """
        A server whose standard output nobody reads answers, and writes every line that its
        queue can hold once somebody reads.
        """
        await self.start("--agent", "offline", workers=1)
        transport: Any = self.server.transport
        pipe = transport.pipes[1]
        fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, 4096)
        pipe.stopReading()
        await self.ask_often(100)
        pipe.startReading()
        await self.server.signal("TERM")
        self.assertEqual(len(re.findall(r"POST /kiro/generate-story", self.server.output)), 100)
        self.assertIn("Server Shut Down", self.server.output)

    async def test_stops_unread(self) -> None:
        """
        A server whose standard output nobody reads stops.
        """
        await self.start("--agent", "offline", workers=1)
        transport: Any = self.server.transport
        pipe = transport.pipes[1]
        fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, 4096)
        pipe.stopReading()
        await self.ask_often(100)
        ended = self.server.signal("TERM")
        await exits(real, self.server.pid)
        # Only then is the end of the output seen.
        pipe.startReading()
        self.assertEqual(await ended, 0)

    async def test_full_disk(self) -> None:
        """
        A server in the background whose log file is on a full disk answers and stops.
        """
        os.symlink("/dev/full", self.folder / "twistd.log")
        socket = str(self.folder / "socket")
        program = self.run_twistd(
            *("--agent", "offline", "--listen", f"unix:{socket}"), background=True
        )
        self.assertEqual(await program.ended, 0, program.output)
        pid = int((self.folder / "twistd.pid").read_text())
        agent = Agent.usingEndpointFactory(real, SocketEndpoints(socket))
        for _ in range(3):
            response = await agent.request(b"GET", b"http://localhost/kiro")
            self.assertEqual(response.code, 200)
        os.kill(pid, signal.SIGTERM)
        await exits(real, pid)
