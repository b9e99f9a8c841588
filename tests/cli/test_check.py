"""
Tests for `kiroworkers.cli.check`, with a real server and with servers that misbehave.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase
from twisted.web.resource import Resource
from twisted.web.server import Site

from kiroworkers.cli.check import Client, check
from kiroworkers.tasks import builtin_tasks
from tests.programs import Program, environment
from tests.servers import ServerTestCase, real, start_python

Answer = tuple[int, dict[str, str], Any]


class RealServerTests(ServerTestCase):
    """
    Tests for the command against a real server.
    """

    async def check(self) -> tuple[int, str]:
        """
        Run the command and return its exit status and its report.
        """
        program = Program()
        arguments = ["-m", "kiroworkers.check", self.base]
        start_python(program, arguments, environment(), self.folder)
        return await program.ended, program.output

    async def test_waiting(self) -> None:
        """
        If requests may wait, one more than there are workers is answered as well.
        """
        await self.start("--agent", "offline")
        status, report = await self.check()
        self.assertEqual((status, report.count("ok  ")), (0, 6), report)
        self.assertIn("agent: offline", report)
        self.assertIn("3 requests: all answered, one after a wait", report)

    async def test_refused(self) -> None:
        """
        If requests may not wait, one more than there are workers gets 503 with
        Retry-After.
        """
        await self.start("--agent", "offline", "--backlog", "0", KIROWORKERS_OFFLINE_DELAY="1")
        status, report = await self.check()
        self.assertEqual(status, 0, report)
        self.assertRegex(report, r"2 answered, one rejected with Retry-After \d")

    async def test_gone(self) -> None:
        """
        If nothing listens, the report says so and the status is 1.
        """
        await self.start(workers=1)
        await self.stop()
        status, report = await self.check()
        self.assertEqual(status, 1)
        self.assertIn("FAILED  health", report)
        self.assertIn("refused", report)


class _Scripted(Resource):
    """
    Answer each request with what a script returns for its path and body.
    """

    isLeaf = True

    def __init__(self, script: Callable[[str, Any], Answer]) -> None:
        super().__init__()
        self._script = script

    def render(self, request: Any) -> bytes:
        text = request.content.read()
        code, headers, body = self._script(request.path.decode(), json.loads(text or b"null"))
        request.setResponseCode(code)
        for name, value in headers.items():
            request.setHeader(name, value)
        return body if isinstance(body, bytes) else json.dumps(body).encode()


def healthy_answer(path: str, body: Any) -> Answer:
    """
    Return the answer of a server that works.
    """
    if path == "/health":
        workers = {"worker1": {"healthy": True, "state": "idle"}}
        return 200, {}, {"status": "running", "agent": "kiro", "workers": workers}
    answer = builtin_tasks()[path.rpartition("/")[2]].example_answer
    return 200, {}, {**answer, "title": body["idea"]} if "idea" in body else dict(answer)


class MisbehavingServerTests(TestCase):
    """
    Tests for `check` with servers that have one fault each.
    """

    async def report(self, script: Callable[[str, Any], Answer]) -> tuple[bool, str]:
        """
        Return whether a server with these answers passes, and the report on it.
        """
        port = real.listenTCP(0, Site(_Scripted(script)), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        lines: list[str] = []
        client = Client(f"http://127.0.0.1:{port.getHost().port}", 5.0)
        return await deferToThread(check, client, lines.append), "\n".join(lines)

    async def assert_failed(
        self, name: str, reason: str, script: Callable[[str, Any], Answer]
    ) -> None:
        passed, report = await self.report(script)
        self.assertFalse(passed, report)
        self.assertRegex(report, rf"FAILED  {name} .*{reason}")

    async def test_passes(self) -> None:
        """
        A server without a fault passes.
        """
        passed, report = await self.report(healthy_answer)
        self.assertTrue(passed, report)

    async def test_another_server(self) -> None:
        """
        The pages of a server other than kiroworkers do not pass.
        """
        await self.assert_failed("health", "without JSON", lambda *_: (200, {}, b"<html>"))
        await self.assert_failed(
            "health", "not a kiroworkers server", lambda *_: (404, {}, {"error": "?"})
        )

    async def test_unhealthy(self) -> None:
        """
        A worker that is not healthy is named with its state.
        """
        workers = {"worker1": {"healthy": False, "state": "starting"}}
        await self.assert_failed(
            "health", "worker1 is starting", lambda *_: (200, {}, {"workers": workers})
        )

    async def test_failed_pool(self) -> None:
        """
        A pool that cannot answer is named with its state and the reason, whatever its workers.
        """
        _, _, health = healthy_answer("/health", None)
        pool = {"state": "throttled", "detail": "Too many requests"}
        health["agents"] = {"kiro": {"pool": pool}}
        await self.assert_failed(
            "health", "kiro is throttled: Too many requests", lambda *_: (200, {}, health)
        )

    async def test_schema_mismatch(self) -> None:
        """
        An answer that does not match its schema fails its task and no other.
        """

        def script(path: str, body: Any) -> Answer:
            return (200, {}, {}) if path.endswith("generate-test") else healthy_answer(path, body)

        await self.assert_failed("generate-test", "does not match the schema", script)
        _, report = await self.report(script)
        self.assertEqual(report.count("FAILED"), 1)

    async def test_same_answer(self) -> None:
        """
        A server that gives the same answer to two ideas fails.
        """

        def script(path: str, body: Any) -> Answer:
            return healthy_answer(
                path, {**body, "idea": "the same"} if body and "idea" in body else body
            )

        await self.assert_failed("one too many", "two ideas got the same answer", script)

    async def test_no_retry_after(self) -> None:
        """
        A server that rejects a request without Retry-After fails.
        """

        def script(path: str, body: Any) -> Answer:
            is_second = body is not None and "team 2" in body.get("idea", "")
            return (503, {}, {"error": "busy"}) if is_second else healthy_answer(path, body)

        await self.assert_failed("one too many", "1 of 2 rejected", script)
