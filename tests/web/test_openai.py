"""
Tests for `kiroworkers.web.openai`, in memory.
"""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.test.requesthelper import DummyRequest

from kiroworkers.pool.progress import PartialText, Retrying, Started
from kiroworkers.web.openai.completion import Completion
from kiroworkers.web.openai.errors import openai_error
from kiroworkers.web.openai.stream import ChunkStream


class ChunkStreamTests(SynchronousTestCase):
    """
    Tests for `ChunkStream`.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.request: Any = DummyRequest([b"v1"])

    def stream(self, piecewise: bool = True) -> ChunkStream:
        completion = Completion("chatcmpl-1", 1, "kiro")
        stream = ChunkStream(self.clock, self.request, completion, piecewise)
        self.addCleanup(stream.close)
        return stream

    def sent(self) -> list[str]:
        """
        The texts that were sent, and what else was, as it is.
        """
        found = []
        for event in b"".join(self.request.written).decode().split("\n\n")[:-1]:
            try:
                [choice] = json.loads(event.removeprefix("data: "))["choices"]
                found.append(choice["delta"].get("content", choice["finish_reason"]))
            except ValueError:
                found.append(event)
        return found

    def test_pieces(self) -> None:
        """
        What is said is sent at once, and what is left at the end.
        """
        stream = self.stream()
        stream.on_progress(Started("worker1", 1))
        self.assertFalse(stream.begun)
        stream.on_progress(PartialText('{"reply": "One'))
        self.assertEqual(self.sent(), ["", "One"])
        self.assertTrue(stream.finish("One two", None))
        self.assertEqual(self.sent(), ["", "One", " two", "stop", "data: [DONE]"])

    def test_whole(self) -> None:
        """
        What is not read piecewise is sent at the end, even where it is empty.
        """
        stream = self.stream(piecewise=False)
        stream.on_progress(PartialText('{"reply": "One"}'))
        self.assertFalse(stream.begun)
        self.assertTrue(stream.finish("", None))
        self.assertEqual(self.sent(), ["", "stop", "data: [DONE]"])

    def test_hidden_retry(self) -> None:
        """
        While nothing was sent, the next attempt is read as the first was.
        """
        stream = self.stream()
        stream.on_progress(PartialText('{"reply": "'))
        stream.on_progress(Retrying("its session died"))
        stream.on_progress(PartialText('{"reply": "One"}'))
        self.assertTrue(stream.finish("One", None))
        self.assertEqual(self.sent(), ["", "One", "stop", "data: [DONE]"])

    def test_same_again(self) -> None:
        """
        After something was sent, an answer that begins with it goes on.
        """
        stream = self.stream()
        stream.on_progress(PartialText('{"reply": "One t'))
        stream.on_progress(Retrying("its session died"))
        stream.on_progress(PartialText('{"reply": "One two"}'))
        self.assertTrue(stream.finish("One two", None))
        self.assertEqual(self.sent(), ["", "One t", "wo", "stop", "data: [DONE]"])

    def test_taken_back(self) -> None:
        """
        One that does not is not sent.
        """
        stream = self.stream()
        stream.on_progress(PartialText('{"reply": "One'))
        stream.on_progress(Retrying("its session died"))
        self.assertFalse(stream.finish("Two", None))
        self.assertEqual(self.sent(), ["", "One"])

    def test_alive(self) -> None:
        """
        Silence is broken by comments until it is closed.
        """
        stream = self.stream()
        self.clock.pump([14, 1, 15])
        self.assertEqual(self.sent(), [": alive"] * 2)
        self.assertTrue(stream.begun)
        stream.close()
        self.assertEqual(self.clock.getDelayedCalls(), [])


class ErrorTests(SynchronousTestCase):
    """
    Tests for `openai_error`.
    """

    def test_format(self) -> None:
        """
        An error keeps all that it says, under OpenAI's names.
        """
        for status, kind in [
            *((400, "invalid_request_error"), (401, "authentication_error")),
            *((403, "permission_error"), (429, "rate_limit_error"), (503, "server_error")),
        ]:
            body = {"error": "No", "code": "no", "field": "n", "retryAfter": 2}
            expected = {"message": "No", "type": kind, "param": "n", "code": "no", "retryAfter": 2}
            self.assertEqual(openai_error(status, body), {"error": expected})
