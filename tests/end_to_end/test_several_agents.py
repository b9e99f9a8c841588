"""
End-to-end tests for a server with several agents.
"""

from __future__ import annotations

import os
import signal
from typing import Any

from twisted.internet.defer import gatherResults

from tests.programs import Program, environment
from tests.servers import ServerTestCase, start_python


class MixedTests(ServerTestCase):
    """
    Tests for a server with the stand-in for Kiro and the offline agent.
    """

    async def start_both(self, *options: str, kiro: int = 1, **env: Any) -> None:
        agents = ("--agent", "kiro", "--agent", "offline=1")
        await self.start(*agents, *options, workers=kiro, **env)
        for number in range(1, kiro + 1):
            await self.server.says(rf"\] worker{number}: ready")
        await self.server.says(r"offline-worker1: ready")

    def ask_of(self, agent: str, idea: str, **headers: str) -> Any:
        return self.story(idea, headers={"X-Agent": agent, **headers})

    async def test_chosen_agent(self) -> None:
        """
        Each request is answered by the agent that it names, or else by the first; the log
        says at the start where answers come from.
        """
        await self.start_both(kiro=2)
        self.assertIn("kiro: answers come from Kiro", self.server.output)
        self.assertIn("offline: answers come from", self.server.output)
        for headers, agent, workers in [
            ({}, "kiro", {"worker1", "worker2"}),
            ({"X-Agent": "kiro"}, "kiro", {"worker1", "worker2"}),
            ({"X-Agent": "offline"}, "offline", {"offline-worker1"}),
        ]:
            response, _ = await self.story("Print the list", headers=headers)
            self.assertEqual(self.header(response, "x-kiroworkers-agent"), agent)
            self.assertIn(self.header(response, "x-kiroworkers-worker"), workers)
        health = await self.health()
        self.assertEqual(list(health["workers"]), ["worker1", "worker2", "offline-worker1"])
        response, body = await self.ask_of("gemini", "x")
        self.assertEqual((response.code, body["field"]), (400, "X-Agent"))
        self.assertEqual(body["error"], "X-Agent must be one of: kiro, offline")

    async def test_throttled(self) -> None:
        """
        While one agent is throttled, the other one answers; the throttled one recovers
        without help.
        """
        await self.start_both()
        response, body = await self.story("x [[trouble=throttled_shortly]]")
        self.assertEqual((response.code, body["code"]), (502, "throttled"))
        response, _ = await self.ask_of("offline", "Print the list")
        self.assertEqual(response.code, 200)
        await self.server.says("circuit half-open: throttled")
        response, body = await self.story("after it")
        self.assertEqual((response.code, body["title"]), (200, "after it"))

    async def test_busy(self) -> None:
        """
        Each agent has its own queue: while one queue is full, the other agent answers.
        """
        await self.start_both("--backlog", "0", "--graceful-timeout", "0.1")
        running = self.story("x [[silent]]")
        running.addErrback(lambda _: None)
        await self.typed.wait_for("x [[silent]]")
        response, body = await self.ask_of("kiro", "y")
        self.assertEqual((response.code, body["code"]), (503, "all_workers_busy"))
        response, _ = await self.ask_of("offline", "Print the list")
        self.assertEqual(response.code, 200)

    async def test_login(self) -> None:
        """
        If the user is not logged in to the first agent, the server is still ready, and
        the second agent answers.
        """
        options = ("--port", "0", "--agent", "kiro=1,offline=1", "--check-interval", "0.3")
        login = self.folder / "login"
        self.server = self.run_twistd(*options, FAKEKIRO_LOGIN=str(login))
        self.addCleanup(self.stop)
        port = await self.server.says(r"listening on .*port=(\d+)")
        self.base = f"http://127.0.0.1:{port[1]}"
        await self.server.says(r"\] worker1: .*login_required")
        await self.server.says("offline-worker1: ready")
        response, body = await self.fetch("GET", "/ready")
        self.assertEqual((response.code, body["workers"]), (200, ["offline-worker1"]))
        response, body = await self.fetch("GET", "/ready?agent=kiro")
        self.assertEqual((response.code, body["code"]), (503, "login_required"))
        response, body = await self.story("refused")
        self.assertEqual((response.code, body["code"]), (503, "login_required"))
        response, _ = await self.ask_of("offline", "Print the list")
        self.assertEqual(response.code, 200)
        login.touch()
        await self.server.says(r"\] worker1: ready")
        response, body = await self.story("x")
        self.assertEqual((response.code, body["title"]), (200, "x"))

    async def test_hang_up_signal(self) -> None:
        """
        SIGHUP restarts the sessions of all agents.
        """
        await self.start_both()
        os.kill(self.server.pid, signal.SIGHUP)
        await self.server.says(r"\] worker1: ready[\s\S]*\] worker1: ready")
        await self.server.says(r"offline-worker1: ready[\s\S]*offline-worker1: ready")

    async def test_stop(self) -> None:
        """
        A server that stops first finishes the requests of all agents.
        """
        await self.start_both("--graceful-timeout", "30")
        await self.fetch("POST", "/operator/pause")
        requests = [self.story("a"), self.ask_of("offline", "Print the list")]
        await self.health()  # two connections may be read in either order; a third is later
        self.server.signal("TERM")
        await self.server.says("stopping: 2 request")
        answers = await gatherResults(requests)
        self.assertEqual([response.code for response, _ in answers], [200, 200])
        self.assertEqual(await self.server.ended, 0, self.server.output)

    async def test_second_signal(self) -> None:
        """
        A second signal ends the requests of all agents at once.
        """
        await self.start_both("--graceful-timeout", "30", KIROWORKERS_OFFLINE_DELAY="30")
        requests = [self.story("a [[hang]]"), self.ask_of("offline", "Print the list")]
        await self.typed.wait_for("a [[hang]]")
        await self.health()  # two connections may be read in either order; a third is later
        self.server.signal("TERM")
        await self.server.says("stopping: 2 request")
        self.server.signal("INT")
        answers = await gatherResults(requests)
        self.assertEqual([body["code"] for _, body in answers], ["shutting_down"] * 2)
        self.assertEqual(await self.server.ended, 1, self.server.output)

    async def test_check(self) -> None:
        """
        The smoke check asks the first agent, or the one that --agent names.
        """
        await self.start_both()
        for options, worker, agent in [
            ([], "worker1", "kiro"),
            (["--agent", "offline"], "offline-worker1", "offline"),
        ]:
            program = Program()
            arguments = ["-m", "kiroworkers.check", self.base, *options]
            start_python(program, arguments, environment(), self.folder)
            self.assertEqual(await program.ended, 0, program.output)
            self.assertIn("2 workers, all healthy; agent: kiro, offline", program.output)
            self.assertIn(f"1 requests: {worker} in", program.output, agent)
            self.assertIn("2 requests: all answered", program.output)
