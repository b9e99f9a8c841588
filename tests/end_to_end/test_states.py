"""
End-to-end tests for what a server reports in each of its states, as ``docs/states.rst`` says.
"""

from __future__ import annotations

import json
import math
import os
import re
import resource
import runpy
import signal
from pathlib import Path
from typing import Any

import treq
from twisted.internet.defer import Deferred
from twisted.web.client import HTTPConnectionPool

from tests.programs import ROOT
from tests.servers import ServerTestCase, real

_PAGE = runpy.run_path(str(ROOT / "docs" / "states.py"))
_STATES: dict[str, Any] = {state.name: state for state in _PAGE["STATES"]}

#: The longest reason, in characters.
_MAX_REASON = 2200

_JOB = {"Prefer": "respond-async"}

#: A program that cannot start sessions.
_BROKEN = """#!/bin/sh
[ "$1" = --version ] && exec echo kiro-cli 2.11.0
echo cannot open the display
exit 1
"""


class StateTests(ServerTestCase):
    """
    Tests that drive a server from one state to the next.
    """

    def setUp(self) -> None:
        super().setUp()
        self.program = self.folder / "bin" / "kiro-cli"
        # One connection stays open, for a server that cannot accept any more.
        self.connections = HTTPConnectionPool(real)
        self.connections.maxPersistentPerHost = 1
        self.addCleanup(self.connections.closeCachedConnections)

    async def fetch(self, method: str, path: str, **kwargs: Any) -> tuple[Any, Any]:
        response = await treq.request(method, self.base + path, pool=self.connections, **kwargs)
        return response, json.loads(await response.content())

    async def assert_reported(self, name: str, **headers: str) -> None:
        """
        Assert that the server reports the state called `name` as the table says.

        Args:
            name: The name of the state.
            **headers: The headers of the request that is made; the server must not answer one
                that waits.
        """
        state = _STATES[name]
        if state.log:
            await self.server.says(re.escape(state.log))
        health = await self.health()
        self.assertEqual(health["pool"]["state"], state.pool)
        self.assert_contains(health["pool"]["detail"], state.detail)
        for worker in health["workers"].values():
            # A session whose turn has just ended is idle once it has cleared its conversation.
            self.assertEqual(worker["state"].replace("clearing", "idle"), state.worker)
            self.assert_clean(worker["lastError"])
        response, ready = await self.fetch("GET", "/ready")
        self.assertEqual(" ".join([str(response.code), ready.get("code", "")]).strip(), state.ready)
        self.assert_contains(ready.get("error"), None if state.ready == "200" else state.detail)
        if state.post == "waits":
            await self.assert_waits()
            return
        response, body = await self.story("compared", headers=headers)
        self.assertEqual(" ".join([str(response.code), body.get("code", "")]).strip(), state.post)
        if response.code != 200:
            self.assert_contains(body["error"], state.message)
            self.assertEqual(self.header(response, "retry-after"), str(body["retryAfter"]))
            self.assert_true(state, health, body["retryAfter"], await self.health())

    async def assert_waits(self) -> None:
        """
        Assert that a request is put into the queue, and take it back.
        """
        _, before = await self.fetch("GET", "/operator/queue")
        waiting = self.story("waits")
        waiting.addErrback(lambda _: None)
        requests: list[Any] = []
        # It has its own connection, so it may arrive later than the first of these.
        while len(requests) <= len(before["requests"]):
            _, queue = await self.fetch("GET", "/operator/queue")
            requests = queue["requests"]
        self.assertEqual(requests[-1]["state"], "waiting")
        waiting.cancel()
        while len(requests) > len(before["requests"]):
            _, queue = await self.fetch("GET", "/operator/queue")
            requests = queue["requests"]

    def assert_contains(self, text: str | None, part: str | None) -> None:
        """
        Assert that `text` contains `part`, is of one line and is not too long.
        """
        if part is None:
            self.assertIs(text, None)
        else:
            self.assertIn(part, text or "")
        self.assert_clean(text)

    def assert_clean(self, reason: str | None) -> None:
        """
        Assert that `reason` is short and without control characters.
        """
        self.assertLessEqual(len(reason or ""), _MAX_REASON)
        self.assertTrue((reason or "").isprintable(), reason)

    def assert_true(self, state: Any, before: Any, told: int, after: Any) -> None:
        """
        Assert that a client was told the time that the server itself reports.

        Args:
            state: The state of the server.
            before: What ``/health`` said before the client was told.
            told: The client's ``Retry-After``.
            after: What ``/health`` said afterwards.
        """
        if state.retry_after == _PAGE["NEXT_ATTEMPT"]:
            latest, earliest = (health["pool"]["retryAfter"] for health in (before, after))
        elif state.retry_after == _PAGE["NEXT_START"]:
            latest, earliest = map(_seconds_to_start, (before, after))
        else:
            latest, earliest = told, 1
        self.assertTrue(earliest <= told <= latest, (state.name, earliest, told, latest))

    async def operate(self, path: str) -> None:
        response, _ = await self.fetch("POST", f"/operator/{path}")
        self.assertLess(response.code, 300)

    async def lose_session(self) -> None:
        """
        Kill the session of the only worker.
        """
        [pid] = await self.pids()
        os.kill(pid, signal.SIGKILL)

    def replace_program(self, script: str, mode: int = 0o755) -> None:
        """
        Replace the agent's program by another one.
        """
        new = self.folder / "new"
        new.write_text(script)
        new.chmod(mode)
        new.rename(self.program)

    def limit(self, kind: int, most: int) -> None:
        """
        Set a limit of the running server, and restore it at the end.
        """
        pid = self.server.pid
        soft, hard = resource.prlimit(pid, kind)
        resource.prlimit(pid, kind, (most, hard))
        self.restore = lambda: resource.prlimit(pid, kind, (soft, hard))

    async def restarted(self) -> None:
        """
        Restart the worker and wait until it is ready.
        """
        count = self.server.output.count("worker1: ready")
        await self.operate("workers/worker1/restart")
        await self.server.says(f"(worker1: ready[\\s\\S]*){{{count + 1}}}")

    async def test_pool(self) -> None:
        """
        A pool starts, serves, is full, is paused, drained, and ends.
        """
        gate = self.folder / "gate"
        os.mkfifo(gate)
        original = self.program.read_text()
        wait = f'#!/bin/sh\n[ "$1" = chat ] && read _ < {gate}\n'
        self.replace_program(original.replace("#!/bin/sh\n", wait))
        opened = os.open(gate, os.O_RDWR)
        self.addCleanup(os.close, opened)
        self.server = self.run_twistd(
            *("--port", "0", "--workers", "1", "--backlog", "1", "--queue-timeout", "3600"),
            *("--state-dir", str(self.folder / "state"), "--graceful-timeout", "10"),
        )
        self.addCleanup(self.stop)
        port = await self.server.says(r"listening on .*port=(\d+)")
        self.base = f"http://127.0.0.1:{port[1]}"
        await self.server.says("worker1: started")
        await self.assert_reported("starting")
        os.write(opened, b"\n")
        await self.server.says("worker1: ready")
        await self.assert_reported("serving")
        running = await self.running("a")
        await self.assert_reported("busy")
        waiting = await self.waiting()
        await self.assert_reported("full")
        waiting.cancel()
        running.cancel()
        while (await self.story("the worker is free again"))[0].code != 200:
            pass  # The queue is full until the server has noticed that both have gone.

        await self.operate("pause")
        await self.assert_reported("paused")
        waiting = await self.waiting()
        await self.assert_reported("paused and full")
        await self.operate("resume")
        self.assertEqual((await waiting)[0].code, 200)

        self.limit(resource.RLIMIT_FSIZE, 0)
        response, _ = await self.story("a job", headers=_JOB)
        self.assertEqual(response.code, 503)
        await self.assert_reported("storage failing", **_JOB)
        for path in ("/health", "/ready"):
            _, body = await self.fetch("GET", path)
            self.assertEqual(body["storage"]["state"], "failing")
        self.assertEqual((await self.story("no job"))[0].code, 200)
        self.restore()
        await self.server.says("storage works again")

        await self.operate("workers/worker1/drain")
        await self.server.says("worker1: .* -> drained")
        await self.assert_reported("drained")
        os.write(opened, b"\n")
        await self.restarted()

        running = await self.running("b")
        self.server.signal("TERM")
        await self.server.says("stopping: ")
        await self.assert_reported("draining")
        running.cancel()
        self.assertEqual(await self.server.ended, 0)

    async def running(self, idea: str) -> Deferred[Any]:
        """
        Return the Deferred of a request whose turn has begun and does not end.
        """
        running = self.story(f"{idea} [[silent]]")
        running.addErrback(lambda _: None)
        await self.typed.wait_for(f"{idea} [[silent]]")
        return running

    async def waiting(self) -> Deferred[Any]:
        """
        Return the Deferred of a request that is in the queue.
        """
        waiting = self.story("waits")
        waiting.addErrback(lambda _: None)
        while (await self.health())["queue"]["length"] == 0:
            pass
        return waiting

    async def test_starts(self) -> None:
        """
        A pool whose sessions do not start says why at once, and recovers.
        """
        original = self.program.read_text()
        await self.start(
            *("--restart-delay", "0.1", "--restart-max-delay", "3600"),
            *("--start-limit-burst", "3", "--queue-timeout", "3600"),
            workers=1,
        )
        self.replace_program(_BROKEN)
        await self.lose_session()
        await self.server.says("worker1: .* -> failed")
        await self.assert_reported("failed")

        newer = original.replace("#!/bin/sh\n", "#!/bin/sh\nexport FAKEKIRO_VERSION=2.12.0\n")
        self.replace_program(newer)
        await self.restarted()
        await self.assert_reported("agent replaced")
        self.assertIn("2.12.0", (await self.health())["agentDetail"])

        self.limit(resource.RLIMIT_NOFILE, 3)
        await self.lose_session()
        await self.server.says("(worker1: .* -> failed[\\s\\S]*){2}")
        await self.assert_reported("out of descriptors")
        self.restore()
        await self.restarted()
        await self.assert_reported("serving")

    async def test_program(self) -> None:
        """
        A program that is gone or cannot be executed is the reason after the first attempt.
        """
        await self.start("--restart-delay", "300", workers=1)
        self.program.chmod(0o644)
        await self.lose_session()
        await self.server.says("worker1: .* -> waiting")
        await self.operate("workers/worker1/restart")
        await self.server.says("session ended: could not start")
        await self.assert_reported("agent gone")
        self.program.unlink()
        await self.operate("workers/worker1/restart")
        await self.server.says("(session ended: could not start[\\s\\S]*){2}")
        await self.assert_reported("agent gone")

    async def test_version(self) -> None:
        """
        No session of an earlier version is left, and the new one has not passed its canary.
        """
        self.server = self.run_twistd(
            *("--port", "0", "--workers", "1", "--canary", "--startup-timeout", "2"),
            FAKEKIRO="mute",
        )
        self.addCleanup(self.stop)
        port = await self.server.says(r"listening on .*port=(\d+)")
        self.base = f"http://127.0.0.1:{port[1]}"
        await self.assert_reported("version refused")

    async def test_login(self) -> None:
        """
        Nobody is logged in.
        """
        self.server = self.run_twistd(
            *("--port", "0", "--workers", "1"), FAKEKIRO_LOGIN=str(self.folder / "login")
        )
        self.addCleanup(self.stop)
        port = await self.server.says(r"listening on .*port=(\d+)")
        self.base = f"http://127.0.0.1:{port[1]}"
        await self.server.says("worker1: .*login_required")
        await self.assert_reported("login required")

    async def test_account(self) -> None:
        """
        The account cannot be used; the client that finds out is told the same time as the next.
        """
        for kind in ("throttled", "suspended", "out_of_credits"):
            await self.start(workers=1)
            response, first = await self.story(f"x [[trouble={kind}]]")
            self.assertEqual((response.code, first["code"]), (502, kind))
            self.assertGreaterEqual(
                first["retryAfter"], (await self.health())["pool"]["retryAfter"]
            )
            await self.assert_reported(kind.replace("_", " "))
            await self.connections.closeCachedConnections()
            await self.stop()


class PageTests(ServerTestCase):
    """
    Tests for the page.
    """

    def test_page(self) -> None:
        """
        The page in the repository is made from the table: ``python docs/states.py >
        docs/states.rst``.
        """
        page = (ROOT / "docs" / "states.rst").read_text(encoding="utf-8")
        self.assertEqual(page, _PAGE["page"]())

    def test_complete(self) -> None:
        """
        Each state of the table is compared by a test above.
        """
        source = Path(__file__).read_text(encoding="utf-8")
        kinds = {kind.replace("_", " ") for kind in ("throttled", "suspended", "out_of_credits")}
        for name in _STATES:
            self.assertTrue(name in kinds or f'assert_reported("{name}"' in source, name)


def _seconds_to_start(health: Any) -> int:
    """
    Return the whole seconds until the next session starts.
    """
    starts: list[int] = [worker["nextStart"] for worker in health["workers"].values()]
    now: int = health["timestamp"]
    return math.ceil((min(starts) - now) / 1000)
