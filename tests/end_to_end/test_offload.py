"""
End-to-end tests for checks that take long, which the event loop does not wait for.
"""

from __future__ import annotations

from typing import Any

import psutil
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.web.client import ResponseNeverReceived

from tests.programs import exits, install_fake_kiro
from tests.servers import ServerTestCase, slow_callbacks

#: Schemas of 7 to 30 KB whose check or whose use takes from seconds to hours.
HOSTILE_SCHEMAS: tuple[Any, ...] = (
    {"$defs": {"a": {"anyOf": [False] * 1000}}, "anyOf": [{"$ref": "#/$defs/a"}] * 940},
    {"anyOf": [{}] * 7400},
)


class OffloadTests(ServerTestCase):
    """
    Tests for foreign schemas and long answers.
    """

    async def complete(self, schema: Any, content: str = '{"a": 1}') -> tuple[int, Any]:
        """
        Ask for an object that fits `schema`; return the status and the decoded body.
        """
        form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
        response, body = await self.fetch(
            "POST",
            "/v1/chat/completions",
            json={
                "model": "kiro",
                "messages": [{"role": "user", "content": content}],
                "response_format": form,
            },
        )
        return response.code, body

    def helpers(self) -> list[psutil.Process]:
        """
        Return the server's helper processes.
        """
        children = psutil.Process(self.server.pid).children(recursive=True)
        return [
            child
            for child in children
            if any("kiroworkers.offload.child" in argument for argument in child.cmdline())
        ]

    async def test_schemas(self) -> None:
        """
        Schemas that are expensive to check get an answer or are refused, and no callback of
        the event loop takes long; a killed helper process is replaced.
        """
        await self.start()
        small = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
        code, body = await self.complete(small)
        self.assertEqual(code, 200, body)
        [helper] = self.helpers()
        helper.kill()
        pending = [Deferred.fromCoroutine(self.complete(schema)) for schema in HOSTILE_SCHEMAS]
        self.assertEqual((await self.health())["status"], "running")
        for code, body in await gatherResults(pending):
            self.assertIn(code, (200, 400, 502), body)
            if code == 400:
                self.assertIn("response_format.json_schema.schema is too", body["error"]["message"])
        code, body = await self.complete(small)
        self.assertEqual(code, 200, body)
        self.assertEqual(slow_callbacks(self.server.output), [])

    async def test_long_texts(self) -> None:
        """
        A large request that does not fit is refused, an answer behind megabytes of other objects
        is found, and nobody waits for either.
        """
        self.path = install_fake_kiro(self.folder / "costly", "tests.costly_agent")
        await self.start("--agent", "kiro-acp", workers=1)
        response, body = await self.ask("generate-story", {"components": ["c"] * 19_900})
        self.assertEqual((response.code, body["error"]), (400, "Idea is required"))
        long = self.story(f"Long [[costly=objects,{2 * 2**20}]]")
        self.assertEqual((await self.health())["status"], "running")
        response, story = await long
        self.assertEqual(response.code, 200, story)
        response, body = await self.story(f"Unfit [[prose costly=objects,{2**18}]]")
        self.assertEqual((response.code, body["code"]), (502, "answer_unfit"), body)
        self.assertIn("only the last 100 of its", body["reasons"][0])
        self.assertEqual(slow_callbacks(self.server.output), [])

    async def test_ended(self) -> None:
        """
        The helper processes end if the server is killed while they work.
        """
        await self.start(workers=1)
        code, body = await self.complete({"type": "object"})
        self.assertEqual(code, 200, body)
        pending = [Deferred.fromCoroutine(self.complete(schema)) for schema in HOSTILE_SCHEMAS]
        await self.health()
        helpers = self.helpers()
        self.assertTrue(helpers)
        ended = [exits(reactor, helper.pid) for helper in helpers]
        self.server.signal("KILL")
        await self.server.ended
        for request in pending:
            await self.assertFailure(request, ResponseNeverReceived)
        await gatherResults(ended)
