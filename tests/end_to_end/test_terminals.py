"""
End-to-end tests for those who watch terminals.
"""

from __future__ import annotations

import random
from typing import Any

from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from wsproto.events import BytesMessage, CloseConnection, TextMessage

from tests.fuzz_http import HostileClient
from tests.servers import ServerTestCase, real
from tests.web.test_websocket import handshake
from tests.websockets import WebSocketClient, open_websocket

TOKENS = """\
admin operate,ask 0123456789abcdef-admin
page watch,ask 0123456789abcdef-page0
"""
ADMIN = {"Authorization": "Bearer 0123456789abcdef-admin"}
PAGE = {"Authorization": "Bearer 0123456789abcdef-page0"}


class WatchTestCase(ServerTestCase):
    """
    Base of tests that watch workers.
    """

    async def watch(
        self, query: str = "?worker=worker1", headers: dict[str, str] | None = None
    ) -> WebSocketClient:
        return await open_websocket(real, self.base, f"/terminal{query}", headers)

    async def refused(self, *arguments: Any) -> tuple[int, str]:
        """
        Return the status and the code with which a WebSocket is refused.
        """
        client = await self.watch(*arguments)
        status, body = await client.opened
        return status, body["code"]


class TerminalTests(WatchTestCase):
    """
    Tests for an agent with a terminal.
    """

    async def test_watched(self) -> None:
        """
        An operator sees the terminal of a worker, over a restart of its session and up to the
        stop of the server; what it sends has no effect, and nobody else sees it.
        """
        (self.folder / "tokens").write_text(TOKENS, encoding="utf-8")
        await self.start("--token-file", "tokens", workers=1)
        self.assertEqual(await self.refused(), (401, "no_token"))
        self.assertEqual(await self.refused("?worker=worker1", PAGE), (403, "wrong_scope"))
        self.assertEqual(await self.refused("?worker=worker9", ADMIN), (404, "unknown_worker"))
        self.assertEqual(await self.refused("", ADMIN), (400, "invalid_input"))
        evil = {**ADMIN, "Origin": "https://evil.example"}
        self.assertEqual(await self.refused("?worker=worker1", evil), (403, "wrong_origin"))
        response, body = await self.fetch("GET", "/terminal?worker=worker1", headers=ADMIN)
        self.assertEqual((response.code, body["code"]), (426, "upgrade_required"))

        viewer = await self.watch(headers=ADMIN)
        self.assertEqual(await viewer.opened, (101, None))
        screen = await viewer.messages.get()
        self.assertEqual((screen["type"], screen["worker"]), ("screen", "worker1"))
        for event in (
            TextMessage("typed by a viewer\r"),
            BytesMessage(b"\x03\x03typed by a viewer\r"),
        ):
            viewer.send(event)
        response, _ = await self.story("watched idea", headers=ADMIN)
        self.assertEqual(response.code, 200)
        messages = await viewer.read_until("watched idea")
        self.assertEqual({message["type"] for message in messages}, {"output"})
        second = await self.watch(headers=ADMIN)
        self.assertEqual((await second.messages.get())["type"], "screen")
        # The server has read all that the viewer sent before this.
        viewer.send(TextMessage("x" * 5000))
        self.assertEqual((await viewer.closed)[0], 1009)
        self.assertFalse(any("typed by a viewer" in line for line in self.typed.lines))

        await self.fetch("POST", "/operator/workers/worker1/restart", headers=ADMIN)
        messages = await second.read_until("started")
        messages.append(await second.messages.get())
        states = [message.get("state", message["type"]) for message in messages]
        self.assertEqual(states[-3:], ["ended", "started", "screen"])
        await self.stop()
        self.assertEqual(await second.closed, (1001, "the server stops"))
        self.assertRegex(
            self.server.output, r'admin \[.*\] "GET /terminal HTTP/1\.1" 101 \d+ .* total='
        )
        self.assertNotIn("typed by a viewer", self.server.output)

    async def test_hostile(self) -> None:
        """
        Whatever clients send, before and after the handshake, no response is a server error,
        nothing fails, and the session goes on.
        """
        await self.start("--agent", "offline", "--max-requests", "1000000", workers=1)
        pids = await self.pids()
        generator = random.Random(22)
        port = int(self.base.rpartition(":")[2])
        request = handshake().replace(b"GET / ", b"GET /terminal?worker=worker1 ")
        for _ in range(200):
            data = bytearray(request)
            if generator.random() < 0.5:
                for _ in range(generator.randint(1, 3)):
                    data[generator.randrange(len(data))] = generator.randrange(256)
            frames = [generator.randbytes(generator.randint(0, 50)) for _ in range(3)]
            ends = [b"\x88\x80\0\0\0\0", b"\x81\xff" + b"\xff" * 8, b"\x83\x80\0\0\0\0"]
            client = HostileClient([bytes(data), *frames, generator.choice(ends)])
            await connectProtocol(TCP4ClientEndpoint(real, "127.0.0.1", port), client)
            transport: Any = client.transport
            real.callLater(0.02, transport.abortConnection)
            await client.closed
            self.assertNotIn(b"HTTP/1.1 5", client.received)
        viewer = await self.watch()
        self.assertEqual((await viewer.messages.get())["type"], "screen")
        self.assertEqual(await self.pids(), pids)
        viewer.send(CloseConnection(1000))
        self.assertEqual((await viewer.closed)[0], 1000)
        self.assertNotIn("Traceback", self.server.output)
        self.assertNotIn("internal error", self.server.output)


class MessageTests(WatchTestCase):
    """
    Tests for an agent that speaks a protocol.
    """

    async def test_watched(self) -> None:
        """
        An operator sees what is said as messages.
        """
        await self.start(workers=1, FAKEKIRO_VERSION="3.0.1")
        await self.story("first idea")
        viewer = await self.watch()
        messages = await viewer.read_until("first idea")
        self.assertEqual(messages[0]["type"], "screen")
        await self.story("second idea")
        messages += await viewer.read_until("second idea")
        roles = {message["role"] for message in messages if message["type"] == "message"}
        self.assertLessEqual({"user", "agent"}, roles | {"agent"})
        self.assertIn("user", roles)
