"""
End-to-end tests for the pool: deadlines, shutdown, restarts, scaling and operators.
"""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, gatherResults

from tests.programs import exits
from tests.servers import ServerTestCase, real


class DeadlineTests(ServerTestCase):
    """
    Tests for requests with a deadline.
    """

    async def test_client_deadline(self) -> None:
        """
        A client's own deadline applies if it is shorter than the server's, and the
        worker is free again after it.
        """
        await self.start(workers=1)
        for headers in ({"X-Request-Timeout": "0.3"}, {"Prefer": "handling=lenient, wait=1"}):
            response, body = await self.story("x [[silent]]", headers=headers)
            self.assertEqual((response.code, body["code"]), (504, "timed_out"))
        self.assertEqual(self.header(response, "preference-applied"), "wait=1")
        response, body = await self.story("y", headers={"X-Request-Timeout": "1000"})
        self.assertEqual((response.code, body["title"]), (200, "y"))

    async def test_invalid_headers(self) -> None:
        """
        The error for an invalid header names it.
        """
        await self.start(workers=1)
        for name, value in [
            ("X-Request-Timeout", "soon"),
            ("X-Request-Timeout", "0"),
            ("X-Request-Timeout", "nan"),
            ("X-Priority", "10"),
            ("X-Priority", "high"),
        ]:
            response, body = await self.story("x", headers={name: value})
            self.assertEqual((response.code, body["code"]), (400, "invalid_input"))
            self.assertEqual(body["field"], name)
        response, _ = await self.story("x", headers={"Prefer": "wait=soon"})
        self.assertEqual(response.code, 200)

    async def test_no_time_left(self) -> None:
        """
        A request that cannot be answered in time, judging by earlier turns, is refused at
        once; the response says when to retry and how long the queue is.
        """
        await self.start(workers=1)
        for number in range(5):
            await self.story(f"{number} [[think=0.3]]")
        response, body = await self.story("x", headers={"X-Request-Timeout": "0.1"})
        self.assertEqual((response.code, body["code"]), (503, "no_time_left"))
        self.assertEqual(body["queue"], {"length": 0, "limit": 32})
        self.assertEqual(self.header(response, "retry-after"), str(body["retryAfter"]))
        self.assertFalse(any('"x"' in line for line in self.typed.lines))

    async def test_abandoned(self) -> None:
        """
        A client that hangs up leaves the queue, or ends its turn: the worker serves the
        next request long before the deadline.
        """
        await self.start(workers=1)
        running = self.story("x [[silent]]")
        await self.typed.wait_for("x [[silent]]")
        waiting = self.story("y")
        running.addErrback(lambda _: None)
        waiting.addErrback(lambda _: None)
        await self.health()  # two connections may be read in either order; a third is later
        self.assertEqual((await self.health())["queue"]["length"], 1)
        waiting.cancel()
        running.cancel()
        response, body = await self.story("z")
        self.assertEqual((response.code, body["title"]), (200, "z"))
        self.assertFalse(any('"y"' in line for line in self.typed.lines))


