"""
Send hostile bytes to a server: ``python -m tests.fuzz_http CASES [SEED]``.

Each case is one connection to a server with the offline agent.  It sends a valid request
after some of its parts were replaced, or bytes changed or removed.  Whatever it sends,
the client must get an answer in JSON within a bounded time, and never a server error.
No callback of the server may keep the others waiting.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import treq
from attrs import define, field
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredSemaphore, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import react
from twisted.python.failure import Failure

from tests.programs import Program, environment
from tests.servers import slow_callbacks

#: How many connections are open at a time.
_MAX_CONNECTIONS = 40

#: Seconds to wait for an answer; the server closes a connection long before.
_TIMEOUT = 30

#: Flags of the server, which make it reject slow clients soon.
OPTIONS = ("--receive-timeout", "1", "--max-body", "20k", "--request-timeout", "5", "--models", "*")

_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}) ")

_METHODS = [b"GET", b"HEAD", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"TRACE", b"CONNECT",
            b"PRI", b"get", b"P\xc3\x96ST", b"", b"A" * 300, b"POST\x00", b" POST"]  # fmt: skip

_VERSIONS = [b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2.0", b"", b"http/1.1", b"HTTP/1.1 x"]

_PATHS = [
    b"/", b"//", b"/health", b"/ready", b"/kiro", b"/kiro/", b"/kiro/nothing", b"/operator/queue",
    b"/health/../kiro", b"//kiro//generate-story", b"/kiro/%2e%2e/health", b"/%00", b"/%ff%fe",
    b"/%", b"/%zz", b"*", b"", b"http://evil.example/health", b"evil.example:443", b"/\xff\xfe",
    b"/ready?agent=%ff", b"/ready?agent=" + b"x" * 3000, b"/ready?&=&agent",
    b"/health?" + b"a&" * 4000, b"/" + b"a" * 17000, b"/" + b"%41" * 2000, b"/a b", b"/a\x00b",
    b"/kiro/generate-story#x", b"/;x", b"/kiro/\xe2\x80\xae", b"/\\..\\..", b"/kiro/%F0%9F%92%A9",
    b"/kiro/" + b"../" * 300, b"/jobs/nothing", b"/jobs?limit=0", b"/jobs?before=%ff", b"/jobs//",
    b"/jobs/%00", b"/jobs/" + b"a" * 3000, b"/v1", b"/v1/", b"/v1/models/", b"/v1/models/%ff",
    b"/v1/models/offline/x", b"/v1/models/offline%2Fx", b"/v1/models/%2f", b"/v1/models/x%2F..%2Fy",
    b"/v1/models/offline/" + b"a/" * 3000, b"/v1/models/offline%2F%ed%a0%80",
    b"/operator/approvals/", b"/operator/approvals/%00", b"/operator/approvals/" + b"a" * 3000,
    b"/operator/approvals?agent=x",
    b"/v1/messages/", b"/v1/messages/batches", b"/v1/models?after_id=%ff", b"/v1/messages?x",
    b"/v1//chat/completions", b"/v1/../kiro", b"/%76%31/models", b"/v1/chat/completions?n=2",
    b"/v1/responses/resp_1", b"/v1/responses/%ff", b"/v1/responses/resp_1/cancel",
    b"/mcp", b"/mcp/", b"/mcp/x", b"/mcp?x=\xff", b"/mcp?raw=5", b"/.well-known/mcp", b"/sse",
]  # fmt: skip

#: Paths that answer GET.
_GET_PATHS = [b"/health", b"/ready", b"/kiro", b"/operator/queue", b"/operator/approvals", b"/jobs",
         b"/jobs/nothing", b"/v1/models", b"/v1/models/offline"]  # fmt: skip

#: What a request of MCP says about itself.
_META = (b'"_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28", '
         b'"io.modelcontextprotocol/clientCapabilities": {')  # fmt: skip

#: The beginning of the parameters of a call.
_STORY_CALL = b'{"name": "generate-story", "arguments": {"idea": "x"}, '

#: Messages of MCP; the first five are valid.
_MCP_BODIES = [
    b'{"jsonrpc": "2.0", "id": ' + members + b"}" for members in (
        *(b'1, "method": ' + method + params + _META + capabilities + b"}}}"
          for method, params, capabilities in (
            (b'"tools/call", "params": ', _STORY_CALL, b""),
            (b'"tools/call", "params": ', _STORY_CALL,
             b'"extensions": {"io.modelcontextprotocol/tasks": {}}'),
            (b'"tools/list", "params": ', b"{", b""),
            (b'"server/discover", "params": ', b"{", b""),
        )),
        b'"a", "method": "initialize", "params": {"protocolVersion": "x", "capabilities": {}}',
        b'1, "method": "ping"', b'1, "method": "tools/call"', b'[], "method": "ping"',
        b'null, "method": "ping"', b'1e3, "method": "ping"', b'true, "method": "ping"',
        b"9" * 300 + b', "method": "ping"', b'"\\ud800", "method": "\\ud800"', b'1, "result": {}',
        b'1, "error": {"code": 1, "message": "x"}', b'1, "method": "ping", "params": [1]',
        b'1, "method": "notifications/cancelled", "params": {"requestId": {}}', b'1, "method": []',
        b'1, "method": "tools/call", "params": {"name": []}',
        *(b'1, "method": "' + method + b'", "params": {' + params + _META + capabilities + b"}}}"
          for method, params, capabilities in (
            (b"tools/call", b'"name": "\\ud800", ', b""), (b"tools/call", b"", b'"extensions": []'),
            (b"tools/call", b'"name": {}, ', b'"extensions": {"": []}'),
            (b"tools/call", b'"name": "generate-story", "arguments": [], ', b""),
            (b"tools/call", b'"name": "generate-story", "arguments": {"\\ud800": 5}, ', b""),
            (b"tools/list", b'"cursor": {}, ', b""), (b"initialize", b"", b""),
            *((b"tasks/" + name, b'"taskId": ' + id + b', "inputResponses": [], ', tasks)
              for name in (b"get", b"cancel", b"update")
              for id in (b'"x"', b"5", b'"\\ud800"')
              for tasks in (b"", b'"extensions": {"io.modelcontextprotocol/tasks": {}}')),
            *((b"subscriptions/listen", b'"notifications": ' + wanted + b", ",
               b'"extensions": {"io.modelcontextprotocol/tasks": {}}')
              for wanted in (b"[]", b'{"taskIds": ["x"]}', b'{"taskIds": [5]}')),
        )),
        *(b'1, "method": "tools/list", "params": {"_meta": ' + meta + b"}" for meta in (
            b"[]", b"{}", b"5", b'{"io.modelcontextprotocol/protocolVersion": []}',
            b'{"io.modelcontextprotocol/protocolVersion": "2026-07-28"}',
            _META[9:] + b'}, "progressToken": {}}', _META[9:] + b'}, "progressToken": 1}',
            _META[9:-1] + b"[]}", _META[9:-1] + b"null}",
        )),
    )
]  # fmt: skip

#: Paths that answer POST, each with a valid body.
_POST_REQUESTS = [
    (b"/kiro/generate-story", b'{"idea": "Export the list"}'),
    (b"/v1/chat/completions",
     b'{"model": "default", "messages": [{"role": "user", "content": "Hi"}]}'),
    (b"/v1/responses", b'{"model": "default", "input": "Hi"}'),
    (b"/v1/messages",
     b'{"model": "default", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}'),
    (b"/v1/messages/count_tokens",
     b'{"model": "default", "messages": [{"role": "user", "content": "Hi"}]}'),
    (b"/operator/approvals/x", b'{"decision": "allow"}'),
    *((b"/mcp", body) for body in _MCP_BODIES[:5]),
]  # fmt: skip

_HEADERS = [
    b"Host: evil.example", b"Host: [", b"Host: \xff", b"Host:", b"Host: a..b", b"Host: a:b:c",
    b"Host: localhost:99999999", b"Host: [::1]:x", b"Host: 127.0.0.1, evil.example",
    b"Origin: null", b"Origin: https://evil.example", b"Origin: \xff", b"Origin: http://[",
    b"Origin:", b"Content-Length: -1", b"Content-Length: +5", b"Content-Length: 1_0",
    b"Content-Length: 0x5", b"Content-Length: 5, 5", b"Content-Length: " + b"9" * 30,
    b"Content-Length: " + b"9" * 5000, b"Content-Length: \xb2", b"Content-Length:",
    b"Content-Length: 21000", b"Content-Length: 3", b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked, chunked",
    b"Transfer-Encoding: identity", b"Transfer-Encoding: \x0bchunked", b"Transfer-Encoding:",
    b"Content-Type: multipart/form-data", b"Content-Type: multipart/form-data; boundary=x",
    b"Content-Type: application/x-www-form-urlencoded", b"Content-Type: \xff", b"Content-Type:",
    b"Content-Type: application/json; charset=utf-16", b"Content-Encoding: gzip",
    b"Expect: 100-continue", b"Expect: nonsense", b"Connection: upgrade", b"Upgrade: h2c",
    b"Connection: keep-alive, close", b"X-Request-Timeout: 1e309", b"X-Request-Timeout: -1",
    b"X-Request-Timeout: 1_0", b"X-Request-Timeout:", b"X-Priority: \xb2", b"X-Priority: 10",
    b"Prefer: wait=99999999999", b"Prefer: wait=;,=\xff", b"X-Agent: \xff",
    b"X-Agent: " + b"a" * 5000, b"X-Agent: offline", b"X-Agent:", b"Authorization: Bearer",
    b"Authorization: Bearer \xff", b"Authorization: Basic Og==", b"Cookie: =;=;\xff",
    b"Cookie: " + b"a=b;" * 2000, b"Forwarded: for=\xff", b"Accept: text/event-stream", b"no colon",
    b": no name", b"sp ace: x", b"N\x00L: x", b"X: a\x00b", b" folded", b"\tfolded", b"X:\ry",
    b"A" * 17000 + b": x", b"X: " + b"y" * 17000, b"Range: bytes=0-", b"If-None-Match: *",
    b"Via: \x7f", b"Idempotency-Key: \xff", b"Accept: \xff/*;q=x", b"Accept-Encoding: gzip;q=nan",
    b"TE: trailers", b"Prefer: respond-async", b"Prefer: respond-async, wait=1",
    b"X-Callback: http://localhost/", b"X-Callback: \xff", b"Idempotency-Key: a",
    b"X-Model: x", b"X-Model: \xff", b"X-Model: ", b"X-Model: " + b"a" * 5000, b"X-Model: a\x85b",
    b"X-Model: \xed\xa0\x80", b"X-Api-Key: \xff", b"X-Api-Key:", b"X-Api-Key: " + b"a" * 5000,
    b"Anthropic-Version: \xff", b"Anthropic-Version:", b"Anthropic-Version: " + b"2" * 5000,
    b"Anthropic-Version: 2023-06-01", b"Anthropic-Beta: \xff",
    b"MCP-Protocol-Version: 2025-06-18", b"MCP-Protocol-Version: \xff", b"MCP-Protocol-Version:",
    b"MCP-Protocol-Version: " + b"2" * 5000, b"Mcp-Method: tools/list", b"Mcp-Method: \xff",
    b"Mcp-Name: =?base64?/w==?=", b"Mcp-Name: =?base64??=", b"Mcp-Name: \xff",
    b"Mcp-Name: =?base64?" + b"A" * 5000 + b"?=", b"Mcp-Session-Id: \xff", b"Mcp-Session-Id:",
    b"Mcp-Session-Id: " + b"a" * 5000, b"Accept: application/json", b"Accept: */*;q=0",
    b"Accept: text/html", b"Last-Event-ID: 5",
]  # fmt: skip

_BODIES = [
    b"", b"{", b"[" * 19000, b'{"idea": NaN}', b'{"idea": 1e999}',
    b'{"idea": ' + b"9" * 5000 + b"}", b"null", b"true", b'"x"', b"[1]", b'{"idea": "\xff"}',
    b'{"idea": "\\ud800"}', b"\xef\xbb\xbf{}", b'{"idea": ""}', b'{"idea": {"idea": []}}',
    b'{"story": {"title": 5}}', b"x" * 30000, b"\x1f\x8b\x08\x00", b"--x\r\n\r\n--x--", b"a=b&a=b",
    b'{"idea": "x", "idea": 5}', b'{"idea": "\\u0000\\u001b[201~\\r"}',
    b'{"idea": "x", "components": {}}', b'{"\\ud800": "\\udfff", "idea": "y"}',
    b'{"decision": "deny"}', b'{"decision": []}', b'{"decision": {"x": 1}}', b'{"decision": null}',
    *(b'{"model": ' + name + b', "messages": [{"role": "user", "content": "Hi"}]}' for name in (
        b'"offline/x"', b'"offline/"', b'"/"', b'"offline/\\ud800"', b'"offline/\\n"',
        b'["offline/x"]', b'"' + b"offline/" * 1000 + b'"', b'"default/*"',
    )),
    *(b'{"model": "default", "messages": ' + members + b"}" for members in (
        b"5", b"[]", b"[[]]", b'[{"role": "\\ud800"}]', b'[{"role": "user", "content": "\\ud800"}]',
        b'[{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": []}]}]',
        b'[{"role": "assistant", "tool_calls": {}}]', b'[{"role": "tool", "content": ""}]',
        *(b'[{"role": "user", "content": "Hi"}], ' + more for more in (
            b'"stream": true', b'"stream": true, "stream_options": {"include_usage": true}',
            b'"stop": "a"', b'"stop": {}', b'"n": []', b'"n": 1e300', b'"tools": 5',
            b'"response_format": {"type": "json_object"}', b'"response_format": {"type": []}',
            *(b'"response_format": {"type": "json_schema", "json_schema": {"schema": '
              + schema + b"}}" for schema in (
                b"{}", b"[]", b'{"type": []}', b'{"$ref": "#/$defs/x"}', b'{"$schema": 5}',
                b'{"$ref": "#/$defs/x", "$defs": []}', b'{"$ref": "#/$defs/x", "$defs": {"x": 5}}',
                b'{"properties": {"error": {"pattern": "("}}}', b'{"required": [5]}',
                b'{"$id": "x"}', b'{"not": ' * 2000,
            )),
        )),
    )),
    *(b'{"model": "default", "input": ' + members + b"}" for members in (
        b"5", b"[]", b"[[]]", b'[{"role": "\\ud800"}]', b'"\\ud800"', b'[{"type": []}]',
        b'[{"role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": {}}]}]',
        b'[{"role": "user", "content": [{"type": "input_image", "image_url": "data:;base64,"}]}]',
        b'[{"type": "function_call_output", "call_id": "1", "output": [5]}]',
        b'[{"type": "item_reference", "id": "x"}]', b'[{"type": "reasoning"}]',
        b'[{"type": "message", "role": "assistant", "content": [{"type": "refusal"}]}]',
        *(b'"Hi", ' + more for more in (
            b'"stream": true', b'"instructions": ["x"]', b'"text": {"format": {"type": []}}',
            b'"text": {"format": {"type": "json_schema", "schema": {"type": []}}}',
            b'"text": {"format": {"type": "json_schema", "name": "\\ud800", "schema": {}}}',
            b'"metadata": {"\\ud800": "\\ud800"}, "stream": true', b'"metadata": {"a": 5}',
            b'"background": true', b'"previous_response_id": 5', b'"tool_choice": {"type": []}',
            b'"include": ["message.output_text.logprobs", []]', b'"include": 5', b'"tools": 5',
        )),
    )),
    *(b'{"model": "default", "max_tokens": 9, "messages": ' + members + b"}" for members in (
        b'[{"role": "assistant", "content": "Hi"}]', b'[{"role": "system", "content": []}]',
        *(b'[{"role": "user", "content": [' + block + b"]}]" for block in (
            b"[]", b'{"type": "text", "text": "\\ud800"}', b'{"type": "tool_result"}',
            b'{"type": "tool_result", "tool_use_id": "\\ud800", "content": [{"type": "text"}]}',
            b'{"type": "image", "source": {"type": "base64", "media_type": [], "data": {}}}',
            b'{"type": "image", "source": {"type": "base64", "media_type": "image/gif", '
            b'"data": "R0lGODlh"}}',
            b'{"type": "image", "source": {"type": "url", "url": "data:,"}}',
        )),
        b'[{"role": "user", "content": ""}, {"role": "assistant", "content": [{"type": "tool_use", '
        b'"id": "", "name": "", "input": ' + b'{"a": ' * 900 + b"1" + b"}" * 900
        + b"}]}, " b'{"role": "user", "content": ""}]',
        *(b'[{"role": "user", "content": "Hi"}], ' + more for more in (
            b'"stream": true, "system": [{"type": "text", "text": "x"}]', b'"max_tokens": 1e300',
            b'"stop_sequences": ["", 5]', b'"stop_sequences": ["\\ud800"]', b'"tool_choice": []',
            b'"thinking": []', b'"thread": "\\ud800"', b'"output_config": {"format": {"type": []}}',
            b'"output_config": {"format": {"type": "json_schema", "schema": {"$id": "x"}}}',
        )),
    )),
]  # fmt: skip

_SIZES = [
    b"0", b"-1", b"g", b"", b"ffffffffffffffffffff", b"1;x=y", b" 5", b"5 ", b"0x5", b"7fffffff",
    b"a" * 2000, b"00000005", b"\xb2",
]  # fmt: skip


def case(rng: Random) -> list[bytes]:
    """
    Return what one client sends, in pieces.
    """
    method, version = b"POST", b"HTTP/1.1"
    path, body = rng.choice(_POST_REQUESTS)
    headers = [b"Host: localhost", b"Content-Type: application/json"]
    if path == b"/mcp" and rng.random() < 0.3:
        body = rng.choice(_MCP_BODIES)
    if path == b"/mcp":
        # As a client would send them, if the body has them.
        method_name = re.search(rb'"method": "([!-~]+)"', body)
        name = re.search(rb'"(?:name|taskId)": "([!-~]+)"', body)
        headers.append(b"MCP-Protocol-Version: 2026-07-28")
        headers += [b"Mcp-Method: " + method_name[1]] if method_name else []
        headers += [b"Mcp-Name: " + name[1]] if name else []
    if path.startswith(b"/v1/messages"):
        headers.append(b"Anthropic-Version: 2026-10-21")
    if rng.random() < 0.7:
        headers.append(b"Connection: close")
    if rng.random() < 0.3:
        method, path, body = b"GET", rng.choice(_GET_PATHS), b""
    if rng.random() < 0.2:
        method = rng.choice(_METHODS)
    if rng.random() < 0.3:
        path = rng.choice(_PATHS)
    if rng.random() < 0.05:
        version = rng.choice(
            [b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2.0", b"", b"http/1.1", b"HTTP/1.1 x"]
        )
    if rng.random() < 0.4:
        body = rng.choice(_BODIES)
    for _ in range(rng.choice([0, 0, 1, 1, 2, 3])):
        headers.insert(rng.randrange(len(headers) + 1), rng.choice(_HEADERS))
    if rng.random() < 0.05:
        headers.pop(rng.randrange(len(headers)))
    if rng.random() < 0.03:
        headers += [b"X-%d: y" % number for number in range(rng.randrange(400, 700))]
    if rng.random() < 0.2:
        headers.append(b"Transfer-Encoding: chunked")
        body = _chunked(rng, body)
    elif body or rng.random() < 0.5:
        headers.append(b"Content-Length: %d" % len(body))
    end = rng.choice([b"\r\n"] * 9 + [b"\n"])
    request = end.join([b" ".join([method, path, version]), *headers, b"", body])
    if rng.random() < 0.2:
        request = _corrupt(rng, request)
    if rng.random() < 0.1:
        request += rng.choice([request, b"\r\n", rng.randbytes(50)])
    if rng.random() < 0.05:
        request = request[: rng.randrange(1, len(request) + 1)]
    at = rng.randrange(len(request)) if rng.random() < 0.3 else 0
    return [piece for piece in (request[:at], request[at:]) if piece]


def _chunked(rng: Random, body: bytes) -> bytes:
    encoded = b""
    while body:
        part, body = body[: (size := rng.choice([1, 5, 100, 9000]))], body[size:]
        size_line = b"%x" % len(part) if rng.random() < 0.95 else rng.choice(_SIZES)
        encoded += size_line + b"\r\n" + part + (b"\r\n" if rng.random() < 0.98 else b"")
    trailer = rng.choice([b""] * 5 + [b"X: y\r\n", b"nonsense\r\n", b"X: " + b"y" * 70000])
    return encoded + (b"0\r\n" + trailer + b"\r\n" if rng.random() < 0.95 else b"")


def _corrupt(rng: Random, request: bytes) -> bytes:
    changed = bytearray(request)
    for _ in range(rng.choice([1, 2, 10])):
        at = rng.randrange(len(changed))
        match rng.randrange(3):
            case 0:
                changed[at] = rng.randrange(256)
            case 1:
                changed[at:at] = rng.randbytes(rng.choice([1, 4]))
            case _ if len(changed) > 5:
                del changed[at : at + 4]
    return bytes(changed)


@define(eq=False)
class HostileClient(Protocol):
    """
    Send bytes, and read until the response is complete or the connection is closed.

    Attributes:
        pieces: What to send, each piece in a segment of its own.
        received: What the server has sent so far.
        ended: Fires when the response is complete or the connection is closed.
        closed: Fires when the connection is closed.
    """

    pieces: list[bytes]
    received: bytes = b""
    ended: Deferred[None] = field(factory=Deferred)
    closed: Deferred[None] = field(factory=Deferred)

    def connectionMade(self) -> None:
        self._send()

    def _send(self) -> None:
        if self.transport is not None and self.pieces and not self.ended.called:
            self.transport.write(self.pieces.pop(0))
            # The next piece goes into another segment.
            real.callLater(0, self._send)

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        if not self.ended.called and self.answer() is not None:
            assert self.transport is not None
            self.ended.callback(None)
            self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.ended.called:
            self.ended.callback(None)
        self.closed.callback(None)

    def answer(self) -> tuple[int, bytes, bytes] | None:
        """
        Return the status, head and body of the response, or None until it is complete.
        """
        rest = self.received
        while rest.startswith(b"HTTP/1.1 100"):
            rest = rest.partition(b"\r\n\r\n")[2]
        head, blank, body = rest.partition(b"\r\n\r\n")
        status = _STATUS.match(head)
        if not blank or status is None:
            return None
        length = re.search(rb"\r\nContent-Length: (\d+)", head, re.I)
        expected = int(length[1]) if length else 0
        return None if 0 < len(body) < expected else (int(status[1]), head, body[:expected])


async def fuzz(port: int, cases: int, seed: int) -> tuple[Counter[int], list[str]]:
    """
    Send hostile bytes to a server on loopback, and check its responses.

    Args:
        port: The server's port.
        cases: How many connections to make.
        seed: Chooses the bytes.

    Returns:
        How often each status was answered (0: the connection was closed instead), and a
        description of each response that is wrong.
    """
    rng, statuses, problems = Random(seed), Counter[int](), list[str]()
    semaphore = DeferredSemaphore(_MAX_CONNECTIONS)

    async def run_case(pieces: list[bytes]) -> None:
        request = b"".join(pieces)
        client = HostileClient(pieces)
        await connectProtocol(TCP4ClientEndpoint(real, "127.0.0.1", port, timeout=_TIMEOUT), client)
        alarm = real.callLater(_TIMEOUT, client.ended.errback, TimeoutError())
        try:
            await client.ended
        except TimeoutError:
            problems.append(f"hangs: {request[:500]!r}")
            return
        alarm.cancel()
        answer = client.answer()
        if answer is not None and request.lstrip(b"\r\n").startswith(b"HEAD "):
            # What follows the head is the response to another request.
            answer = (*answer[:2], b"")
        statuses[answer[0] if answer else 0] += 1
        problem = _problem(answer)
        if problem:
            problems.append(f"{problem}: {request[:500]!r} -> {client.received[:300]!r}")

    drawn = [case(rng) for _ in range(cases)]
    await gatherResults([semaphore.run(run_case, pieces) for pieces in drawn])
    return statuses, problems


def _problem(answer: tuple[int, bytes, bytes] | None) -> str | None:
    if answer is None:
        return "not answered"
    status, head, body = answer
    if status >= 500 and status != 503:
        return "server error"
    if b"X-Content-Type-Options: nosniff" not in head:
        return "without the security headers"
    if status >= 400 and body:
        try:
            payload = json.loads(body)
        except ValueError:
            return "no JSON"
        error = payload.get("error")
        if isinstance(error, dict):
            # This is the format of OpenAI's API, of Anthropic's, or of JSON-RPC.
            details = error.get("details") or error.get("data") or {}
            code = details.get("error_code") or details.get("code") or error.get("code")
            payload = {"error": error.get("message"), "code": code}
        if not isinstance(payload.get("error"), str) or not isinstance(payload.get("code"), str):
            return "no error or no code"
    return None


real: Any = reactor


async def _main(cases: int, seed: int) -> None:
    server = Program()
    with TemporaryDirectory() as folder:
        arguments = ["-c", "from twisted.scripts.twistd import run; run()", "-n", "--pidfile="]
        arguments += ["kiroworkers", "--port", "0", "--agent", "offline", *OPTIONS]
        server.start(real, arguments, environment(), Path(folder))
        port = int((await server.says(r"listening on .*port=(\d+)"))[1])
        await server.says("worker2: ready")
        statuses, problems = await fuzz(port, cases, seed)
        url = f"http://127.0.0.1:{port}/kiro/generate-story"
        last = await treq.post(url, json={"idea": "Export the list"}, persistent=False)
        await server.signal("TERM")
    print(f"{cases} cases, seed {seed}: {dict(sorted(statuses.items()))}; then {last.code}")
    problems += slow_callbacks(server.output)
    print(*problems[:20], sep="\n")
    if "Traceback" in server.output:
        print(server.output[server.output.index("Traceback") :][:3000])
    raise SystemExit(bool(problems) or last.code != 200 or "Traceback" in server.output)


if __name__ == "__main__":
    numbers = [int(argument) for argument in sys.argv[1:]]
    react(lambda _: Deferred.fromCoroutine(_main(*(numbers + [10_000, 1][len(numbers) :]))))
