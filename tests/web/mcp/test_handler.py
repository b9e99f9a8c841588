"""
Tests for `/mcp`, on a pool in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.mcp.errors import (
    HEADER_MISMATCH,
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    PARSE_ERROR,
    REQUEST_CANCELLED,
    UNSUPPORTED_REVISION,
)
from kiroworkers.mcp.meta import CLIENT_CAPABILITIES, PROTOCOL_VERSION, SERVER_INFO
from kiroworkers.mcp.revisions import HANDSHAKE, STATELESS, SUPPORTED
from tests import fakekiro
from tests.web.mcp.support import CALL, META, McpServer, Reply
from tests.web.test_errors import TOKEN, silent

_PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}


class McpTests(SynchronousTestCase):
    """
    Common parts of the tests.
    """

    def assert_error(self, reply: Reply, status: int, code: int, word: str) -> None:
        """
        Assert that `reply` is an error, with this code and this code of the catalogue.
        """
        self.assertEqual(
            (reply.status, reply.error["code"], reply.error["data"]["code"]),
            (status, code, word),
            reply.error,
        )
        self.assertEqual(reply.error["data"]["requestId"], reply.headers["x-request-id"])


class StatelessTests(McpTests):
    """
    Tests for the revision without a handshake.
    """

    def setUp(self) -> None:
        self.server = McpServer()

    def test_discover(self) -> None:
        """
        The server says what it speaks, can do and is.
        """
        result = self.server.call("server/discover", {}).result
        self.assertEqual(result["supportedVersions"], [*SUPPORTED])
        self.assertEqual(result["resultType"], "complete")
        self.assertEqual(result["_meta"][SERVER_INFO]["name"], "kiroworkers")
        self.assertEqual({*result["capabilities"]}, {"tools", "extensions"})
        self.assertGreater(result["ttlMs"], 0)
        self.assertEqual(result["cacheScope"], "private")

    def test_list(self) -> None:
        """
        The tools are the tasks at the time of the call.
        """
        result = self.server.call("tools/list", {}).result
        self.assertEqual([tool["name"] for tool in result["tools"]], [*self.server.tasks])
        self.assertNotIn("nextCursor", result)
        self.assertEqual((result["resultType"], result["cacheScope"]), ("complete", "private"))
        del self.server.tasks["generate-story"]
        result = self.server.call("tools/list", {}).result
        self.assertEqual([tool["name"] for tool in result["tools"]], [*self.server.tasks])

    def test_call(self) -> None:
        """
        A call gets the answer, and how it came about.
        """
        reply = self.server.call(id="one")
        self.assertEqual((reply.status, reply.message["id"]), (200, "one"))
        result = reply.result
        self.assertEqual((result["isError"], result["resultType"]), (False, "complete"))
        self.assertEqual(result["structuredContent"]["title"], "An idea")
        meta = result["_meta"]
        self.assertEqual(meta["kiroworkers/agent"], "kiro")
        self.assertEqual(
            (meta["kiroworkers/worker"], meta["kiroworkers/attempts"]), ("worker1", "1")
        )

    def test_history(self) -> None:
        """
        The request history and the log know a call as a request for its task.
        """
        self.server.call(X_Request_ID="mine", X_Priority="7")
        record = self.server.records["mine"]
        self.assertEqual((record.task, record.outcome), ("generate-story", "answered"))
        self.assertEqual((record.worker, record.path, record.agent), ("worker1", "/mcp", "kiro"))

    def test_wrong_arguments(self) -> None:
        """
        Arguments that do not fit the schema fail the call, not the request.
        """
        reply = self.server.call(params={**CALL, "arguments": {"idea": 5}})
        self.assertEqual((reply.status, reply.result["isError"]), (200, True))
        self.assertNotIn("structuredContent", reply.result)
        error = reply.result["_meta"]["kiroworkers/error"]
        self.assertEqual((error["code"], error["field"]), ("invalid_input", "idea"))
        self.assertEqual(error["requestId"], reply.headers["x-request-id"])
        self.assertIn("idea", reply.result["content"][0]["text"])
        record = self.server.records[error["requestId"]]
        self.assertEqual((record.outcome, record.code), ("rejected", "invalid_input"))

    def test_wrong_options(self) -> None:
        """
        Headers with options that are wrong fail the call, and name the header.
        """
        for name, value in (
            ("X_Priority", "12"),
            ("X_Request_Timeout", "soon"),
            ("X_Agent", "nobody"),
            ("X_Model", "none"),
            ("Idempotency_Key", "with space"),
            ("X_Callback", "https://example.com"),
        ):
            error = self.server.call(**{name: value}).result["_meta"]["kiroworkers/error"]
            self.assertEqual(error["field"], name.replace("_", "-"), error)

    def test_unknown_fields(self) -> None:
        """
        Arguments that the task does not know are named.
        """
        params = {**CALL, "arguments": {"idea": "An idea", "extra": 1}}
        meta = self.server.call(params=params).result["_meta"]
        self.assertEqual(meta["kiroworkers/ignored"], "extra")
        strict = McpServer(strict_input=True)
        error = strict.call(params=params).result["_meta"]["kiroworkers/error"]
        self.assertEqual(error["field"], "extra")

    def test_once(self) -> None:
        """
        Calls with the same idempotency key are run once.
        """
        [program] = self.server.reactor.programs
        first = self.server.call(Idempotency_Key="k")
        prompts = len(program.typed)
        second = self.server.call(Idempotency_Key="k")
        self.assertEqual(len(program.typed), prompts)
        self.assertEqual(second.result["structuredContent"], first.result["structuredContent"])
        other = self.server.call(
            params={**CALL, "arguments": {"idea": "Another"}}, Idempotency_Key="k"
        )
        code = other.result["_meta"]["kiroworkers/error"]["code"]
        self.assertEqual(code, "idempotency_mismatch")

    def test_failure(self) -> None:
        """
        A failure of the agents fails the call, and says when to call again.
        """
        self.server.dispatcher.pause()
        server = McpServer(silent, backlog=0)
        server.begin_call()
        result = server.call().result
        error = result["_meta"]["kiroworkers/error"]
        self.assertEqual((result["isError"], error["code"]), (True, "all_workers_busy"))
        self.assertGreater(error["retryAfter"], 0)

    def test_unknown_tool(self) -> None:
        """
        A tool that does not exist, whatever its name, is a wrong parameter.
        """
        for name in ("nobody", "", "a/b", "GENERATE-STORY"):
            reply = self.server.call(params={"name": name})
            self.assert_error(reply, 400, INVALID_PARAMS, "unknown_task")
        reply = self.server.call(params={"name": "Ü"}, Mcp_Name="=?base64?w5w=?=")
        self.assert_error(reply, 400, INVALID_PARAMS, "unknown_task")

    def test_wrong_params(self) -> None:
        """
        Parameters of the wrong type are refused, and no worker is asked.
        """
        for params in ({}, {"name": 5}, {**CALL, "arguments": []}, {**CALL, "arguments": "x"}):
            self.assert_error(self.server.call(params=params), 400, INVALID_PARAMS, "invalid_input")
        reply = self.server.call("tools/list", {"cursor": "next"})
        self.assert_error(reply, 400, INVALID_PARAMS, "invalid_input")
        token: Any
        for token in (True, 1.5, {}):
            reply = self.server.call(meta={**META, "progressToken": token})
            self.assert_error(reply, 400, INVALID_PARAMS, "invalid_input")
        [program] = self.server.reactor.programs
        self.assertEqual(program.typed, [])

    def test_unknown_method(self) -> None:
        """
        A method that the revision does not have is not found.
        """
        for method in ("ping", "initialize", "resources/list", "prompts/get", "", "tools"):
            reply = self.server.call(method, {})
            self.assert_error(reply, 404, METHOD_NOT_FOUND, "unknown_method")

    def test_wrong_meta(self) -> None:
        """
        A request that lacks what the revision demands is refused.
        """
        meta: Any
        for meta in (None, [], {}, {PROTOCOL_VERSION: STATELESS}, {CLIENT_CAPABILITIES: {}}):
            reply = self.server.call(meta=meta)
            self.assert_error(reply, 400, INVALID_PARAMS, "invalid_input")

    def test_headers(self) -> None:
        """
        Headers that are missing or contradict the body are refused.
        """
        for headers in (
            {"MCP_Protocol_Version": None},
            {"MCP_Protocol_Version": "2025-11-25"},
            {"MCP_Protocol_Version": f"{STATELESS}\r\nMCP-Protocol-Version: {STATELESS}"},
            {"Mcp_Method": None},
            {"Mcp_Method": "tools/list"},
            {"Mcp_Name": None},
            {"Mcp_Name": "analyze-invest"},
            {"Mcp_Name": "generate-story\r\nMcp-Name: generate-story"},
            {"Mcp_Name": "=?base64??"},
            {"Mcp_Name": "=?base64?%?="},
        ):
            reply = self.server.call(**headers)
            self.assert_error(reply, 400, HEADER_MISMATCH, "invalid_message")
        reply = self.server.call(Mcp_Name="=?base64?Z2VuZXJhdGUtc3Rvcnk=?=")
        self.assertFalse(reply.result["isError"])

    def test_unsupported(self) -> None:
        """
        A client of a revision that the server does not speak learns which ones it speaks.
        """
        meta = {**META, PROTOCOL_VERSION: "2099-01-01"}
        for declared in (meta, {}):
            reply = self.server.call(meta=declared, MCP_Protocol_Version="2099-01-01")
            self.assert_error(reply, 400, UNSUPPORTED_REVISION, "unsupported_revision")
            data = reply.error["data"]
            self.assertEqual(data["supported"], [*SUPPORTED])
            self.assertEqual(data["requested"], "2099-01-01")

    def test_notification(self) -> None:
        """
        A notification is accepted and has no effect, even if it looks like a call.
        """
        body = {"jsonrpc": "2.0", "method": "tools/call", "params": {**CALL, "_meta": META}}
        reply = self.server.post(body, MCP_Protocol_Version=STATELESS)
        self.assertEqual((reply.status, reply.content), (202, b""))
        [program] = self.server.reactor.programs
        self.assertEqual(program.typed, [])
        reply = self.server.post(body, MCP_Protocol_Version="2099-01-01")
        self.assert_error(reply, 400, UNSUPPORTED_REVISION, "unsupported_revision")

    def test_no_session(self) -> None:
        """
        A session is neither needed nor begun, and one that is named is ignored.
        """
        reply = self.server.call(Mcp_Session_Id="anything")
        self.assertEqual(reply.status, 200)
        self.assertNotIn("mcp-session-id", reply.headers)


class SessionTests(McpTests):
    """
    Tests for the revisions with a handshake.
    """

    def setUp(self) -> None:
        self.server = McpServer()

    def test_handshake(self) -> None:
        """
        A client gets a session, the revision that it wants and what the server can do.
        """
        for revision in HANDSHAKE:
            params = {"protocolVersion": revision, "capabilities": {}}
            body = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}
            reply = self.server.post(body)
            self.assertEqual(reply.result["protocolVersion"], revision)
            self.assertEqual(reply.result["capabilities"], {"tools": {}})
            self.assertEqual(reply.result["serverInfo"]["name"], "kiroworkers")
            session = reply.headers["mcp-session-id"]
            reply = self.server.ask_in(session, "notifications/initialized", {}, None)
            self.assertEqual((reply.status, reply.content), (202, b""))
            self.assertEqual(self.server.ask_in(session, "ping", {}).result, {})

    def test_newest(self) -> None:
        """
        A client that begins with a handshake in the stateless revision gets an older one.
        """
        params = {"protocolVersion": STATELESS, "capabilities": {}}
        body = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}
        reply = self.server.post(body, MCP_Protocol_Version=STATELESS)
        self.assertEqual(reply.result["protocolVersion"], HANDSHAKE[0])

    def test_call(self) -> None:
        """
        Tools are listed and called without what only the newest revision has.
        """
        session = self.server.initialize()
        result = self.server.ask_in(session, "tools/list", {}).result
        self.assertEqual({*result}, {"tools"})
        result = self.server.ask_in(session).result
        self.assertEqual(result["structuredContent"]["title"], "An idea")
        self.assertNotIn("resultType", result)
        self.assertNotIn(SERVER_INFO, result["_meta"])

    def test_errors(self) -> None:
        """
        An error about a request has the status of a success: it is not about the session.
        """
        session = self.server.initialize()
        for method, params, code, word in (
            ("resources/list", {}, METHOD_NOT_FOUND, "unknown_method"),
            ("server/discover", {}, METHOD_NOT_FOUND, "unknown_method"),
            ("tasks/get", {"taskId": "t"}, METHOD_NOT_FOUND, "unknown_method"),
            ("initialized", {}, METHOD_NOT_FOUND, "unknown_method"),
            ("tools/call", {"name": "x"}, INVALID_PARAMS, "unknown_task"),
            ("tools/call", {}, INVALID_PARAMS, "invalid_input"),
        ):
            self.assert_error(self.server.ask_in(session, method, params), 200, code, word)

    def test_no_session(self) -> None:
        """
        Everything but the handshake needs a session.
        """
        for body in (_PING, {"jsonrpc": "2.0", "method": "notifications/initialized"}):
            self.assert_error(self.server.post(body), 400, INVALID_REQUEST, "invalid_message")
        reply = self.server.post(_PING, Mcp_Session_Id="a\r\nMcp-Session-Id: a")
        self.assert_error(reply, 400, INVALID_REQUEST, "invalid_message")
        reply = self.server.post(b"null", method="DELETE")
        self.assert_error(reply, 400, INVALID_REQUEST, "invalid_message")

    def test_unknown_session(self) -> None:
        """
        A session that does not exist, or is another client's, is not found.
        """
        session = self.server.initialize()
        for method in ("POST", "DELETE"):
            reply = self.server.post(_PING, method=method, Mcp_Session_Id="nothing")
            self.assert_error(reply, 404, INVALID_REQUEST, "unknown_session")
            reply = self.server.post(_PING, method=method, Mcp_Session_Id=session, peer="192.0.2.1")
            self.assert_error(reply, 404, INVALID_REQUEST, "unknown_session")
        self.assertEqual(self.server.ask_in(session, "ping", {}).status, 200)

    def test_end(self) -> None:
        """
        A client can end its session.
        """
        session = self.server.initialize()
        reply = self.server.post(b"", method="DELETE", Mcp_Session_Id=session)
        self.assertEqual((reply.status, reply.content), (204, b""))
        reply = self.server.ask_in(session, "ping", {})
        self.assert_error(reply, 404, INVALID_REQUEST, "unknown_session")

    def test_wrong_revision(self) -> None:
        """
        A header with a revision that the server does not speak is refused; any other is accepted.
        """
        session = self.server.initialize()
        reply = self.server.ask_in(session, "ping", {}, MCP_Protocol_Version="1999-01-01")
        self.assert_error(reply, 400, UNSUPPORTED_REVISION, "unsupported_revision")
        for revision in HANDSHAKE:
            reply = self.server.ask_in(session, "ping", {}, MCP_Protocol_Version=revision)
            self.assertEqual(reply.result, {})

    def test_wrong_handshake(self) -> None:
        """
        A handshake without what it needs begins no session.
        """
        reply = self.server.post({**_PING, "method": "initialize"})
        self.assert_error(reply, 400, INVALID_PARAMS, "invalid_input")
        self.assertNotIn("mcp-session-id", reply.headers)


class MessageTests(McpTests):
    """
    Tests for bodies and HTTP, whatever the revision.
    """

    def setUp(self) -> None:
        self.server = McpServer()

    def test_no_json(self) -> None:
        """
        What is not JSON, or nested too deeply, cannot be parsed.
        """
        deep = b'{"a":' * 3000 + b"1" + b"}" * 3000
        for body in (b"", b"{", b"\xff", b"NaN", b'{"id": 1e999}', deep[:-1]):
            self.assert_error(self.server.post(body), 400, PARSE_ERROR, "invalid_json")

    def test_no_message(self) -> None:
        """
        Batches, responses and ids of the wrong type are refused.
        """
        for body in (
            [],
            [_PING],
            "ping",
            None,
            {},
            {"jsonrpc": "2.0", "id": 1, "result": {}},
            {**_PING, "jsonrpc": "1.0"},
            {**_PING, "id": None},
            {**_PING, "id": 1.5},
            {**_PING, "id": True},
        ):
            self.assert_error(self.server.post(body), 400, INVALID_REQUEST, "invalid_message")

    def test_huge(self) -> None:
        """
        A body with too many bytes or values is refused, and deep arguments fail their call.
        """
        reply = self.server.call(params={**CALL, "arguments": {"idea": "x" * 30_000}})
        self.assertEqual(reply.status, 413)
        reply = self.server.call(params={**CALL, "arguments": {"idea": [0] * 5000}})
        self.assertTrue(reply.result["isError"])
        nested: Any = "An idea"
        for _ in range(500):
            nested = [nested]
        reply = self.server.call(params={**CALL, "arguments": {"idea": nested}})
        self.assertTrue(reply.result["isError"])

    def test_media_types(self) -> None:
        """
        JSON is sent as JSON, to clients that accept a media type of a response.
        """
        reply = self.server.call(Content_Type="text/plain")
        self.assert_error(reply, 415, INVALID_REQUEST, "not_json")
        reply = self.server.call(Accept="text/html")
        self.assert_error(reply, 406, INVALID_REQUEST, "not_acceptable")
        for accept in ("application/json", "*/*", None):
            reply = self.server.call(Accept=accept)
            self.assertEqual(reply.headers["content-type"], "application/json; charset=utf-8")

    def test_only_events(self) -> None:
        """
        A client that accepts only events gets its response as one.
        """
        session = self.server.initialize(Accept="text/event-stream")
        for reply in (
            self.server.ask_in(session, Accept="text/event-stream"),
            self.server.call(Accept="text/event-stream"),
        ):
            self.assertEqual(reply.headers["content-type"], "text/event-stream")
            self.assertFalse(reply.message["result"]["isError"])

    def test_no_stream(self) -> None:
        """
        The server offers no stream of its own messages.
        """
        reply = self.server.post(b"", method="GET", Accept="text/event-stream")
        self.assert_error(reply, 405, INVALID_REQUEST, "wrong_method")
        self.assertEqual(reply.headers["allow"], "DELETE, POST")

    def test_origin(self) -> None:
        """
        A page of another origin may neither call nor end a session.
        """
        for method in ("POST", "DELETE"):
            reply = self.server.post(_PING, method=method, Origin="http://evil.example")
            self.assert_error(reply, 403, INVALID_REQUEST, "wrong_origin")

    def test_tokens(self) -> None:
        """
        A call needs a token with the scope that tasks need, and a session belongs to its token.
        """
        server = McpServer(scopes="ask")
        self.assert_error(server.call(), 401, INVALID_REQUEST, "no_token")
        self.assertFalse(server.call(Authorization=f"Bearer {TOKEN}").result["isError"])
        session = server.initialize(Authorization=f"Bearer {TOKEN}")
        reply = server.ask_in(session, Authorization=f"Bearer {TOKEN}", peer="192.0.2.1")
        self.assertFalse(reply.result["isError"])
        server = McpServer(scopes="watch")
        reply = server.call(Authorization=f"Bearer {TOKEN}")
        self.assert_error(reply, 403, INVALID_REQUEST, "wrong_scope")

    def test_rate(self) -> None:
        """
        Each message that does not only read counts towards what a client may send.
        """
        server = McpServer(rate=True)
        server.call()
        reply = server.call()
        self.assertIn("result", server.call("tools/list", {}).messages[-1])
        self.assert_error(reply, 429, INVALID_REQUEST, "rate_limited")
        self.assertEqual(reply.headers["retry-after"], str(reply.error["data"]["retryAfter"]))


class ProgressTests(McpTests):
    """
    Tests for streams, with an agent that is silent until the test says something.
    """

    def setUp(self) -> None:
        self.server = McpServer(silent)
        [self.program] = self.server.reactor.programs

    def answer(self) -> None:
        """
        Let the agent answer.
        """
        self.program.say(fakekiro.answer_text(self.program.typed[-1]))
        self.server.settle()

    def test_progress(self) -> None:
        """
        A client with a token is told of the progress before it gets the response.
        """
        connection = self.server.begin_call(meta={**META, "progressToken": "t"})
        reply = connection.reply
        self.assertEqual(reply.headers["content-type"], "text/event-stream")
        self.assertEqual(reply.headers["x-accel-buffering"], "no")
        [started] = reply.messages
        self.assertEqual(started["method"], "notifications/progress")
        self.assertEqual(
            started["params"],
            {"progressToken": "t", "progress": 1, "message": "worker1 is working on it"},
        )
        self.assertFalse(connection.ended)
        self.answer()
        *notes, last = connection.reply.messages
        self.assertEqual(last["id"], 1)
        self.assertEqual(last["result"]["structuredContent"]["title"], "An idea")
        progress = [note["params"]["progress"] for note in notes]
        self.assertEqual(progress, [*range(1, len(notes) + 1)])
        self.assertTrue(connection.ended)

    def test_no_token(self) -> None:
        """
        Without a token, nothing is sent before the response.
        """
        session = self.server.initialize()
        for begin in (lambda: self.server.begin_call(), lambda: self.server.begin_in(session)):
            connection = begin()
            self.server.settle(20)
            self.assertTrue(connection.silent)
            self.answer()
            self.assertEqual(connection.reply.message["result"]["isError"], False)

    def test_json_only(self) -> None:
        """
        A client that accepts no events gets none, token or not.
        """
        meta = {**META, "progressToken": 5}
        connection = self.server.begin_call(meta=meta, Accept="application/json")
        self.assertTrue(connection.silent)
        self.answer()
        self.assertFalse(connection.reply.message["result"]["isError"])

    def test_alive(self) -> None:
        """
        Comments keep a stream open.
        """
        connection = self.server.begin_call(meta={**META, "progressToken": 5})
        self.server.settle(40)
        self.assertIn(b": alive\n", connection.reply.content)

    def test_refused_early(self) -> None:
        """
        What is wrong with the request itself has its status, token or not.
        """
        meta = {**META, "progressToken": 5}
        reply = self.server.call(params={"name": "x"}, meta=meta)
        self.assert_error(reply, 400, INVALID_PARAMS, "unknown_task")
        self.assertEqual(reply.headers["content-type"], "application/json; charset=utf-8")

    def test_failure(self) -> None:
        """
        A call that fails after its stream has begun ends it with the failure.
        """
        meta = {**META, "progressToken": 5}
        connection = self.server.begin_call(meta=meta, X_Request_Timeout="5")
        self.server.settle(10)
        self.assertTrue(connection.ended)
        result = connection.reply.result
        self.assertEqual(result["_meta"]["kiroworkers/error"]["code"], "timed_out")

    def assert_free(self) -> None:
        """
        Assert that the only worker takes the next call.
        """
        self.server.settle(30)
        connection = self.server.begin_call(meta={**META, "progressToken": "again"})
        self.assertIn(b"is working on it", connection.reply.content)

    def test_hang_up(self) -> None:
        """
        A client that closes its connection frees the worker, in each revision.
        """
        session = self.server.initialize()
        begins: list[Callable[[], Any]] = [
            lambda: self.server.begin_call(),
            lambda: self.server.begin_call(meta={**META, "progressToken": 5}),
            lambda: self.server.begin_in(session),
        ]
        for begin in begins:
            connection = begin()
            self.assertTrue(self.program.answering)
            connection.hang_up()
            self.assertFalse(self.program.answering)
        self.assert_free()

    def cancel(self, session: str, id: Any, **options: Any) -> Reply:
        """
        Cancel a request of a session.
        """
        params = {"requestId": id, "reason": "enough"}
        return self.server.ask_in(session, "notifications/cancelled", params, None, **options)

    def test_cancel(self) -> None:
        """
        A request that its client cancels ends with an error, and the worker is free.
        """
        session = self.server.initialize()
        connection = self.server.begin_in(session, id="a", X_Request_ID="mine")
        self.assertTrue(self.program.answering)
        self.assertEqual(self.cancel(session, "a").status, 202)
        self.assertEqual(connection.reply.status, 200)
        self.assertEqual(connection.reply.error["code"], REQUEST_CANCELLED)
        self.assertFalse(self.program.answering)
        self.assertEqual(self.server.records["mine"].outcome, "cancelled")
        self.assert_free()

    def test_cancel_stream(self) -> None:
        """
        The stream of a request that its client cancels ends without a response.
        """
        session = self.server.initialize()
        params = {**CALL, "_meta": {"progressToken": 1}}
        connection = self.server.begin_in(session, params=params, id=5)
        self.cancel(session, 5)
        self.assertTrue(connection.ended)
        self.assertEqual([*filter(lambda m: "id" in m, connection.reply.messages)], [])
        self.assertFalse(self.program.answering)

    def test_cancel_nothing(self) -> None:
        """
        A cancellation of what is not in progress, or is somebody else's, has no effect.
        """
        session, other = self.server.initialize(), self.server.initialize()
        self.server.begin_in(session, id=1)
        id: Any
        for id in (2, "1", True, None, [], {}):
            self.assertEqual(self.cancel(session, id).status, 202)
        self.assertEqual(self.cancel(other, 1).status, 202)
        self.assertEqual(self.cancel(session, 1, peer="192.0.2.1").status, 404)
        self.assertTrue(self.program.answering)
        self.answer()
        self.assertEqual(self.cancel(session, 1).status, 202)

    def test_same_id(self) -> None:
        """
        A session has one request with an id at a time; the second is refused, not the first.
        """
        session = self.server.initialize()
        connection = self.server.begin_in(session, id=1)
        reply = self.server.ask_in(session, "ping", {}, 1)
        self.assert_error(reply, 400, INVALID_REQUEST, "invalid_message")
        self.assertEqual(self.server.ask_in(session, "ping", {}, "1").result, {})
        self.answer()
        self.assertFalse(connection.reply.result["isError"])
        self.assertEqual(self.server.ask_in(session, "ping", {}, 1).result, {})

    def test_session_ended(self) -> None:
        """
        A request goes on when its session ends, and its connection still gets the response.
        """
        session = self.server.initialize()
        connection = self.server.begin_in(session)
        self.server.post(b"", method="DELETE", Mcp_Session_Id=session)
        self.answer()
        self.assertFalse(connection.reply.result["isError"])
