"""
Tests for `kiroworkers.web.chat.responses`, in memory.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.chat import ChatReply, Usage, parse_response
from kiroworkers.pool.progress import PartialText
from kiroworkers.web.chat.responses import ResponseWriter
from kiroworkers.web.chat.stream import ReplyStream
from tests.web.streams import streamed_request
from tests.web.test_errors import CHAT, MemoryServer, silent

RESPONSES = "/v1/responses"

#: The beginning of an image, as base64 text.
GIF = "R0lGODlhAQABAAAAACw="

#: The events of a stream with one piece of text, in their order.
EVENTS = [
    "response.created",
    "response.in_progress",
    "response.output_item.added",
    "response.content_part.added",
    "response.output_text.delta",
    "response.output_text.done",
    "response.content_part.done",
    "response.output_item.done",
    "response.completed",
]


def events_in(content: bytes) -> list[dict[str, Any]]:
    """
    Return the data of the events in `content`, each of which has the name that its data has.
    """
    events = []
    for block in content.decode().split("\n\n")[:-1]:
        if block.startswith(":"):
            continue
        name, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}", block
        events.append(event)
    return events


class WriterTests(SynchronousTestCase):
    """
    Tests for the stream of a `ResponseWriter`.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(100)
        self.request = streamed_request()
        body = {
            "model": "kiro",
            "input": "Hi",
            "instructions": "Be brief",
            "metadata": {"a": "b"},
            "text": {"format": {"type": "text"}},
        }
        self.writer = ResponseWriter("resp_1", "msg_1", parse_response(body), self.clock.seconds)

    def stream(self) -> ReplyStream:
        stream = ReplyStream(self.clock, self.request, self.writer, True)
        self.addCleanup(stream.close)
        return stream

    def finish(self, stream: ReplyStream, content: str) -> Deferred[bool]:
        reply = ChatReply(content, None, Usage(3, 2))
        return Deferred.fromCoroutine(stream.finish(reply))

    def sent(self) -> list[dict[str, Any]]:
        """
        Return the events that were sent, after checking their numbers.
        """
        events = events_in(self.request.sent())
        self.assertEqual([event["sequence_number"] for event in events], [*range(len(events))])
        return events

    def test_whole(self) -> None:
        """
        A response has one message, repeats what the client gave it, and says when it began and
        ended.
        """
        self.clock.advance(5)
        response = self.writer.whole(ChatReply("Hello", None, Usage(3, 2)))
        [message] = response["output"]
        self.assertEqual(
            (message["type"], message["role"], message["id"]), ("message", "assistant", "msg_1")
        )
        [part] = message["content"]
        self.assertEqual((part["type"], part["text"]), ("output_text", "Hello"))
        given = {name: response[name] for name in ("instructions", "metadata", "text", "model")}
        self.assertEqual(
            given,
            {
                "instructions": "Be brief",
                "metadata": {"a": "b"},
                "text": {"format": {"type": "text"}},
                "model": "kiro",
            },
        )
        self.assertEqual((response["created_at"], response["completed_at"]), (100, 105))
        usage = response["usage"]
        self.assertEqual(
            [usage[f"{name}_tokens"] for name in ("input", "output", "total")], [3, 2, 5]
        )
        self.assertFalse(response["store"])

    def test_events(self) -> None:
        """
        A stream has the events of the response, of its message and of its text, numbered, and the
        last one has the response as it would be without a stream.
        """
        stream = self.stream()
        stream.on_progress(PartialText('{"reply": "One'))
        opening = self.sent()
        self.assertEqual([event["type"] for event in opening], EVENTS[:5])
        stream.on_progress(PartialText(' two"}'))
        self.assertTrue(self.successResultOf(self.finish(stream, "One two")))
        events = self.sent()
        self.assertEqual([event["type"] for event in events], [*EVENTS[:5], EVENTS[4], *EVENTS[5:]])
        for event in events[:2]:
            response = event["response"]
            self.assertEqual((response["status"], response["output"]), ("in_progress", []))
        self.assertEqual(events[2]["item"]["status"], "in_progress")
        deltas = [event["delta"] for event in events[4:6]]
        self.assertEqual(deltas, ["One", " two"])
        self.assertEqual(events[6]["text"], "One two")
        self.assertEqual({event["item_id"] for event in events[3:8]}, {"msg_1"})
        [item] = events[-1]["response"]["output"]
        self.assertEqual(item, events[-2]["item"])
        self.assertEqual(item["content"], [events[-3]["part"]])
        self.assertEqual(
            events[-1]["response"], self.writer.whole(ChatReply("One two", None, Usage(3, 2)))
        )

    def test_empty(self) -> None:
        """
        An empty reply has every event but the text.
        """
        self.assertTrue(self.successResultOf(self.finish(self.stream(), "")))
        types = [event["type"] for event in self.sent()]
        self.assertEqual(types, [kind for kind in EVENTS if kind != EVENTS[4]])

    def test_slow_client(self) -> None:
        """
        Events are numbered in the order in which they are sent, though pieces of text that wait
        for a slow client become one event.
        """
        stream = self.stream()
        stream.on_progress(PartialText('{"reply": "O'))
        self.request.producer.pauseProducing()
        for piece in "ne two":
            stream.on_progress(PartialText(piece))
        finished = self.finish(stream, "One two three")
        self.request.producer.resumeProducing()
        self.assertTrue(self.successResultOf(finished))
        events = self.sent()
        self.assertEqual([event["delta"] for event in events[4:6]], ["O", "ne two three"])
        self.assertEqual([event["type"] for event in events[6:]], EVENTS[5:])

    def test_one_at_a_time(self) -> None:
        """
        Each of the events that have the whole text is made when the one before it was sent.
        """
        made: list[bytes] = []

        class Recorded(ResponseWriter):
            def closing(self, reply: ChatReply) -> Iterator[bytes]:
                for event in super().closing(reply):
                    made.append(event)
                    yield event

        self.writer = Recorded("resp_1", "msg_1", self.writer.asked, self.clock.seconds)
        self.request.slow = True
        finished = self.finish(self.stream(), "One")
        counts = []
        for sent in range(2, len(EVENTS) + 1):
            self.assertNoResult(finished)
            self.request.producer.resumeProducing()
            self.assertEqual(len(self.sent()), sent)
            counts.append(len(made))
        self.assertEqual(counts, [0, 0, 0, 1, 2, 3, 4, 4])
        self.assertTrue(self.successResultOf(finished))

    def failed(self, stream: ReplyStream) -> list[dict[str, Any]]:
        """
        Let a stream fail, and return its events.
        """
        body = {"error": "Too late", "code": "timed_out", "field": "x", "retryAfter": 2}
        self.successResultOf(Deferred.fromCoroutine(stream.fail(504, body)))
        return self.sent()

    def test_failure(self) -> None:
        """
        A stream that fails ends with an error, in the form that is documented and in the one that
        clients look for, and with the failed response.
        """
        stream = self.stream()
        stream.on_progress(PartialText('{"reply": "One'))
        *others, error, end = self.failed(stream)
        self.assertEqual([event["type"] for event in others], EVENTS[:5])
        self.assertEqual(error["type"], "error")
        shown = {"message": "Too late", "param": "x"}
        for members in (error, error["error"]):
            self.assertEqual({name: members[name] for name in shown}, shown)
            self.assertEqual(members["code"], "timed_out")
        self.assertEqual(
            (error["error"]["type"], error["error"]["retryAfter"]), ("server_error", 2)
        )
        self.assertEqual(end["type"], "response.failed")
        response = end["response"]
        self.assertEqual((response["status"], response["output"]), ("failed", []))
        expected = {"code": "server_error", **shown, "type": "timed_out"}
        self.assertEqual(response["error"], expected)
        self.assertEqual((response["usage"], response["completed_at"]), (None, None))

    def test_early_failure(self) -> None:
        """
        A response that fails after a comment and before any text was sent begins all the same.
        """
        stream = self.stream()
        self.clock.advance(15)
        types = [event["type"] for event in self.failed(stream)]
        self.assertEqual(types, [*EVENTS[:2], "error", "response.failed"])


