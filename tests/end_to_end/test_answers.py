"""
End to end: answers that do not fit, and answers as they come. A server over HTTP,
real processes.
"""

from __future__ import annotations

import json
import socket
from typing import Any

import treq
from twisted.internet.defer import Deferred, gatherResults

from tests.servers import ServerTestCase


class RepairTests(ServerTestCase):
    """
    Tests for answers that do not fit.
    """

    async def test_repaired(self) -> None:
        """
        An answer that does not fit is asked for once more, in its own conversation,
        which says exactly what is wrong; the response says so.
        """
        for agent in ("kiro-classic", "kiro-acp"):
            await self.start("--agent", agent, workers=1)
            for fault in ("lame", "prose"):
                response, story = await self.story(f"An idea [[mend {fault}]]")
                self.assertEqual(response.code, 200, story)
                self.assertEqual(self.header(response, "x-kiroworkers-repairs"), "1")
                self.assertEqual(self.header(response, "x-kiroworkers-attempts"), "1")
            response, story = await self.story("the next")
            self.assertEqual(story["acceptanceCriteria"], ["0 earlier prompts remembered"])
            self.assertFalse(response.headers.hasHeader("x-kiroworkers-repairs"))
            await self.typed.heard("Task: repair")
            repairs = [line for line in self.typed.lines if line.startswith("Task: repair")]
            self.assertIn("storyPoint must be at most 8", repairs[0])
            self.assertIn("it contains no JSON object", repairs[1])
            self.typed.lines.clear()
            await self.stop()

    async def test_in_vain(self) -> None:
        """
        Then it is asked of another worker, and then it is a 502 with each reason.
        """
        await self.start()
        response, body = await self.story("An idea [[lame]]")
        self.assertEqual((response.code, body["code"]), (502, "answer_unfit"), body)
        self.assertEqual(body["reasons"], ["storyPoint must be at most 8"] * 4)
        told = f"{body['worker']}: the answer to request {body['request']} is unusable"
        await self.server.says(told)
        workers = (await self.health())["workers"].values()
        self.assertEqual([each["answered"] for each in workers], [1, 1])

    async def test_deadline(self) -> None:
        """
        All that is within the request's deadline.
        """
        await self.start(workers=1)
        headers = {"X-Request-Timeout": "1.5"}
        response, body = await self.story("An idea [[lame think=1]]", headers=headers)
        self.assertEqual((response.code, body["code"]), (504, "timed_out"), body)


class StreamTests(ServerTestCase):
    """
    Tests for answers as server-sent events.
    """

    def stream(self, idea: str, **headers: str) -> Deferred[tuple[Any, list[tuple[str, Any]]]]:
        """
        The response, and its events by name.
        """
        return Deferred.fromCoroutine(self._stream(idea, headers))

    async def _stream(self, idea: str, headers: Any) -> Any:
        response = await treq.post(
            f"{self.base}/kiro/generate-story",
            json={"idea": idea},
            headers={"Accept": "text/event-stream", **headers},
            persistent=False,
        )
        return response, events_in((await response.content()).decode())

    async def test_events(self) -> None:
        """
        A request is told who answers, what is said as it is said, and the answer.
        """
        for agent in ("kiro-classic", "kiro-acp"):
            await self.start("--agent", agent, workers=1)
            response, events = await self.stream("An idea [[pretty]]")
            self.assertEqual(self.header(response, "content-type"), "text/event-stream")
            self.assertEqual(self.header(response, "cache-control"), "no-store")
            names = [name for name, _ in events]
            self.assertEqual((names[0], names[-1]), ("started", "answer"))
            self.assertEqual(set(names[1:-1]), {"text"})
            self.assertEqual(events[0][1], {"worker": "worker1", "attempt": 1})
            said = "".join(data["text"] for name, data in events if name == "text")
            self.assertIn('"title": "An idea [[pretty]]"', said)
            self.assertEqual(events[-1][1]["title"], "An idea [[pretty]]")
            await self.stop()

    async def test_queued(self) -> None:
        """
        Who waits is told where in the queue.
        """
        await self.start(workers=1)
        first = self.stream("the first [[think=1]]")
        await self.typed.heard("the first")
        (_, events), _ = await gatherResults([self.stream("the second"), first])
        self.assertEqual(events[0][0], "queued")
        self.assertEqual(events[0][1]["position"], 1)
        self.assertEqual(events[-1][1]["title"], "the second")

    async def test_retry(self) -> None:
        """
        A client is told when what was said does not count.
        """
        await self.start(workers=2)
        _, events = await self.stream("An idea [[mend lame]]")
        reasons = [data["reason"] for name, data in events if name == "retry"]
        self.assertEqual(
            reasons, ["the answer does not match the schema: storyPoint must be at most 8"]
        )
        self.assertEqual(events[-1][0], "answer")
        _, events = await self.stream("An idea [[killed=once]]")
        reasons = [data["reason"] for name, data in events if name == "retry"]
        self.assertEqual(reasons, ["the session ended"])
        self.assertEqual(events[-1][0], "answer")

    async def test_errors(self) -> None:
        """
        What is wrong before anything is asked is a response of its own; after, it is
        an event, with the same body and the status that it would have had.
        """
        await self.start(workers=1)
        response, _ = await self.story("", headers={"Accept": "text/event-stream"})
        self.assertEqual(response.code, 400)
        self.assertEqual(self.header(response, "content-type"), "application/json; charset=utf-8")
        response, events = await self.stream("[[silent]]", **{"X-Request-Timeout": "0.5"})
        self.assertEqual(response.code, 200)
        name, body = events[-1]
        self.assertEqual((name, body["status"], body["code"]), ("error", 504, "timed_out"))

    async def test_client_leaves(self) -> None:
        """
        A client that hangs up gives its request up.
        """
        await self.start(workers=1)
        pids = await self.pids()
        body = json.dumps({"idea": "An idea [[silent]]"})
        port = int(self.base.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as leaving:
            leaving.sendall(
                "POST /kiro/generate-story HTTP/1.1\r\nHost: localhost\r\n"
                "Content-Type: application/json\r\nAccept: text/event-stream\r\n"
                f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
            )
            await self.typed.heard("[[silent]]")
        _, story = await self.story("the next")
        self.assertEqual(story["title"], "the next")
        self.assertEqual(await self.pids(), pids)
        self.assertNotIn("internal error", self.server.output)


def events_in(text: str) -> list[tuple[str, Any]]:
    """
    The events of a stream, as its standard reads them: comments are left out.
    """
    found = []
    for block in text.split("\n\n"):
        lines = [line for line in block.split("\n") if line and not line.startswith(":")]
        if lines:
            fields = dict(line.split(": ", 1) for line in lines)
            found.append((fields["event"], json.loads(fields["data"])))
    return found
