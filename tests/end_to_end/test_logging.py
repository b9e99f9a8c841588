"""
End-to-end tests for logs, among them those that cannot be written.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
from pathlib import Path
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


class FormatTests(ServerTestCase):
    """
    Tests for what the logs of a server say.
    """

    async def test_json(self) -> None:
        """
        With --log-format json each line of each log is an object, and those about a request have
        its identifier; none quotes a prompt or an answer, except for what the slow log shows.
        """
        state = self.folder / "state"
        logs = state / "logs"
        await self.start(
            *("--log-format", "json", "--log-level", "debug", "--state-dir", str(state)),
            *("--slow-request", "0.001"),
            workers=1,
        )
        ids = {"X-Request-ID": "my-request"}
        response, story = await self.story("A very secret idea", headers=ids)
        self.assertEqual(response.code, 200)
        response, _ = await self.story(
            "A very secret idea [[prose]]", headers={"X-Request-ID": "2"}
        )
        self.assertEqual(response.code, 502)
        await self.fetch("POST", "/operator/pause", headers={"X-Request-ID": "by-operator"})
        await self.stop()
        events = [json.loads(line) for line in self.server.output.splitlines()]
        for event in events:
            self.assertLessEqual({"time", "level", "namespace", "message"}, {*event})
        [access] = [
            event for event in events if "status" in event and event["requestId"] == "my-request"
        ]
        self.assertEqual(
            (access["namespace"], access["outcome"], access["worker"], access["status"]),
            ("kiroworkers.access_log", "answered", "worker1", 200),
        )
        for name in ("wait", "firstOutput", "turn", "total"):
            self.assertIsInstance(access[name], float)
        [unfit] = [event for event in events if "is unusable" in event["message"]]
        self.assertEqual((unfit["requestId"], unfit["worker"]), ("2", "worker1"))
        [action] = [event for event in events if "operator" in event]
        self.assertEqual((action["requestId"], action["operator"]), ("by-operator", "127.0.0.1"))
        self.assertNotIn("secret idea", self.server.output)
        self.assertNotIn(story["title"], self.server.output)

        text = (logs / "worker1.log").read_text()
        turns = [event for event in map(json.loads, text.splitlines()) if "phases" in event]
        self.assertIn("my-request", [event.get("requestId") for event in turns])
        self.assertNotIn("secret idea", text)
        slow = [json.loads(line) for line in (logs / "slow.log").read_text().splitlines()]
        self.assertEqual([event["requestId"] for event in slow], ["my-request", "2"])
        self.assertIn("secret idea", slow[0]["screen"])
        self.assertIn("answered", slow[0]["events"])
        self.assertEqual(self.modes(logs), {"logs": 0o700, "worker1.log": 0o600, "slow.log": 0o600})

    def modes(self, folder: Path) -> dict[str, int]:
        return {path.name: path.stat().st_mode & 0o777 for path in (folder, *folder.iterdir())}
