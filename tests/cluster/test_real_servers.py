"""
Tests for what real servers with a real database know of one another's accounts and rates.
"""

from __future__ import annotations

from typing import Any

from tests import postgres
from tests.programs import Program
from tests.servers import ServerTestCase


class RealServersTests(ServerTestCase):
    """
    Tests with two servers that name the same account.
    """

    skip = postgres.SKIP

    async def begin(self, *options: str) -> list[tuple[Program, str]]:
        """
        Start the servers, and return them with their URLs.
        """
        server = postgres.postgres()
        name = server.create_database()
        self.addCleanup(server.drop_database, name)
        file = self.folder / "database"
        file.write_text(f"{server.address(name)}\n")
        file.chmod(0o600)
        servers = []
        for number in range(2):
            shared = ("--database-file", str(file), "--account", "team")
            one = await self.start(*shared, "--server-name", f"s{number}", *options, workers=1)
            self.addCleanup(self.stop_one, one)
            servers.append((one, self.base))
        return servers

    async def stop_one(self, server: Program) -> None:
        if not server.ended.called:
            server.signal("TERM")
        await server.ended

    async def ask_at(self, base: str, idea: str) -> tuple[int, Any]:
        self.base = base
        response, body = await self.story(idea)
        return response.code, body

    async def test_outage(self) -> None:
        """
        An outage that one server's agent reports stops the other one, which then finds out for
        both that it is over; a server that starts meanwhile starts no session.
        """
        [(one, first), (two, second)] = await self.begin()
        code, body = await self.ask_at(first, "x [[trouble=throttled_shortly]]")
        self.assertEqual((code, body["code"]), (502, "throttled"))
        await two.says("circuit open: throttled: .*; reported by the server s0")
        self.base = second
        pool = (await self.health())["pool"]
        self.assertIn(pool["state"], ("throttled", "trying"))
        self.assertEqual(pool["reportedBy"], "s0")
        await two.says("circuit half-open")
        code, _ = await self.ask_at(second, "x")
        self.assertEqual(code, 200)
        await one.says("circuit closed: throttled is over, .*; reported by the server s1")

    async def test_rates(self) -> None:
        """
        What a client sends to one server counts on the other one.
        """
        [(_, first), (_, second)] = await self.begin("--rate", "1", "--rate-burst", "3")
        self.base = first
        codes = [(await self.ask("generate-story", {}))[0].code for _ in range(4)]
        self.assertEqual(codes, [400, 400, 400, 429])
        # Its response comes after that of the database.
        code, _ = await self.ask_at(second, "x [[think=0.5]]")
        self.assertEqual(code, 200)
        code, _ = await self.ask_at(second, "x")
        self.assertEqual(code, 429)