class RouteTests(SynchronousTestCase):
    """
    Tests for ``POST /v1/responses``.
    """

    def test_response(self) -> None:
        """
        The agent's reply is that of chat completions; it is marked as estimated, and nothing is
        stored.
        """
        server = MemoryServer()
        response = server.request("POST", RESPONSES, {"model": "default", "input": "Hi"})
        self.assertEqual(response.status, 200, response.content)
        body = json.loads(response.content)
        messages = [{"role": "user", "content": "Hi"}]
        chat = server.request("POST", CHAT, {"model": "default", "messages": messages})
        [choice] = json.loads(chat.content)["choices"]
        [message] = body["output"]
        self.assertEqual(message["content"][0]["text"], choice["message"]["content"])
        self.assertEqual(response.headers["x-kiroworkers-usage"], "estimated")
        self.assertTrue(body["id"].startswith("resp_"), body["id"])
        self.assertTrue(message["id"].startswith("msg_"), message["id"])
        for method, path in [("GET", ""), ("DELETE", ""), ("POST", "/cancel")]:
            stored = server.request(method, f"{RESPONSES}/{body['id']}{path}")
            self.assertEqual((stored.status, stored.error["code"]), (404, "not_found"))

    def test_stream(self) -> None:
        """
        A stream of a reply that comes in one piece has all events.
        """
        response = MemoryServer().request(
            "POST", RESPONSES, {"model": "default", "input": "Hi", "stream": True}
        )
        self.assertEqual(response.headers["content-type"], "text/event-stream")
        names = re.findall(rb"^event: (\S+)$", response.content, re.M)
        self.assertEqual([name.decode() for name in names], EVENTS)

    def test_failures(self) -> None:
        """
        A failure before anything was sent has OpenAI's format and a status of its own.
        """
        server = MemoryServer(silent)
        picture = {"type": "input_image", "image_url": f"data:image/gif;base64,{GIF}"}
        body = {"model": "default", "input": "Hi"}
        refused: list[tuple[dict[str, Any], int, str, str | None]] = [
            ({"input": [{"type": "item_reference"}]}, 400, "invalid_input", "input[0].type"),
            ({"model": "gpt-9"}, 404, "model_not_found", None),
            ({"background": True}, 400, "invalid_input", "background"),
            (
                {"input": [{"role": "user", "content": [picture]}]},
                400,
                "invalid_input",
                "input[0].content[0].image_url",
            ),
        ]
        for changes, status, code, param in refused:
            error = server.request("POST", RESPONSES, {**body, **changes})
            self.assertEqual((error.status, error.error["code"]), (status, code), error.content)
            self.assertEqual(error.error["param"], param)
        late = server.begin("POST", RESPONSES, {**body, "stream": True}, X_Request_Timeout="1")
        server.settle(5)
        self.assertEqual((late().status, late().error["code"]), (504, "timed_out"))
