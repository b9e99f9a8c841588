"""
End-to-end tests for answers that are invalid, and for streams of events.
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
    Tests for answers that do not match the task's schema.
    """

    async def test_repaired(self) -> None:
        """
        An invalid answer is followed by a second prompt in the same conversation, which
        says exactly what is wrong; a header of the response says so.
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
            await self.typed.wait_for("Task: repair")
            repairs = [line for line in self.typed.lines if line.startswith("Task: repair")]
            self.assertIn("storyPoint must be at most 8", repairs[0])
            self.assertIn("it contains no JSON object", repairs[1])
            self.typed.lines.clear()
            await self.stop()

    async def test_not_repaired(self) -> None:
        """
        If the second answer is invalid, too, another worker is tried; if that fails, the
        response is a 502 with each reason.
        """
        await self.start()
        response, body = await self.story("An idea [[lame]]")
        self.assertEqual((response.code, body["code"]), (502, "answer_unfit"), body)
        self.assertEqual(body["reasons"], ["storyPoint must be at most 8"] * 4)
        line = f"{body['worker']}: the answer to request {body['request']} is unusable"
        await self.server.says(line)
        workers = (await self.health())["workers"].values()
        self.assertEqual([worker["answered"] for worker in workers], [1, 1])

    async def test_deadline(self) -> None:
        """
        A repair does not extend the request's deadline.
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
        Request a story as a stream; return a Deferred of the response and its events.
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
        The events are the worker that answers, the text as it is written, the headers that
        the answer has otherwise, and the answer.
        """
        for agent in ("kiro-classic", "kiro-acp"):
            await self.start("--agent", agent, workers=1)
            response, events = await self.stream("An idea [[pretty]]")
            self.assertEqual(self.header(response, "content-type"), "text/event-stream")
            self.assertEqual(self.header(response, "cache-control"), "no-store")
            names = [name for name, _ in events]
            self.assertEqual((names[0], names[-2:]), ("started", ["headers", "answer"]))
            self.assertEqual(set(names[1:-2]), {"text"})
            self.assertEqual(events[0][1], {"worker": "worker1", "attempt": 1})
            text = "".join(data["text"] for name, data in events if name == "text")
            self.assertIn('"title": "An idea [[pretty]]"', text)
            self.assertEqual(events[-2][1]["X-Kiroworkers-Worker"], "worker1")
            self.assertEqual(events[-1][1]["title"], "An idea [[pretty]]")
            await self.stop()

    async def test_queued(self) -> None:
        """
        A request that waits gets an event with its position in the queue.
        """
        await self.start(workers=1)
        first = self.stream("the first [[think=5]]")
        await self.typed.wait_for("the first")
        (_, events), _ = await gatherResults([self.stream("the second"), first])
        self.assertEqual(events[0][0], "queued")
        self.assertEqual(events[0][1]["position"], 1)
        self.assertEqual(events[-1][1]["title"], "the second")

    async def test_retry(self) -> None:
        """
        One event says when the text so far is discarded, why, and where the agent is asked
        again.
        """
        await self.start(workers=2)
        mismatch = "the answer does not match the schema: storyPoint must be at most 8"
        killed = "the session ended: killed by SIGKILL"
        for idea, retries, last in [
            ("An idea [[mend lame]]", [(mismatch, "same_conversation")], "answer"),
            ("An idea [[killed=once]]", [(killed, "new_conversation")], "answer"),
            (
                "An idea [[lame]]",
                [
                    (mismatch, "same_conversation"),
                    (mismatch, "new_conversation"),
                    (mismatch, "same_conversation"),
                ],
                "error",
            ),
        ]:
            _, events = await self.stream(idea)
            self.assertEqual(
                [(data["reason"], data["where"]) for name, data in events if name == "retry"],
                retries,
            )
            self.assertEqual(events[-1][0], last)

    async def test_errors(self) -> None:
        """
        An error before the stream begins is an ordinary response; a later one is an
        event, with the same body and the status that the response would have had.
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
        A client that hangs up cancels its request.
        """
        await self.start(workers=1)
        pids = await self.pids()
        with socket.socket() as leaving:
            self.send_stream(leaving, "An idea [[silent]]")
            await self.typed.wait_for("[[silent]]")
        _, story = await self.story("the next")
        self.assertEqual(story["title"], "the next")
        self.assertEqual(await self.pids(), pids)
        self.assertNotIn("internal error", self.server.output)

    async def test_client_does_not_read(self) -> None:
        """
        A client that does not read is dropped, which cancels its request.
        """
        await self.start("--agent", "kiro-acp", workers=1)
        pids = await self.pids()
        with socket.socket() as client:
            # Little fits into the kernel.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            self.send_stream(client, "An idea [[big=6000000 whole stay=60]]")
            await self.server.says("127.0.0.1: dropped a stream of b'/kiro/generate-story'")
            _, story = await self.story("the next")
        self.assertEqual(story["title"], "the next")
        self.assertEqual(await self.pids(), pids)
        await self.server.says("code=not_read aborted=yes")

    def send_stream(self, client: socket.socket, idea: str) -> None:
        """
        Connect, and request a story as a stream.
        """
        body = json.dumps({"idea": idea})
        client.connect(("127.0.0.1", int(self.base.rpartition(":")[2])))
        client.sendall(
            "POST /kiro/generate-story HTTP/1.1\r\nHost: localhost\r\n"
            "Content-Type: application/json\r\nAccept: text/event-stream\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
        )


def events_in(text: str) -> list[tuple[str, Any]]:
    """
    Return the names and data of a stream's events, without comments.
    """
    events = []
    for block in text.split("\n\n"):
        lines = [line for line in block.split("\n") if line and not line.startswith(":")]
        if lines:
            fields = dict(line.split(": ", 1) for line in lines)
            events.append((fields["event"], json.loads(fields["data"])))
    return events
