"""
End-to-end tests for servers whose wall clock is set while they run.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol

from tests.servers import ServerTestCase, real
from tests.stepped_clock import SteppedClock

_BODY = b'{"idea": "Sent in two parts"}'
_HEAD = (
    b"POST /kiro/generate-story HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(_BODY)
)


class Connection(Protocol):
    """
    Send bytes to a server, and collect what it sends until it closes the connection.

    Attributes:
        closed: Fires with the bytes that were received.
    """

    def __init__(self) -> None:
        self.closed: Deferred[bytes] = Deferred()
        self._received = b""

    def send(self, data: bytes) -> None:
        """
        Send `data`.
        """
        transport: Any = self.transport
        transport.write(data)

    def dataReceived(self, data: bytes) -> None:
        self._received += data

    def connectionLost(self, reason: Any = None) -> None:
        self.closed.callback(self._received)


class ClockTests(ServerTestCase):
    """
    Tests for servers whose wall clock is set: no duration is longer or shorter for it.
    """

    forked = False

    def setUp(self) -> None:
        super().setUp()
        self.clock = SteppedClock(self.folder)
        self.addCleanup(self.clock.close)
        self.env = self.clock.environment

    async def step(self, seconds: float) -> None:
        """
        Set the clock this much forwards, and wait until the server has noticed it.
        """
        before = (await self.health())["timestamp"]
        self.clock.step(seconds)
        after = (await self.health())["timestamp"]
        self.assertLess(abs((after - before) / 1000 - seconds), 30)

    async def connect(self) -> Connection:
        """
        Return a connection that has sent the first part of a request.
        """
        port = int(self.base.rpartition(":")[2])
        connection = Connection()
        await connectProtocol(TCP4ClientEndpoint(real, "127.0.0.1", port), connection)
        connection.send(_HEAD + _BODY[:5])
        return connection

    async def test_forwards(self) -> None:
        """
        After a step forwards nothing is timed out: not a turn, a request that waits for a
        worker, a request that is being received or a worker that is idle.
        """
        await self.start(workers=1, **self.env)
        pids = await self.pids()
        for seconds in (3600, 60):
            turn = self.story(f"Step of {seconds} [[think=1]]")
            await self.typed.wait_for(f"Step of {seconds}")
            connection = await self.connect()
            waiting = self.story("Waits")
            await self.step(seconds)
            connection.send(_BODY[5:])
            for request in (turn, waiting):
                response, _ = await request
                self.assertEqual(response.code, 200)
            self.assertIn(b"HTTP/1.1 200", await connection.closed)
        self.assertEqual(await self.pids(), pids)

    async def test_backwards(self) -> None:
        """
        After a step backwards everything is still timed out: a turn, a request that waits
        for a worker, and a request that is being received; and a session restarts.
        """
        await self.start(
            *("--queue-timeout", "2", "--receive-timeout", "0.3", "--restart-delay", "0.3"),
            workers=1,
            **self.env,
        )
        for number, seconds in enumerate((-3600, -60), 1):
            turn = self.story(f"Silent {number} [[silent]]", headers={"X-Request-Timeout": "4"})
            await self.typed.wait_for(f"Silent {number}")
            connection = await self.connect()
            waiting = self.story("Waits")
            await self.step(seconds)
            self.assertIn(b"HTTP/1.1 408", await connection.closed)
            for request, status in ((waiting, 503), (turn, 504)):
                response, _ = await request
                self.assertEqual(response.code, status)
            killed = self.story(f"Killed {number} [[killed=k{number}]]")
            await self.server.says(rf"(?:worker1: .*: session ended[\s\S]*){{{number}}}")
            await self.step(seconds)
            response, _ = await killed
            self.assertEqual(response.code, 200)