class StopTests(ServerTestCase):
    """
    Tests for a server that stops.
    """

    async def draining(self, *ideas: str, **options: Any) -> list[Deferred[tuple[Any, Any]]]:
        """
        Send requests to a server, then stop it, and return their Deferreds.
        """
        await self.start("--graceful-timeout", options.get("timeout", "30"), workers=1)
        requests = [self.story(ideas[0])]
        await self.typed.wait_for(ideas[0])
        requests += [self.story(idea) for idea in ideas[1:]]
        await self.health()  # connections may be read in any order; a later one is later
        self.assertEqual((await self.health())["queue"]["length"], len(ideas) - 1)
        self.server.signal("TERM")
        await self.server.says("stopping: ")
        return requests

    async def test_drains(self) -> None:
        """
        Requests that run or wait are finished, new ones are refused, and the exit status
        is 0.
        """
        requests = await self.draining("a [[think=5]]", "b")
        response, body = await self.story("new")
        self.assertEqual((response.code, body["code"]), (503, "shutting_down"))
        response, body = await self.fetch("GET", "/ready")
        self.assertEqual((response.code, body["code"]), (503, "draining"))
        answers = await gatherResults(requests)
        self.assertEqual([body["title"] for _, body in answers], ["a [[think=5]]", "b"])
        self.assertEqual(await self.server.ended, 0, self.server.output)
        self.assertFalse(any('"new"' in line for line in self.typed.lines))

    async def test_graceful_timeout(self) -> None:
        """
        A request that is not finished within --graceful-timeout is refused, and the exit
        status is 1.
        """
        [request] = await self.draining("a [[silent]]", timeout="0.5")
        response, body = await request
        self.assertEqual((response.code, body["code"]), (502, "shutting_down"))
        self.assertEqual(await self.server.ended, 1, self.server.output)

    async def test_two_signals_at_once(self) -> None:
        """
        Two signals at once stop the server immediately.
        """
        await self.start("--graceful-timeout", "30", workers=1)
        request = self.story("a [[hang]]")
        await self.typed.wait_for("a [[hang]]")
        os.kill(self.server.pid, signal.SIGINT)
        os.kill(self.server.pid, signal.SIGTERM)
        response, body = await request
        self.assertEqual((response.code, body["code"]), (502, "shutting_down"))
        self.assertEqual(await self.server.ended, 1, self.server.output)

    async def test_second_signal(self) -> None:
        """
        A second signal stops the server immediately.
        """
        [request] = await self.draining("a [[hang]]")
        self.server.signal("INT")
        response, body = await request
        self.assertEqual((response.code, body["code"]), (502, "shutting_down"))
        self.assertEqual(await self.server.ended, 1, self.server.output)

    async def test_lame_duck(self) -> None:
        """
        At SIGTERM the server is not ready any more, and requests are answered nevertheless until
        the time of --lame-duck has passed; a second signal ends it.
        """
        await self.start("--lame-duck", "60", "--graceful-timeout", "30", workers=1)
        self.server.signal("TERM")
        await self.server.says("accepting requests for 60 s")
        response, body = await self.fetch("GET", "/ready")
        self.assertEqual((response.code, body["code"]), (503, "draining"))
        self.assertEqual((await self.health())["pool"]["state"], "draining")
        response, body = await self.story("late")
        self.assertEqual((response.code, body["title"]), (200, "late"))
        self.server.signal("TERM")
        self.assertEqual(await self.server.ended, 0, self.server.output)

    async def test_lame_duck_ends(self) -> None:
        """
        After the time of --lame-duck, the server stops as usual.
        """
        await self.start("--lame-duck", "0.2", "--graceful-timeout", "30", workers=1)
        request = self.story("a [[think=1]]")
        await self.typed.wait_for("a [[think=1]]")
        self.server.signal("TERM")
        await self.server.says(r"stopping: 1 request\(s\) to finish")
        response, body = await self.story("new")
        self.assertEqual((response.code, body["code"]), (503, "shutting_down"))
        self.assertEqual((await request)[0].code, 200)
        self.assertEqual(await self.server.ended, 0, self.server.output)

    async def test_idle(self) -> None:
        """
        An idle server tells its sessions to quit, and stops at once with status 0.
        """
        await self.start("--graceful-timeout", "30")
        self.server.signal("TERM")
        self.assertEqual(await self.server.ended, 0, self.server.output)
        self.assertEqual(self.typed.lines, ["/quit", "/quit"])


