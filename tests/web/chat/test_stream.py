"""
Tests for `kiroworkers.web.chat.stream` with chat completions, and of their errors, in memory.
"""

from __future__ import annotations

import json

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.chat import ChatReply, Usage
from kiroworkers.pool.progress import AgentNotice, PartialText, Retrying, Started
from kiroworkers.web.chat.completions import Completion
from kiroworkers.web.chat.errors import openai_error
from kiroworkers.web.chat.stream import ReplyStream
from tests.web.streams import streamed_request


def reply_of(content: str) -> ChatReply:
    """
    Return the reply with this content.
    """
    return ChatReply(content, None, Usage(1, 1))


class ReplyStreamTests(SynchronousTestCase):
    """
    Tests for `ReplyStream`.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.request = streamed_request()

    def stream(self, incremental: bool = True) -> ReplyStream:
        completion = Completion("chatcmpl-1", 1, "kiro")
        stream = ReplyStream(self.clock, self.request, completion, incremental)
        self.addCleanup(stream.close)
        return stream

    def finish(self, stream: ReplyStream, content: str) -> bool:
        """
        Finish the stream of a client that reads; return whether that was possible.
        """
        return self.successResultOf(Deferred.fromCoroutine(stream.finish(reply_of(content))))

    def sent(self) -> list[str]:
        """
        Return the texts and the finish reason that were sent, and other events as they are.
        """
        sent: list[str] = []
        for event in self.request.sent().decode().split("\n\n")[:-1]:
            try:
                [choice] = json.loads(event.removeprefix("data: "))["choices"]
                sent.append(choice["delta"].get("content", choice["finish_reason"]))
            except ValueError:
                sent.append(event)
        return sent

    def test_incremental(self) -> None:
        """
        Text is sent as the agent produces it, and the rest at the end.
        """
        stream = self.stream()
        stream.on_progress(Started("worker1", 1))
        self.assertFalse(stream.started)
        stream.on_progress(PartialText('{"reply": "One'))
        self.assertEqual(self.sent(), ["", "One"])
        self.assertTrue(self.finish(stream, "One two"))
        self.assertEqual(self.sent(), ["", "One", " two", "stop", "data: [DONE]"])

    def test_whole(self) -> None:
        """
        Without incremental reading the reply is sent at the end, even if it is empty.
        """
        stream = self.stream(incremental=False)
        stream.on_progress(PartialText('{"reply": "One"}'))
        self.assertFalse(stream.started)
        self.assertTrue(self.finish(stream, ""))
        self.assertEqual(self.sent(), ["", "stop", "data: [DONE]"])

    def test_hidden_retry(self) -> None:
        """
        If nothing was sent yet, the next attempt is read like the first.
        """
        stream = self.stream()
        stream.on_progress(PartialText('{"reply": "'))
        stream.on_progress(Retrying("the session ended", "new_conversation"))
        stream.on_progress(PartialText('{"reply": "One"}'))
        self.assertTrue(self.finish(stream, "One"))
        self.assertEqual(self.sent(), ["", "One", "stop", "data: [DONE]"])

    def test_visible_retry(self) -> None:
        """
        If text was sent, an answer that begins with it continues the stream.
        """
        stream = self.stream()
        stream.on_progress(PartialText('{"reply": "One t'))
        stream.on_progress(Retrying("the session ended", "new_conversation"))
        stream.on_progress(PartialText('{"reply": "One two"}'))
        self.assertTrue(self.finish(stream, "One two"))
        self.assertEqual(self.sent(), ["", "One t", "wo", "stop", "data: [DONE]"])

    def test_retracted(self) -> None:
        """
        If text was sent, an answer that does not begin with it is not sent.
        """
        stream = self.stream()
        stream.on_progress(PartialText('{"reply": "One'))
        stream.on_progress(Retrying("the session ended", "new_conversation"))
        self.assertFalse(self.finish(stream, "Two"))
        self.assertEqual(self.sent(), ["", "One"])

    def test_discarded(self) -> None:
        """
        If the agent starts its answer anew after text was sent, the new answer is sent only if it
        begins with that text; what the agent tells besides is not part of the reply.
        """
        for content, sent in [
            ("One two", ["", "One", " two", "stop", "data: [DONE]"]),
            ("Two", ["", "One"]),
        ]:
            self.request = streamed_request()
            stream = self.stream()
            stream.on_progress(PartialText('{"reply": "One'))
            stream.on_progress(AgentNotice("retry", "The service is asked again"))
            stream.on_progress(Retrying("the service restarted its answer", "same_turn"))
            stream.on_progress(PartialText('{"reply": "' + content))
            self.assertIs(self.finish(stream, content), "stop" in sent)
            self.assertEqual(self.sent(), sent)

    def test_slow_client(self) -> None:
        """
        Text that a client leaves unread becomes one chunk, and it gets all of the reply.
        """
        stream = self.stream()
        stream.on_progress(PartialText('{"reply": "O'))
        self.request.producer.pauseProducing()
        for piece in "ne two":
            stream.on_progress(PartialText(piece))
        finished = Deferred.fromCoroutine(stream.finish(reply_of("One two three")))
        self.assertNoResult(finished)
        self.request.producer.resumeProducing()
        self.assertTrue(self.successResultOf(finished))
        self.assertEqual(self.sent(), ["", "O", "ne two three", "stop", "data: [DONE]"])

    def test_dropped(self) -> None:
        """
        A client that does not read its reply is dropped.
        """
        stream = self.stream()
        stream.on_progress(PartialText('{"reply": "'))
        stream.on_progress(PartialText("x"))
        self.request.producer.pauseProducing()
        for _ in range(1100):
            stream.on_progress(PartialText("x" * 1000))
        self.assertFalse(self.request.transport.disconnected)
        self.clock.pump([1] * 3)
        self.assertTrue(self.request.transport.disconnected)

    def test_keep_alive(self) -> None:
        """
        Comments are sent in times of silence until the stream is closed.
        """
        stream = self.stream()
        self.clock.pump([14, 1, 15])
        self.assertEqual(self.sent(), [": alive"] * 2)
        self.assertTrue(stream.started)
        stream.close()
        self.assertEqual(self.clock.getDelayedCalls(), [])


class ErrorTests(SynchronousTestCase):
    """
    Tests for `openai_error`.
    """

    def test_format(self) -> None:
        """
        An error keeps all of its fields, under OpenAI's names.
        """
        for status, error_type in [
            *((400, "invalid_request_error"), (401, "authentication_error")),
            *((403, "permission_error"), (429, "rate_limit_error"), (503, "server_error")),
        ]:
            body = {"error": "No", "code": "no", "field": "n", "retryAfter": 2}
            expected = {
                "message": "No",
                "type": error_type,
                "param": "n",
                "code": "no",
                "retryAfter": 2,
            }
            self.assertEqual(openai_error(status, body), {"error": expected})
