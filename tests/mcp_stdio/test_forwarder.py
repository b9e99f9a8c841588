"""
Tests for `kiroworkers.mcp_stdio.forwarder`, with a server in memory.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionRefusedError
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.mcp_stdio.forwarder import MAX_LINE_BYTES, Forwarder, Target

URL = "http://127.0.0.1:8080/mcp"
TARGET = Target(URL, {"Authorization": "Bearer T"}, {"X-Priority": "7"}, 65.0)

STATELESS = {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}


class Exchange:
    """
    Represent the connection of one HTTP request, as the server sees it.

    Attributes:
        method: The request's method.
        headers: Its headers, with names in lower case.
        body: Its decoded body; None without one.
    """

    def __init__(self, factory: Any) -> None:
        self._transport = StringTransport()
        self._protocol = factory.buildProtocol(None)
        self._protocol.makeConnection(self._transport)
        head, _, body = self._transport.value().partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        self.method = first.split()[0]
        self.headers = {
            name.lower(): value for name, _, value in (line.partition(": ") for line in lines)
        }
        self.body: Any = json.loads(body) if body else None

    @property
    def is_closed(self) -> bool:
        """
        Return whether the client has closed the connection.
        """
        return self._transport.disconnecting or self._transport.disconnected

    def begin(self, status: int, **headers: str) -> None:
        """
        Send the head of a response whose body ends with the connection.
        """
        lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.send("\r\n".join([f"HTTP/1.1 {status} Whatever", *lines, "", ""]))

    def send(self, text: str, size: int = 10**6) -> None:
        """
        Send text in pieces of `size` bytes.
        """
        data = text.encode()
        for start in range(0, len(data), size):
            self._protocol.dataReceived(data[start : start + size])

    def end(self) -> None:
        """
        Close the connection.
        """
        self._protocol.connectionLost(Failure(ConnectionDone()))

    def answer(self, value: Any, status: int = 200, **headers: Any) -> None:
        """
        Send a whole response with JSON.
        """
        self.begin(status, Content_Type="application/json", **headers)
        self.send("" if value is None else json.dumps(value))
        self.end()

    def result(self, value: Mapping[str, Any], **headers: str) -> None:
        """
        Answer the request with a result.
        """
        self.answer({"jsonrpc": "2.0", "id": self.body["id"], "result": value}, 200, **headers)

    def stream(self, *messages: Mapping[str, Any], size: int = 10**6) -> None:
        """
        Begin a stream of events, with these messages.
        """
        self.begin(200, Content_Type="text/event-stream; charset=utf-8")
        self.events(*messages, size=size)

    def events(self, *messages: Mapping[str, Any], size: int = 10**6) -> None:
        """
        Send events, and a comment before each.
        """
        for message in messages:
            self.send(f": alive\n\nevent: message\ndata: {json.dumps(message)}\n\n", size)


class ForwarderTests(SynchronousTestCase):
    """
    Tests for `Forwarder`.
    """

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.written: list[Any] = []
        self.reports: list[str] = []
        self.forwarder = self.new_forwarder(TARGET)

    def new_forwarder(self, target: Target) -> Forwarder:
        """
        Return a forwarder.
        """
        return Forwarder(
            self.reactor,
            target,
            lambda line: self.written.append(json.loads(line)),
            self.reports.append,
        )

    def request(self, method: str, id: Any = 1, meta: Any = None, **params: Any) -> None:
        """
        Take a request from the client.
        """
        if meta is not None:
            params["_meta"] = meta
        self.take(id=id, method=method, params=params)

    def take(self, **members: Any) -> None:
        """
        Take a message from the client.
        """
        self.forwarder.receive(json.dumps({"jsonrpc": "2.0", **members}).encode())

    def accept(self) -> Exchange:
        """
        Return the connection of the next request.
        """
        self.reactor.advance(0)
        host, port, factory, *_ = self.reactor.tcpClients.pop(0)
        self.assertEqual((host, port), ("127.0.0.1", 8080))
        return Exchange(factory)

    def assert_silent(self) -> None:
        """
        Fail if there is a request to the server.
        """
        self.reactor.advance(0)
        self.assertEqual(self.reactor.tcpClients, [])

    def refuse(self) -> None:
        """
        Refuse the connection of the next request.
        """
        self.reactor.advance(0)
        factory: Any = self.reactor.tcpClients.pop(0)[2]
        factory.clientConnectionFailed(None, Failure(ConnectionRefusedError()))
        # Until no other address of the name would be tried.
        self.reactor.advance(0.3)

    def begin_session(self, name: str = "s1") -> None:
        """
        Begin a session.
        """
        self.request("initialize", 0, protocolVersion="2025-11-25")
        self.accept().result({"protocolVersion": "2025-11-25"}, Mcp_Session_Id=name)
        self.take(method="notifications/initialized")
        self.accept().answer(None, 202)
        self.written.clear()

    def error(self, id: Any = 1) -> str:
        """
        Return the message of the only error, which answers the request `id`.
        """
        [written] = self.written
        self.assertEqual(written["id"], id)
        message: str = written["error"]["message"]
        return message

    def test_handshake(self) -> None:
        """
        The negotiated revision and the session are sent with all messages after the handshake.
        """
        self.request("initialize", "a", protocolVersion="2025-11-25")
        hello = self.accept()
        self.assertEqual(hello.headers["authorization"], "Bearer T")
        self.assertEqual(hello.headers["accept"], "application/json, text/event-stream")
        self.assertNotIn("mcp-protocol-version", hello.headers)
        hello.result({"protocolVersion": "2025-06-18"}, Mcp_Session_Id="s1")
        self.assertEqual(self.written[0]["result"], {"protocolVersion": "2025-06-18"})
        self.take(method="notifications/initialized")
        initialized = self.accept()
        self.assertEqual(initialized.headers["mcp-session-id"], "s1")
        initialized.answer(None, 202)
        self.request("tools/list")
        listing = self.accept()
        self.assertEqual(listing.headers["mcp-session-id"], "s1")
        self.assertEqual(listing.headers["mcp-protocol-version"], "2025-06-18")
        self.assertNotIn("x-priority", listing.headers)
        listing.result({"tools": []})
        self.assertEqual(self.written[1:], [{"jsonrpc": "2.0", "id": 1, "result": {"tools": []}}])

    def test_order(self) -> None:
        """
        Nothing is sent before the handshake that precedes it has ended, even if the client does
        not wait for that.
        """
        self.request("initialize", 0, protocolVersion="2025-11-25")
        self.take(method="notifications/initialized")
        self.request("tools/list")
        hello = self.accept()
        self.assert_silent()
        hello.result({"protocolVersion": "2025-11-25"}, Mcp_Session_Id="s1")
        initialized = self.accept()
        self.assertEqual(initialized.body["method"], "notifications/initialized")
        self.assert_silent()
        initialized.answer(None, 202)
        self.assertEqual(self.accept().headers["mcp-session-id"], "s1")

    def test_stateless(self) -> None:
        """
        A message that names its revision needs no handshake, and belongs to no session.
        """
        self.begin_session()
        self.request("tools/call", 5, STATELESS, name="generate-story", arguments={})
        call = self.accept()
        self.assertEqual(call.headers["mcp-protocol-version"], "2026-07-28")
        self.assertEqual(call.headers["mcp-method"], "tools/call")
        self.assertEqual(call.headers["mcp-name"], "generate-story")
        self.assertEqual(call.headers["x-priority"], "7")
        self.assertNotIn("mcp-session-id", call.headers)
        call.result({"resultType": "complete"})
        self.assertEqual(self.written[0]["result"], {"resultType": "complete"})

    def test_progress(self) -> None:
        """
        Each event of a stream is passed on at once, in whatever pieces it arrives; after the
        response, the connection is closed.
        """
        for size in (1, 7, 10**6):
            self.written.clear()
            self.request("tools/call", 1, STATELESS, name="x")
            call = self.accept()
            progress = {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"x": "é"}}
            call.stream(progress, size=size)
            self.assertEqual(self.written, [progress])
            response = {"jsonrpc": "2.0", "id": 1, "result": {"content": []}}
            self.assertFalse(call.is_closed)
            call.events(progress, response, size=size)
            self.assertEqual(self.written, [progress, progress, response])
            self.assertTrue(call.is_closed)
            call.end()
        self.assertEqual(self.reports, [])

    def test_concurrent(self) -> None:
        """
        Requests run side by side, and are answered in the order in which the server answers.
        """
        self.begin_session()
        for id in (1, "1", 2):
            self.request("tools/call", id, name="x")
        first, second, third = (self.accept() for _ in range(3))
        for call in (third, first, second):
            call.result({})
        self.assertEqual([message["id"] for message in self.written], [2, 1, "1"])

    def test_same_id(self) -> None:
        """
        A request with the identifier of one that runs is refused, without its identifier; once
        that one has ended, it may be used again.
        """
        self.request("tools/list", 1, STATELESS)
        listing = self.accept()
        self.request("tools/list", 1, STATELESS)
        self.assertIn("id 1", self.error(None))
        self.assert_silent()
        listing.result({})
        self.request("tools/list", 1, STATELESS)
        self.accept().result({})

    def test_too_many(self) -> None:
        """
        There is a limit to the requests that run at once.
        """
        for id in range(257):
            self.request("tools/call", id, STATELESS)
        self.assertIn("256 requests", self.error(256))

    def test_invalid_lines(self) -> None:
        """
        A line that holds no message gets an error and is not sent; an empty one gets nothing.
        """
        for line, code in ((b"hello", -32700), (b"[]", -32600), (b"\xff", -32700), (None, -32600)):
            self.forwarder.receive(line)
            self.assertEqual(
                (self.written[-1]["id"], self.written[-1]["error"]["code"]), (None, code)
            )
        self.assertIn(str(MAX_LINE_BYTES), self.written[-1]["error"]["message"])
        for line in (b"", b" \r"):
            self.forwarder.receive(line)
        self.assertEqual(len(self.written), 4)
        self.assert_silent()

    def test_cancelled_in_session(self) -> None:
        """
        A notification that cancels a request of a session is sent to the server; then its
        connection is closed, and the request gets no answer.
        """
        self.begin_session()
        self.request("tools/call", 4, name="x")
        call = self.accept()
        self.take(method="notifications/cancelled", params={"requestId": 4, "reason": "enough"})
        notification = self.accept()
        self.assertEqual(notification.body["params"]["requestId"], 4)
        self.assertEqual(notification.headers["mcp-session-id"], "s1")
        call.stream({"jsonrpc": "2.0", "method": "notifications/progress", "params": {}})
        self.assertFalse(call.is_closed)
        notification.answer(None, 202)
        self.assertTrue(call.is_closed)
        self.assertEqual(self.written, [])

    def test_cancelled_without_server(self) -> None:
        """
        The connection of a cancelled request is closed even if the server does not take the
        notification.
        """
        self.begin_session()
        for ends in ("refused", "silent"):
            self.request("tools/call", 4, name="x")
            call = self.accept()
            self.take(method="notifications/cancelled", params={"requestId": 4})
            if ends == "refused":
                self.refuse()
            else:
                self.accept()
                self.reactor.advance(1)
            self.assertTrue(call.is_closed)
            call.end()
        self.assertEqual(self.written, [])

    def test_cancelled_stateless(self) -> None:
        """
        A request of the stateless revision is cancelled by closing its connection.
        """
        self.request("tools/call", 4, STATELESS, name="x")
        call = self.accept()
        self.take(method="notifications/cancelled", params={"requestId": 4, "_meta": STATELESS})
        self.assertTrue(call.is_closed)
        call.end()
        self.assert_silent()
        self.assertEqual((self.written, self.reports), ([], []))

    def test_cancelled_unknown(self) -> None:
        """
        A notification that cancels no running request is dropped, and the handshake cannot be
        cancelled.
        """
        for id in (1, "4", None):
            self.take(method="notifications/cancelled", params={"requestId": id})
        # The malformed one is the server's to judge.
        self.assertEqual(self.accept().body["params"], {"requestId": None})
        self.request("initialize", 0)
        hello = self.accept()
        self.take(method="notifications/cancelled", params={"requestId": 0})
        self.assert_silent()
        hello.result({"protocolVersion": "2025-11-25"})
        self.assertEqual(self.written[0]["id"], 0)

    def test_cancelled_before_sent(self) -> None:
        """
        A request that waits for a handshake is cancelled without the server.
        """
        self.request("initialize", 0)
        hello = self.accept()
        self.request("tools/call", 4, name="x")
        self.take(method="notifications/cancelled", params={"requestId": 4})
        hello.result({"protocolVersion": "2025-11-25"})
        self.assert_silent()
        self.assertEqual([message["id"] for message in self.written], [0])

    def test_refused_connection(self) -> None:
        """
        Without a server, the error names the address and says how to start one.
        """
        self.request("initialize")
        self.refuse()
        message = self.error()
        self.assertIn(f"cannot reach {URL}", message)
        self.assertIn("kiroworkers serve", message)
        self.assertEqual(self.reports, [message])

    def test_cut_off(self) -> None:
        """
        A request whose connection ends too early gets an error, wherever it ends.
        """
        for begun in range(4):
            self.written.clear()
            self.request("tools/call", 1, STATELESS)
            call = self.accept()
            match begun:
                case 1:
                    call.send("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n")
                case 2:
                    call.send("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{")
                case 3:
                    call.stream()
            call.end()
            self.assertRegex(self.error(), f"{URL} ended the (connection|stream)")

    def test_listening_ends(self) -> None:
        """
        The end of a stream of notifications is a notification, since standard output is shared.
        """
        self.request("subscriptions/listen", 9, STATELESS)
        listening = self.accept()
        listening.stream({"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged"})
        self.reactor.advance(3600)
        self.assertFalse(listening.is_closed)
        listening.end()
        self.assertEqual(self.written[1]["method"], "notifications/cancelled")
        self.assertEqual(self.written[1]["params"]["requestId"], 9)

    def test_statuses(self) -> None:
        """
        A failure of HTTP is the error of the request; that of a missing token says what to do.
        """
        self.forwarder = self.new_forwarder(Target(URL))
        for status in (401, 403, 413, 429, 503):
            self.written.clear()
            self.request("tools/call", 3, STATELESS)
            error = {"code": -32600, "message": "Why", "data": {"code": "x", "retryAfter": 2}}
            self.accept().answer({"jsonrpc": "2.0", "id": None, "error": error}, status)
            hint = " (give `kiroworkers mcp` a token with --token-file or KIROWORKERS_TOKEN)"
            self.assertEqual(self.error(3), "Why" + (hint if status == 401 else ""))
            self.assertIn(f"{URL} answered {status} to tools/call", self.reports[-1])
            self.assertEqual(self.written[0]["error"]["data"], error["data"])

    def test_no_message(self) -> None:
        """
        A successful response without a message is an error.
        """
        for status, content_type, body in (
            (200, "text/html", "<p>Welcome"),
            (200, "application/json", "[]"),
            (200, "text/event-stream", "data: hello\n\n"),
            (202, "application/json", ""),
            (302, "text/plain", ""),
        ):
            self.written.clear()
            self.request("tools/list", 1, STATELESS)
            listing = self.accept()
            listing.begin(status, Content_Type=content_type)
            listing.send(body)
            listing.end()
            self.assertIn(URL, self.error())

    def test_lost_session(self) -> None:
        """
        When the server has lost the session, another one begins in the same way, and the
        request is sent again; the client does not notice.
        """
        self.begin_session()
        self.request("tools/call", 1, name="x")
        self.request("tools/call", 2, name="x")
        first, second = self.accept(), self.accept()
        first.answer(None, 404)
        second.answer(None, 404)
        hello = self.accept()
        self.assertEqual(hello.body["method"], "initialize")
        self.assertNotIn("mcp-session-id", hello.headers)
        self.assert_silent()
        hello.result({"protocolVersion": "2025-11-25"}, Mcp_Session_Id="s2")
        initialized = self.accept()
        self.assertEqual(initialized.body["method"], "notifications/initialized")
        initialized.answer(None, 202)
        for again in (self.accept(), self.accept()):
            self.assertEqual(again.headers["mcp-session-id"], "s2")
            again.result({})
        self.assertEqual({message["id"] for message in self.written}, {1, 2})
        self.assert_silent()
        self.assertEqual(len(self.reports), 1)

    def test_session_not_renewed(self) -> None:
        """
        The request gets an error if the server begins no session of that revision, or loses that
        one as well.
        """
        for case, expected in (
            ("refused", "cannot reach"),
            ("other revision", "connect again"),
            ("no handshake", "connect again"),
            ("lost again", "again"),
        ):
            self.begin_session()
            self.request("tools/list")
            self.accept().answer(None, 404)
            match case:
                case "refused":
                    self.refuse()
                case "other revision":
                    self.accept().result({"protocolVersion": "2025-06-18"}, Mcp_Session_Id="s2")
                case "no handshake":
                    self.accept().answer(None, 401)
                case "lost again":
                    self.accept().result({"protocolVersion": "2025-11-25"}, Mcp_Session_Id="s2")
                    self.accept().answer(None, 202)
                    self.accept().answer(None, 404)
            self.assertIn(expected, self.error())

    def test_unknown_method(self) -> None:
        """
        A 404 for a method does not end the session.
        """
        self.begin_session()
        self.request("prompts/list")
        error = {"code": -32601, "message": "No such method"}
        self.accept().answer({"jsonrpc": "2.0", "id": 1, "error": error}, 404)
        self.assertEqual(self.error(), "No such method")
        self.assert_silent()
        # Only the client has to know.
        self.assertEqual(self.reports, [])

    def test_servers_request(self) -> None:
        """
        A request of the server reaches the client, and the client's response the server.
        """
        self.begin_session()
        self.request("tools/call", 1, name="x")
        call = self.accept()
        request = {"jsonrpc": "2.0", "id": "r", "method": "ping"}
        call.stream(request)
        self.assertEqual(self.written, [request])
        self.take(id="r", result={})
        response = self.accept()
        self.assertEqual(response.body, {"jsonrpc": "2.0", "id": "r", "result": {}})
        self.assertEqual(response.headers["mcp-session-id"], "s1")
        response.answer(None, 202)
        call.events({"jsonrpc": "2.0", "id": 1, "result": {}})
        self.assertEqual(self.written[1]["id"], 1)

    def test_refused_notification(self) -> None:
        """
        People are told of a notification that the server does not take; the client is not.
        """
        self.take(method="notifications/initialized")
        self.accept().answer(None, 401)
        self.take(method="notifications/roots/list_changed")
        self.refuse()
        self.assertIn("401 to notifications/initialized", self.reports[0])
        self.assertIn("cannot reach", self.reports[1])
        self.assertEqual(self.written, [])

    def test_timeout(self) -> None:
        """
        A call takes no longer than its time-out, and what needs no agent no longer than 30
        seconds.
        """
        for method, seconds in (("tools/call", 65), ("tools/list", 30), ("initialize", 30)):
            self.written.clear()
            self.request(method)
            call = self.accept()
            self.reactor.advance(seconds - 0.1)
            self.assertFalse(call.is_closed)
            self.reactor.advance(0.1)
            self.assertTrue(call.is_closed)
            self.assertIn(f"within {seconds} s", self.error())
            call.end()

    def test_finish(self) -> None:
        """
        At the end, requests have some time; then they are cancelled, and the session ends.
        """
        self.begin_session()
        self.request("tools/list", 1)
        self.request("tools/call", 2, name="x")
        listing, call = self.accept(), self.accept()
        finished = Deferred.fromCoroutine(self.forwarder.finish(1.0))
        listing.result({})
        self.reactor.advance(0.9)
        self.assertFalse(call.is_closed)
        self.reactor.advance(0.1)
        self.assertTrue(call.is_closed)
        call.end()
        farewell = self.accept()
        self.assertEqual((farewell.method, farewell.headers["mcp-session-id"]), ("DELETE", "s1"))
        self.assertNoResult(finished)
        farewell.answer(None, 204)
        self.successResultOf(finished)
        self.assertEqual(([m["id"] for m in self.written], self.reports), ([1], []))

    def test_finish_without_server(self) -> None:
        """
        The end does not wait for a server that does not answer, nor does it fail.
        """
        for ends in ("refused", "silent"):
            self.begin_session()
            finished = Deferred.fromCoroutine(self.forwarder.finish(1.0))
            if ends == "refused":
                self.refuse()
            else:
                self.accept()
                self.reactor.advance(1)
            self.successResultOf(finished)

    def test_stop(self) -> None:
        """
        Everything that runs can be stopped at once.
        """
        self.begin_session()
        self.request("tools/call", 1, name="x")
        self.request("initialize", 2)
        self.request("tools/list", 3)
        self.take(method="notifications/roots/list_changed")
        call, hello = self.accept(), self.accept()
        self.forwarder.stop()
        self.assertTrue(call.is_closed and hello.is_closed)
        self.assert_silent()
        self.assertEqual((self.written, self.reports), ([], []))

    def test_nothing_left(self) -> None:
        """
        Nothing is kept of a request that has ended.
        """
        self.test_concurrent()
        self.take(method="notifications/roots/list_changed")
        self.accept().answer(None, 202)
        self.assertEqual((self.forwarder._running, self.forwarder._deliveries), ({}, set()))
        self.assertEqual(self.reactor.getDelayedCalls(), [])