class RestartTests(ServerTestCase):
    """
    Tests for sessions that are replaced while the server runs.
    """

    async def test_hang_up_signal(self) -> None:
        """
        SIGHUP renews every session, one after the other, and refuses nothing.
        """
        # One may wait, while the worker that is not restarted clears its conversation.
        await self.start("--backlog", "1")
        pids = await self.pids()
        os.kill(self.server.pid, signal.SIGHUP)
        codes = []
        while set(await self.pids()) & set(pids):
            response, _ = await self.story("x")
            codes.append(response.code)
        self.assertEqual(set(codes), {200})
        await self.server.says(r"(serving -> \w+: SIGHUP[\s\S]*: ready[\s\S]*){2}")
        self.assertEqual(len(re.findall(r"serving -> \w+: SIGHUP", self.server.output)), 2)

    async def test_max_requests(self) -> None:
        """
        A session that has given --max-requests answers is replaced while the server
        serves on.
        """
        await self.start("--max-requests", "2", "--backlog", "0", workers=1)
        pids = await self.pids()
        seen = set(pids)
        for number in range(12):
            response, body = await self.story(f"idea {number}", headers={"X-Priority": "9"})
            if response.code == 503:
                continue  # no request may wait while the session is cleared
            self.assertEqual(body["title"], f"idea {number}")
            seen |= set(await self.pids())
        await self.server.says("gave [23] answers[\\s\\S]*worker1: ready")
        self.assertTrue(set(await self.pids()).isdisjoint(pids))

    async def test_recycle(self) -> None:
        """
        With --reset recycle each request has a process of its own.
        """
        await self.start("--reset", "recycle", workers=1)
        for number in range(3):
            _, body = await self.story(f"idea {number}")
            self.assertEqual(body["title"], f"idea {number}")
            self.assertEqual(body["acceptanceCriteria"], ["0 earlier prompts remembered"])
        started = set(re.findall(r"worker1: started, pid (\d+)", self.server.output))
        self.assertGreaterEqual(len(started), 3)
        self.assertFalse(any("/clear" in line for line in self.typed.lines))

    async def test_no_reset(self) -> None:
        """
        With --reset none the conversation goes on.
        """
        await self.start("--reset", "none", workers=1)
        for number in range(3):
            _, body = await self.story(f"idea {number}")
            self.assertEqual(body["acceptanceCriteria"], [f"{number} earlier prompts remembered"])

    async def test_scaling(self) -> None:
        """
        Under load, workers with stable names are added up to the limit; after it, they
        are removed again.
        """
        await self.start(
            *("--max-workers", "4", "--max-spare", "1", "--check-interval", "0.5"), workers=1
        )
        ideas = [f"idea {number} [[think=3]]" for number in range(6)]
        answers = await gatherResults([self.story(idea) for idea in ideas])
        self.assertEqual([body["title"] for _, body in answers], ideas)
        served = {self.header(response, "x-kiroworkers-worker") for response, _ in answers}
        self.assertTrue({"worker1"} < served <= {f"worker{number}" for number in range(1, 5)})
        self.assertIn("added, pool size 4", self.server.output)
        self.assertNotIn("added, pool size 5", self.server.output)
        await self.server.says("retired, pool size 1")
        health = await self.health()
        self.assertEqual(list(health["workers"]), ["worker1"])
        self.assertEqual(health["pool"]["maxWorkers"], 4)


