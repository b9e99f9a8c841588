"""
Tests for `kiroworkers.model_server.server`, in memory and on loopback.
"""

from __future__ import annotations

import gzip
import json
import time
from typing import Any

import treq
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.server import Site

from kiroworkers.model_server import ModelReply, ModelRequest, ModelServer, ToolCall, serve
from tests.servers import COVERAGE_FACTOR, real

PATHS = (
    "/v1/chat/completions",
    "/v1/responses",
    "/v1/messages",
    "/v1beta/models/m:streamGenerateContent",
)


class Agent:
    """
    Send requests to a model server in memory.
    """

    def __init__(self, server: ModelServer) -> None:
        self._transport = StringTransport(peerAddress=IPv4Address("TCP", "127.0.0.1", 1))
        self._channel: Any = Site(server, timeout=None, reactor=Clock()).buildProtocol(None)
        self._channel.makeConnection(self._transport)

    def send(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, Any]:
        """
        Return the status and the body of the response, if it is complete.
        """
        self.begin(method, path, body, **headers)
        head, _, rest = self.received.partition(b"\r\n\r\n")
        status = int(head.split()[1])
        return status, json.loads(rest) if rest else None

    def begin(self, method: str, path: str, body: bytes = b"", **headers: str) -> None:
        """
        Send a request.
        """
        self._transport.clear()
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self._channel.dataReceived("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    @property
    def received(self) -> bytes:
        """
        Return what was received since the last request.
        """
        return bytes(self._transport.value())

    def hang_up(self) -> None:
        """
        Close the connection.
        """
        self._channel.connectionLost(Failure(ConnectionDone()))


class ServerTests(SynchronousTestCase):
    """
    Tests for `ModelServer`.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.reply = ModelReply("hello")
        self.answered: list[ModelRequest] = []
        self.requests: list[ModelRequest] = []
        self.abandoned: list[ModelRequest] = []
        self.server = ModelServer(
            self.clock, self.answer, self.abandoned.append, self.requests.append
        )
        self.agent = Agent(self.server)

    def answer(self, request: ModelRequest) -> ModelReply:
        self.answered.append(request)
        return self.reply

    def test_unknown_path(self) -> None:
        """
        A request to an unknown path gets 404 as JSON, and its texts are noted.
        """
        status, body = self.agent.send("POST", "/v1/embeddings?x=1", b'{"input": ["a secret"]}')
        self.assertEqual((status, body["type"]), (404, "error"))
        self.assertEqual(body["error"]["message"], "The path is not known")
        self.assertEqual([*self.server.refusals], ["POST /v1/embeddings: The path is not known"])
        self.assertEqual(
            (self.requests[0].path, self.requests[0].text), ("/v1/embeddings", "a secret")
        )
        # A client may escape the colon of a path that is known.
        status, _ = self.agent.send("POST", "/v1beta/models/m%3AcountTokens", b"{}")
        self.assertEqual(status, 200)
        self.assertEqual(self.agent.send("POST", "/upload", b"no JSON \xff")[0], 404)
        self.assertEqual(self.requests[-1].text, "no JSON \ufffd")
        self.assertEqual(self.answered, [])

    def test_bad_body(self) -> None:
        """
        A body that is not JSON, or is encoded in an unknown way, is refused; its text is noted.
        """
        for path in PATHS:
            self.assertEqual(self.agent.send("POST", path, b"hello")[0], 400)
        status, _ = self.agent.send("POST", "/v1/messages", b"{}", Content_Encoding="br")
        self.assertEqual(status, 415)
        self.assertEqual(len(self.server.refusals), len(PATHS) + 1)
        self.assertEqual([request.text for request in self.requests], ["hello"] * 4 + ["{}"])
        self.assertEqual(self.answered, [])

    def test_continued(self) -> None:
        """
        The texts of a request are noted also if it continues a conversation that is not known.
        """
        body = b'{"input": "and now?", "previous_response_id": "resp_1"}'
        self.assertEqual(self.agent.send("POST", "/v1/responses", body)[0], 400)
        self.assertEqual(self.requests[0].text, "and now?\nresp_1")

    def test_compressed(self) -> None:
        """
        A compressed body is read.
        """
        body = gzip.compress(b'{"messages": [{"role": "user", "content": "hi"}]}')
        status, _ = self.agent.send("POST", "/v1/messages", body, Content_Encoding="gzip")
        self.assertEqual(status, 200)
        self.assertEqual(self.answered[0].messages[0].text, "hi")

    def test_probes(self) -> None:
        """
        The server can be probed, and lists its model in the form of each protocol.
        """
        for path in ("/", "/v1", "/v1/messages"):
            self.assertEqual(self.agent.send("HEAD", path), (200, None))
        self.assertEqual(self.agent.send("GET", "/"), (200, {}))
        for path in ("/v1/models", "/models/", "/v1/models?limit=20"):
            status, body = self.agent.send("GET", path)
            self.assertEqual((status, [model["id"] for model in body["data"]]), (200, ["loopback"]))
        _, body = self.agent.send("GET", "/v1beta/models")
        self.assertEqual(body["models"][0]["name"], "models/loopback")
        self.assertEqual(self.agent.send("GET", "/v1/models/gpt-5")[1]["id"], "gpt-5")
        for method, path, status in (("GET", "/favicon.ico", 404), ("DELETE", "/v1/models", 405)):
            self.assertEqual(self.agent.send(method, path)[0], status)

    def test_counts(self) -> None:
        """
        A count of tokens is not an answer, but its texts are noted.
        """
        for path, body, count in (
            ("/v1/messages/count_tokens", {"system": "a"}, {"input_tokens": 1}),
            ("/v1beta/models/m:countTokens", {"contents": "a"}, {"totalTokens": 1}),
            ("/v1/responses/input_tokens", {"input": "a"}, {"input_tokens": 1}),
        ):
            status, counted = self.agent.send("POST", path, json.dumps(body).encode())
            self.assertEqual((status, {**counted, **count}), (200, counted))
            self.assertEqual(self.requests[-1].text, "a")
        self.assertEqual(self.answered, [])

    def test_order(self) -> None:
        """
        A request is noted before it is answered; both get the same object.
        """
        self.agent.begin("POST", "/v1/messages", b"{}")
        self.assertIs(self.requests[0], self.answered[0])

    def test_pause(self) -> None:
        """
        The answer begins after the reply's pause.
        """
        self.reply = ModelReply("hello", pause=2)
        for path in PATHS:
            self.agent.begin("POST", path, b'{"stream": true}')
            self.clock.advance(1.9)
            self.assertEqual(self.agent.received, b"")
            self.clock.advance(0.2)
            self.assertIn(b"hello", self.agent.received)
            self.assertTrue(self.agent.received.endswith(b"0\r\n\r\n"))
        self.assertEqual(self.abandoned, [])

    def test_pause_abandoned(self) -> None:
        """
        An agent that hangs up during the pause has abandoned its request, once.
        """
        self.reply = ModelReply("hello", pause=2)
        self.agent.begin("POST", "/v1/responses", b"{}")
        self.agent.hang_up()
        self.clock.advance(3)
        self.assertEqual(self.abandoned, self.answered)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_endless(self) -> None:
        """
        An endless answer begins, and does not end until the agent hangs up.
        """
        self.reply = ModelReply("Well", endless=True)
        for number, path in enumerate(PATHS, 1):
            agent = Agent(self.server)
            agent.begin("POST", path, b'{"stream": true}')
            self.assertIn(b"Well", agent.received)
            self.assertFalse(agent.received.endswith(b"0\r\n\r\n"))
            self.assertEqual(len(self.abandoned), number - 1)
            agent.hang_up()
            self.assertEqual(len(self.abandoned), number)

    def test_endless_whole(self) -> None:
        """
        An endless answer that is no stream sends nothing, because it could not be continued.
        """
        self.reply = ModelReply("Well", endless=True)
        self.agent.begin("POST", "/v1/messages", b"{}")
        self.assertEqual(self.agent.received, b"")
        self.agent.hang_up()
        self.assertEqual(self.abandoned, self.answered)

    def test_finished(self) -> None:
        """
        An agent that hangs up after the end of an answer has abandoned nothing.
        """
        self.agent.begin("POST", "/v1/messages", b"{}")
        self.agent.hang_up()
        self.assertEqual(self.abandoned, [])

    def test_ids(self) -> None:
        """
        Each call of a tool has an id of its own, because agents tell calls by it.
        """
        self.reply = ModelReply(tool=ToolCall("bash", {"command": "ls"}))
        ids = [self.agent.send("POST", "/v1/messages", b"{}")[1]["content"][0]["id"] for _ in "ab"]
        self.assertEqual(len(set(ids)), 2)

    def test_failure(self) -> None:
        """
        A failure of the function that answers is logged, and the agent gets 500.
        """
        self.reply = ModelReply(tool=ToolCall("bash", {"command": object()}))
        status, body = self.agent.send("POST", "/v1/messages", b"{}")
        self.assertEqual((status, body["error"]["message"]), (500, "Internal error"))
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)

    def test_few_refusals(self) -> None:
        """
        Only the last refusals are kept.
        """
        for number in range(150):
            self.agent.send("GET", f"/{number}")
        self.assertEqual(len(self.server.refusals), 100)
        self.assertIn("/149:", self.server.refusals[-1])

    def test_fast(self) -> None:
        """
        A prompt of 500 KB that is copied keeps the event loop for less than 50 ms of CPU time.
        """
        text = 'größer "大きい" \\ 🎉 ' * 18_000
        self.assertGreater(len(text.encode()), 500_000)
        self.reply = ModelReply(text)
        for path, body in (
            ("/v1/chat/completions", {"messages": [{"role": "user", "content": text}]}),
            ("/v1/responses", {"input": text}),
            ("/v1/messages", {"messages": [{"role": "user", "content": text}]}),
            ("/v1beta/models/m:streamGenerateContent", {"contents": [{"parts": [{"text": text}]}]}),
        ):
            data = json.dumps({**body, "stream": True}, ensure_ascii=False).encode()
            # The fastest of three counts: on a busy machine each may be slow for another reason.
            seconds = min(self.seconds_for(path, data) for _ in range(3))
            self.assertIn(text, self.answered[-1].text)
            self.assertLess(seconds, 0.05 * COVERAGE_FACTOR, path)

    def seconds_for(self, path: str, body: bytes) -> float:
        """
        Return the CPU time that a request takes.
        """
        start = time.process_time()
        self.agent.begin("POST", path, body)
        return time.process_time() - start


class ServeTests(TestCase):
    """
    Tests for `serve`.
    """

    async def test_serve(self) -> None:
        """
        The server listens on loopback, and streams in chunks that end anywhere.
        """
        text = "大きい🎉" * 2000
        port: Any = serve(real, lambda request: ModelReply(text))
        self.addCleanup(port.stopListening)
        self.assertEqual(port.getHost().host, "127.0.0.1")
        url = f"http://127.0.0.1:{port.getHost().port}/v1beta/models/m:streamGenerateContent"
        response = await treq.post(url, json={}, persistent=False)
        events = (await response.content()).decode().split("\n\n")[:-1]
        data = [json.loads(event.removeprefix("data: ")) for event in events]
        parts = [event["candidates"][0]["content"]["parts"][0]["text"] for event in data]
        self.assertEqual("".join(parts), text)
