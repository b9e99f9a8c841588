"""
End to end: MCP's tasks.  A server over HTTP, real processes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import treq
from twisted.internet.defer import Deferred
from twisted.web.client import readBody

from tests.servers import ServerTestCase

_META = "io.modelcontextprotocol"
_REVISION = "2026-07-28"


class RestartTests(ServerTestCase):
    """
    Tasks outlive their server.
    """

    async def start_tasks(self) -> Any:
        return await self.start("--state-dir", str(self.folder / "state"), workers=1)

    async def post(self, method: str, params: Mapping[str, Any], **headers: str) -> Any:
        """
        Send a request of MCP from a client that knows tasks, and return the response.
        """
        meta = {
            f"{_META}/protocolVersion": _REVISION,
            f"{_META}/clientCapabilities": {"extensions": {f"{_META}/tasks": {}}},
        }
        name = params.get("name") or params.get("taskId")
        all_headers: dict[Any, Any] = {
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": _REVISION,
            "Mcp-Method": method,
            **({} if name is None else {"Mcp-Name": name}),
            **headers,
        }
        return await treq.post(
            f"{self.base}/mcp",
            json={
                "jsonrpc": "2.0",
                "id": 1,
                "method": method,
                "params": {**params, "_meta": meta},
            },
            headers=all_headers,
            persistent=False,
        )

    async def result(self, method: str, params: Mapping[str, Any], **headers: str) -> Any:
        response = await self.post(method, params, **headers)
        return (await response.json())["result"]

    async def call(self, idea: str, **headers: str) -> str:
        """
        Call a tool, and return the identifier of the task.
        """
        params = {"name": "generate-story", "arguments": {"idea": idea}}
        task = await self.result("tools/call", params, **headers)
        self.assertEqual((task["resultType"], task["status"]), ("task", "working"))
        id: str = task["taskId"]
        return id

    async def listen(self, id: str) -> Deferred[bytes]:
        """
        Subscribe to a task, and return a Deferred of all messages.
        """
        params = {"notifications": {"taskIds": [id]}}
        response = await self.post("subscriptions/listen", params)
        self.assertEqual(response.code, 200)
        body: Deferred[bytes] = readBody(response.original)
        return body

    def statuses(self, body: bytes) -> list[Any]:
        """
        Return the states of tasks in the messages of a subscription.
        """
        data = [line[6:] for line in body.decode().split("\n") if line.startswith("data: ")]
        messages = [json.loads(text) for text in data]
        return [
            message["params"]
            for message in messages
            if message.get("method") == "notifications/tasks"
        ]

    async def test_killed(self) -> None:
        """
        A server that is killed loses no task: the next one runs it again, and sends its states
        to subscribers until it has ended.
        """
        await self.start_tasks()
        first = await self.call("the first [[think=30]]", **{"X-Request-ID": "request-1"})
        second = await self.call("the second")
        await self.typed.wait_for("the first")
        await self.server.signal("KILL")
        self.typed.lines.clear()
        await self.start_tasks()
        await self.typed.wait_for("the first")
        following = await self.listen(first)
        task = await self.result("tasks/get", {"taskId": first})
        self.assertEqual(task["statusMessage"], "An agent works on the task, in attempt 2")
        waiting = await self.listen(second)
        await self.result("tasks/cancel", {"taskId": first})
        states = self.statuses(await following)
        self.assertEqual([state["status"] for state in states], ["working", "cancelled"])
        states = self.statuses(await waiting)
        self.assertEqual(states[0]["statusMessage"], "The task waits for a worker, at position 1")
        self.assertEqual(states[-1]["result"]["structuredContent"]["title"], "the second")
        _, job = await self.fetch("GET", f"/jobs/{first}")
        self.assertEqual((job["state"], job["requestId"]), ("cancelled", "request-1"))