class OperatorTests(ServerTestCase):
    """
    Tests for the operators' routes, and for who may use them.
    """

    async def operate(self, path: str, method: str = "POST", **kwargs: Any) -> Any:
        response, body = await self.fetch(method, f"/operator/{path}", **kwargs)
        self.assertIn(response.code, (200, 202), body)
        return body

    async def test_pause(self) -> None:
        """
        A paused pool begins no turn, lists the waiting requests, and loses none.
        """
        await self.start()
        body = await self.operate("pause")
        self.assertEqual(body["pool"]["state"], "paused")
        request = self.story("x", headers={"X-Priority": "7"})
        await self.health()  # two connections may be read in either order; a third is later
        [waiting] = (await self.operate("queue", "GET"))["requests"]
        members = {name: waiting[name] for name in ("task", "priority", "state", "client")}
        self.assertEqual(members, {"task": "generate-story", "priority": 7, "state": "waiting",
                                   "client": "127.0.0.1"})  # fmt: skip
        self.assertEqual(self.typed.lines, [])
        await self.operate("resume")
        _, body = await request
        self.assertEqual(body["title"], "x")

    async def test_workers(self) -> None:
        """
        A worker can be drained and restarted, and the number of workers changed.
        """
        await self.start()
        [first, _] = await self.pids()
        await self.operate("workers/worker1/drain")
        await exits(real, first)
        await self.server.says("worker1: .* -> drained")
        self.assertEqual((await self.health())["workers"]["worker1"]["state"], "drained")
        response, _ = await self.story("x")
        self.assertEqual(self.header(response, "x-kiroworkers-worker"), "worker2")
        await self.operate("workers/worker1/restart")
        await self.server.says("worker1: ready[\\s\\S]*worker1: ready")
        body = await self.operate("workers", "PUT", json={"workers": 3})
        self.assertEqual(body["pool"]["workers"], 3)
        await self.server.says("worker3: ready")
        await self.operate("workers", "PUT", json={"workers": 1})
        self.assertEqual(list((await self.health())["workers"]), ["worker1"])
        for invalid in ({"workers": 0}, {"workers": True}, {"workers": "2"}, {}, [1]):
            response, body = await self.fetch("PUT", "/operator/workers", json=invalid)
            self.assertEqual((response.code, body["field"]), (400, "workers"))
        response, body = await self.fetch("POST", "/operator/workers/worker9/drain")
        self.assertEqual((response.code, body["code"]), (404, "unknown_worker"))

    async def test_local_only(self) -> None:
        """
        Without tokens, operators' routes accept only direct requests from this machine:
        none from a web page or through a proxy, and none to another host name.
        """
        options = ("--allow-host", "kiro.example", "--cors-origin", "loopback")
        await self.start(*options, workers=1)
        for headers, code in (
            ({"Origin": "https://evil.example"}, "wrong_origin"),
            ({"Origin": "http://localhost:3000"}, "operators_only"),
            ({"Host": "evil.example"}, "wrong_host"),
            ({"Host": "kiro.example"}, "operators_only"),
            ({"X-Forwarded-For": "10.0.0.1"}, "operators_only"),
            ({"Host": "localhost", "Origin": "null"}, "wrong_origin"),
        ):
            response, body = await self.fetch("POST", "/operator/pause", headers=headers)
            self.assertEqual((response.code, body["code"]), (403, code), headers)
        self.assertEqual((await self.health())["pool"]["state"], "serving")

    async def test_dns_rebinding(self) -> None:
        """
        Without tokens, requests to another host name are refused, so that a page whose
        name resolves to this address can neither read nor ask anything.
        """
        await self.start(workers=1)
        for host in ("evil.example", "127.0.0.1.evil.example", "10.0.0.1:8080"):
            response, body = await self.fetch("GET", "/health", headers={"Host": host})
            self.assertEqual((response.code, body["code"]), (403, "wrong_host"), host)
            response, body = await self.story("x", headers={"Host": host})
            self.assertEqual((response.code, body["code"]), (403, "wrong_host"), host)
        for host in ("localhost:1234", "127.0.0.1", "[::1]:8080"):
            response, _ = await self.fetch("GET", "/health", headers={"Host": host})
            self.assertEqual(response.code, 200, host)

    async def test_tokens(self) -> None:
        """
        Each token allows its scopes, and SIGHUP reloads the tokens.
        """
        tokens = self.folder / "tokens"
        self.write_tokens(tokens, ask="a" * 20, watch="w" * 20, operate="o" * 20)
        await self.start("--token-file", str(tokens), workers=1)
        for token, path, code in [
            (None, "/health", 401),
            ("wrong", "/health", 401),
            ("a" * 20, "/health", 403),
            ("w" * 20, "/health", 200),
            ("o" * 20, "/health", 200),
            ("w" * 20, "/operator/queue", 403),
            ("o" * 20, "/operator/queue", 200),
            (None, "/ready", 200),
        ]:
            response, body = await self.fetch("GET", path, headers=self.authorization(token))
            self.assertEqual(response.code, code, (token, path, body))
        for token, code in [(None, 401), ("w" * 20, 403), ("a" * 20, 200)]:
            response, _ = await self.story("x", headers=self.authorization(token))
            self.assertEqual(response.code, code)
        self.write_tokens(tokens, ask="b" * 20)
        os.kill(self.server.pid, signal.SIGHUP)
        await self.server.says("-> (finishing|replacing): SIGHUP")
        for token, code in [("a" * 20, 401), ("b" * 20, 200)]:
            response, _ = await self.story("x", headers=self.authorization(token))
            self.assertEqual(response.code, code)
        self.assertNotIn("a" * 20, self.server.output)

    def write_tokens(self, path: Path, **tokens: str) -> None:
        path.write_text("".join(f"{name}r {name} {token}\n" for name, token in tokens.items()))

    def authorization(self, token: str | None) -> dict[str, str]:
        return {} if token is None else {"Authorization": f"Bearer {token}"}
