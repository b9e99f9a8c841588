"""
Generate requests that cost a server as much as one client can make them cost.

Each case is at a documented limit, or at a fraction of it: the size of a body, of a
client's schema, of an answer, of what is sent ahead on one connection.  Nothing here does
I/O: `tests.cost_fuzz` sends the cases.
"""

from __future__ import annotations

import json
from bisect import bisect
from collections.abc import Callable, Mapping
from functools import cache
from random import Random
from types import MappingProxyType
from typing import Any

from attrs import frozen

from kiroworkers.chat.response_schema import MAX_LENGTH
from kiroworkers.strict_json import MAX_VALUES, has_more_values
from tests.costly_agent import KINDS

#: The default of --max-body, in bytes.
MAX_BODY = 2**20

#: The most characters of an answer: a little more than --max-output, which is 8 MiB.
_MAX_ANSWER = 9_000_000

#: The most characters of an answer in an interface whose stand-in draws slowly.
_MAX_DRAWN = 200_000

#: What a client of a callback may meet; `tests.cost_fuzz` implements each.
RECEIVERS = ("headers", "status", "silent", "body", "close", "continue", "slow")

STORY = "/kiro/generate-story"
CHAT = "/v1/chat/completions"
MESSAGES = "/v1/messages"
RESPONSES = "/v1/responses"
MCP = "/mcp"
_PAGES = ("/docs", "/openapi.json", "/kiro", "/health", "/ready", "/jobs", "/metrics", "/nothing")


@frozen
class Case:
    """
    Describe what one client does.

    Attributes:
        name: What is expensive about it.
        data: What it sends.
        reads: Whether it reads the response; otherwise it disconnects after `patience`.
        half_closes: Whether it closes its side once everything is sent.
        reloads: How many times the server is told to reload meanwhile.
        patience: Seconds until a client that does not read disconnects.
    """

    name: str
    data: bytes
    reads: bool = True
    half_closes: bool = False
    reloads: int = 0
    patience: float = 1.0


def request(
    method: str,
    path: str,
    body: bytes = b"",
    headers: Mapping[str, str] = MappingProxyType({}),
    close: bool = True,
) -> bytes:
    """
    Return an HTTP request.

    Args:
        method: The method.
        path: The path.
        body: The body, which is JSON.
        headers: More headers by their names.
        close: Whether the server is to close the connection after its response.
    """
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if close:
        lines.append("Connection: close")
    if body or method == "POST":
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


def case(rng: Random) -> Case:
    """
    Return a random case.
    """
    makers, weights = zip(*_MAKERS, strict=True)
    chosen: Callable[[Random], Case] = rng.choices(makers, weights)[0]
    return chosen(rng)


def _amount(rng: Random, most: int) -> int:
    """
    Return `most`, a little more or less, or a random fraction of it, small ones as often.
    """
    if rng.random() < 0.3:
        return max(1, most + rng.choice([-200, -1, 0, 1, 200]))
    return max(1, int(most ** rng.uniform(0.3, 1)))


#: JSON of about a given length, by what makes it expensive.
JSON_KINDS: Mapping[str, Callable[[int], str]] = {
    "empty lists": lambda n: "[" + "[]," * (n // 3) + "0]",
    "small objects": lambda n: "[" + '{"a":1},' * (n // 8) + "0]",
    "floats": lambda n: "[" + "1.5e300," * (n // 8) + "0]",
    "long floats": lambda n: "[" + ("0." + "1" * 700 + ",") * (n // 703) + "0]",
    "integers": lambda n: "[" + ("9" * 4000 + ",") * (n // 4001) + "0]",
    "one integer": lambda n: "9" * n,
    "escapes": lambda n: '"' + "\\u0041" * (n // 6) + '"',
    "surrogates": lambda n: '"' + "\\ud83d\\ude00" * (n // 12) + '"',
    "half surrogates": lambda n: '"' + "\\ud83d" * (n // 6) + '"',
    "controls": lambda n: '"' + "\\u0000\\u001b" * (n // 12) + '"',
    "text": lambda n: '"' + "words of a text " * (n // 16) + '"',
    "wide text": lambda n: '"' + "\u6f22\u5b57\U0001f600" * (n // 10) + '"',
    "brackets in text": lambda n: '"' + '{\\"a\\":[' * (n // 8) + '"',
    "nested lists": lambda n: "[" * (n // 2) + "]" * (n // 2),
    "nested objects": lambda n: '{"a":' * (n // 6) + "1" + "}" * (n // 6),
    "unclosed": lambda n: '[{"a":' * (n // 6),
    "one name": lambda n: "{" + '"a":1,' * (n // 6) + '"b":1}',
    "names": lambda n: "{" + ",".join(f'"{i:07}":1' for i in range(n // 12)) + "}",
    "strings": lambda n: "[" + ",".join(f'"{i:07}"' for i in range(n // 10)) + "]",
    "image": lambda n: '"data:image/png;base64,iVBORw0KGgoAAAAN' + "AAAA" * (n // 4) + '"',
    "blanks": lambda n: " " * n + "1",
    "equal lists": lambda n: "[" + "[1,2]," * (n // 6) + "0]",
}


@cache
def longest_json(kind: str) -> int:
    """
    Return about the most characters of JSON of that kind that a body may hold.
    """
    lengths = [MAX_BODY - 300]
    while lengths[-1]:
        lengths.append(lengths[-1] * 49 // 50)

    def fits(length: int) -> bool:
        return not has_more_values(JSON_KINDS[kind](length), MAX_VALUES - 10)

    return lengths[bisect(lengths, False, key=fits)]


#: Requests for a message, each with a place for what is expensive.
_MESSAGES = tuple(
    '{"model": "kiro-acp", "max_tokens": 9, ' + members + "}"
    for members in (
        '"messages": %s',
        '"messages": [{"role": "user", "content": %s}]',
        '"messages": [{"role": "user", "content": [{"type": "text", "text": %s}]}]',
        '"messages": [{"role": "user", "content": [{"type": "image", "source": '
        '{"type": "base64", "media_type": "image/png", "data": %s}}]}]',
        '"messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", '
        '"content": %s}]}]',
        '"messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": "t", '
        '"name": "n", "input": {"a": %s}}]}, {"role": "user", "content": "Hi"}]',
        '"messages": [{"role": "user", "content": "Hi"}], "system": %s',
        '"messages": [{"role": "user", "content": "Hi"}], "stop_sequences": %s',
        '"messages": [{"role": "user", "content": "Hi"}], "metadata": %s',
    )
)


#: Requests for a response, likewise.
_RESPONSES = tuple(
    '{"model": "kiro-acp", ' + members + "}"
    for members in (
        '"input": %s',
        '"input": [{"role": "user", "content": %s}], "stream": true',
        '"input": [{"role": "user", "content": [{"type": "input_text", "text": %s}]}]',
        '"input": [{"role": "user", "content": [{"type": "input_image", "image_url": %s}]}]',
        '"input": [{"type": "function_call_output", "call_id": "1", "output": %s}]',
        '"input": "Hi", "instructions": %s, "stream": true',
        '"input": "Hi", "metadata": %s',
    )
)


#: What a request of MCP says about itself.
_META = (
    '"_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28", '
    '"io.modelcontextprotocol/clientCapabilities": {}}'
)

#: Messages of MCP, likewise.
_MCP = tuple(
    '{"jsonrpc": "2.0", ' + members + "}"
    for members in (
        *(
            '"id": 1, "method": "tools/call", "params": {"name": "generate-story", "arguments": '
            + arguments
            + f", {_META}}}"
            for arguments in ('{"idea": %s}', '{"idea": "x", "more": %s}', "%s")
        ),
        f'"id": 1, "method": "tools/call", "params": {{"name": %s, {_META}}}',
        '"id": %s, "method": "tools/call"',
        '"id": 1, "method": %s',
        '"id": 1, "method": "tools/call", "params": %s',
        '"id": 1, "method": "tools/call", "params": {"_meta": %s}',
        '"id": 1, "method": "initialize", "params": {"protocolVersion": "2025-11-25", '
        '"capabilities": %s}',
        '"method": "notifications/cancelled", "params": {"requestId": %s}',
    )
)

#: The headers of a call of a tool.
_MCP_HEADERS = {
    "MCP-Protocol-Version": "2026-07-28",
    "Mcp-Method": "tools/call",
    "Mcp-Name": "generate-story",
}


def _body(rng: Random) -> Case:
    """
    Return a case with a large body.
    """
    kind = rng.choice([*JSON_KINDS])
    costly = JSON_KINDS[kind](_amount(rng, rng.choice([MAX_BODY - 300, longest_json(kind)])))
    where = rng.choice(
        [
            '{"idea": %s}',
            '{"idea": "x", "components": %s}',
            '{"idea": "x", "more": %s}',
            "%s",
            '{"model": "kiro-acp", "messages": [{"role": "user", "content": "Hi"}], "stop": %s}',
            '{"model": "kiro-acp", "messages": [{"role": "user", "content": %s}]}',
            '{"model": "kiro-acp", "messages": %s}',
            '{"model": "kiro-acp", "messages": [{"role": "user", "content": "Hi"}], "tools": %s}',
            '{"model": "kiro-acp", "messages": [{"role": "user", "content": "Hi"}], "more": %s}',
            *_MESSAGES,
            *_RESPONSES,
            *_MCP,
        ]
    )
    if where in _MESSAGES:
        path = rng.choice([MESSAGES, f"{MESSAGES}/count_tokens"])
    elif where in _RESPONSES:
        path = RESPONSES
    elif where in _MCP:
        path = MCP
    elif "model" in where:
        path = CHAT
    else:
        path = rng.choice([STORY, STORY, CHAT, MESSAGES, "/kiro/analyze-invest"])
    headers = {} if path.startswith("/v1/") else {"X-Agent": "kiro-acp"}
    if path.startswith(MESSAGES):
        headers["anthropic-version"] = "2023-06-01"
    elif path == MCP:
        headers |= _MCP_HEADERS
    if rng.random() < 0.1:
        headers["Prefer"] = "respond-async"
    if rng.random() < 0.1:
        headers["Idempotency-Key"] = str(rng.randrange(50))
    body = (where % costly).encode("utf-8", "surrogatepass")
    return Case(f"body: {where % kind}, {len(body)} bytes", request("POST", path, body, headers))


def _referring(count: int, keyword: str, per: int) -> dict[str, Any]:
    """
    Return a schema whose definitions each refer `per` times to the next one.
    """
    definitions: dict[str, Any] = {
        f"d{i}": {keyword: [{"$ref": f"#/$defs/d{i + 1}"}] * per} for i in range(count)
    }
    definitions[f"d{count}"] = {"type": "integer"}
    return {"$defs": definitions, "properties": {"a": {"$ref": "#/$defs/d0"}}}


def _nested_schema(count: int, keyword: str) -> Any:
    schema: Any = {"type": "integer"}
    for _ in range(min(count, 300)):
        schema = {keyword: {"a": schema} if keyword == "properties" else schema}
    return schema


#: Schemas of very roughly a given length, by what makes them expensive.
SCHEMA_KINDS: Mapping[str, Callable[[int], Any]] = {
    "doubling anyOf": lambda n: _referring(max(1, n // 70), "anyOf", 2),
    "doubling oneOf": lambda n: _referring(max(1, n // 70), "oneOf", 2),
    "doubling allOf": lambda n: _referring(max(1, n // 70), "allOf", 2),
    "referring anyOf": lambda n: _referring(2, "anyOf", max(1, n // 40)),
    "false x ref": lambda n: {
        "$defs": {"a": {"anyOf": [False] * (n // 16)}},
        "anyOf": [{"$ref": "#/$defs/a"}] * (n // 40),
    },
    "anyOf {}": lambda n: {"anyOf": [{}] * (n // 4)},
    "oneOf {}": lambda n: {"oneOf": [{}] * (n // 4)},
    "allOf {}": lambda n: {"allOf": [{}] * (n // 4)},
    "anyOf false": lambda n: {"anyOf": [False] * (n // 7)},
    "anyOf types": lambda n: {"properties": {"a": {"anyOf": [{"type": "null"}] * (n // 18)}}},
    "enum of numbers": lambda n: {"properties": {"a": {"enum": list(range(n // 7))}}},
    "enum of objects": lambda n: {
        "properties": {"a": {"enum": [{"a": i} for i in range(n // 12)]}}
    },
    "items of enum": lambda n: {
        "additionalProperties": {"items": {"enum": [[i] for i in range(n // 8)]}}
    },
    "nested properties": lambda n: _nested_schema(n // 18, "properties"),
    "nested not": lambda n: _nested_schema(n // 8, "not"),
    "nested items": lambda n: {"properties": {"a": _nested_schema(n // 10, "items")}},
    "uniqueItems": lambda n: {
        "additionalProperties": {"uniqueItems": True, "items": {"uniqueItems": True}}
    },
    "properties": lambda n: {"properties": {f"p{i}": {"type": "string"} for i in range(n // 28)}},
    "required": lambda n: {"required": [f"p{i}" for i in range(n // 9)]},
    "itself": lambda n: {
        "properties": {"a": {"$ref": "#"}},
        "additionalProperties": {"anyOf": [{"$ref": "#"}, {"$ref": "#"}, {"type": "integer"}]},
    },
    "contains": lambda n: {
        "additionalProperties": {"contains": {"anyOf": [{"const": i} for i in range(n // 14)]}}
    },
    "names": lambda n: {"propertyNames": {"enum": [f"q{i}" for i in range(n // 9)]}},
    "if": lambda n: {"allOf": [{"if": {"required": ["z"]}, "then": False}] * (n // 45)},
    "dependent": lambda n: {"dependentRequired": {f"p{i}": ["z"] for i in range(n // 16)}},
    "dependent schemas": lambda n: {"dependentSchemas": {f"p{i}": {} for i in range(n // 11)}},
    "description": lambda n: {"description": "x" * n},
    "examples": lambda n: {"examples": [{"a": [1]}] * (n // 12), "default": {"a": [[1]] * 9}},
    "pattern": lambda n: {"properties": {"a": {"pattern": "(a+)+" * (n // 5) + "$"}}},
    "not a schema": lambda n: {"properties": {f"p{i}": 5 for i in range(n // 10)}},
    "bad types": lambda n: {"anyOf": [{"type": 5}] * (n // 13)},
}


def _schema(rng: Random) -> Case:
    """
    Return a case with a client's own schema, and an answer to check by it.
    """
    kind = rng.choice([*SCHEMA_KINDS])
    answer_kind = rng.choice([*JSON_KINDS])
    most = min(100_000, longest_json(answer_kind))
    answer = f'{{"a": {JSON_KINDS[answer_kind](_amount(rng, most))}}}'
    if rng.random() < 0.2:
        answer = JSON_KINDS["nested objects"](_amount(rng, 5_000))
    schema = schema_of(kind, _amount(rng, MAX_LENGTH))
    return Case(f"schema: {kind}; answer: {answer_kind}", schema_request(schema, answer))


def schema_of(kind: str, length: int) -> Any:
    """
    Return a schema of that kind that is at most `length` characters long, or the smallest.
    """
    amount = length
    while len(str(schema := SCHEMA_KINDS[kind](amount))) > length and amount > 1:
        amount = amount * 19 // 20
    return schema


def schema_request(schema: Any, answer: str) -> bytes:
    """
    Return a request whose `answer` is checked by the client's own `schema`.
    """
    body = {
        "model": "kiro-acp",
        "messages": [{"role": "user", "content": answer}],
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "costly", "schema": schema},
        },
    }
    return request("POST", CHAT, json.dumps(body).encode())


def answer_request(
    agent: str,
    kind: str,
    size: int,
    more: str = "",
    headers: Mapping[str, str] = MappingProxyType({}),
) -> bytes:
    """
    Return a request for a story whose answer begins with `size` characters of a kind.
    """
    body = json.dumps({"idea": f"x [[costly={kind},{size} {more}]]"}).encode()
    return request("POST", STORY, body, {**headers, "X-Agent": agent})


def _answer(rng: Random) -> Case:
    """
    Return a case with a long answer.
    """
    agent = rng.choice(["kiro-classic", "kiro-classic", "kiro-acp", "kiro-acp", "kiro-tui"])
    kind = rng.choice([*KINDS, "random", "nested", "properties"])
    size = _amount(rng, _MAX_DRAWN if agent == "kiro-tui" else _MAX_ANSWER)
    more = []
    if agent == "kiro-acp":
        more.append(rng.choice(["", "", "whole", "cut"]))
        # Each piece is a message that the stand-in has to write.
        size = {"whole": size, "cut": min(size, 3_000)}.get(more[0], min(size, 100_000))
    more += rng.choice([[], [], ["first"]])
    headers = {}
    if rng.random() < 0.3:
        headers["Accept"] = "text/event-stream"
    data = answer_request(agent, kind, size, " ".join(more), headers)
    reads = rng.random() < 0.9
    name = f"answer: {agent}, {kind}, {size} {' '.join([*more, *headers])}"
    return Case(name if reads else f"{name} unread", data, reads, patience=rng.uniform(0.1, 3))


def _pipeline(rng: Random) -> Case:
    """
    Return a case that sends many requests ahead.
    """
    path = rng.choice(_PAGES)
    count = _amount(rng, 2_000)
    data = request("GET", path, close=False) * (count - 1) + request("GET", path)
    reads = rng.random() < 0.3
    return Case(f"pipeline: {count} x {path}, {'read' if reads else 'unread'}", data, reads)


def _tools(rng: Random) -> Case:
    """
    Return a case that sends many messages of MCP ahead that no agent answers.
    """
    method = rng.choice(["tools/list", "server/discover", "initialize"])
    params = f"{{{_META}}}"
    headers = {**_MCP_HEADERS, "Mcp-Method": method}
    if method == "initialize":
        params, headers = '{"protocolVersion": "2025-11-25", "capabilities": {}}', {}
    body = f'{{"jsonrpc": "2.0", "id": 1, "method": "{method}", "params": {params}}}'.encode()
    count = _amount(rng, 2_000)
    data = request("POST", MCP, body, headers, close=False) * (count - 1)
    data += request("POST", MCP, body, headers)
    reads = rng.random() < 0.3
    return Case(f"tools: {count} x {method}, {'read' if reads else 'unread'}", data, reads)


def _job(rng: Random) -> Case:
    """
    Return a case with a job whose result is sent to a receiver that behaves badly.
    """
    receiver = rng.choice(RECEIVERS)
    body = json.dumps({"idea": "x" * _amount(rng, 2_000)}).encode()
    headers = {"Prefer": "respond-async", "X-Agent": "kiro-acp"}
    # The port is filled in by whoever runs the receiver.
    headers["X-Callback"] = f"http://localhost:{{port}}/{receiver}"
    return Case(f"callback: {receiver}", request("POST", STORY, body, headers))


def _reload(rng: Random) -> Case:
    """
    Return a case in which the server is told to reload many times.
    """
    count = _amount(rng, 100)
    return Case(f"reload: {count} times", request("GET", "/health"), reloads=count)


def _slow(rng: Random) -> Case:
    """
    Return a case with a client that sends a part of its request, or closes its side.
    """
    data = request("POST", STORY, b'{"idea": "x"}', {"X-Agent": "kiro-acp"})
    if rng.random() < 0.5:
        return Case("half-closed", data, half_closes=True)
    cut = rng.randrange(1, len(data))
    headers = b"".join(b"X-%d: y\r\n" % number for number in range(_amount(rng, 400)))
    start, rest = data[:cut].partition(b"\r\n")[::2]
    sent = rng.choice([data[:cut], start + b"\r\n" + headers + rest])
    return Case("unfinished", sent, reads=False, patience=rng.uniform(0.1, 1))


def _page(rng: Random) -> Case:
    """
    Return a case that asks for a page.
    """
    path = rng.choice([*_PAGES, "/jobs?limit=200", "/v1/models"])
    return Case(f"page: {path}", request("GET", path))


_MAKERS: list[tuple[Callable[[Random], Case], float]] = [
    (_body, 40),
    (_schema, 25),
    (_answer, 8),
    (_pipeline, 8),
    (_tools, 4),
    (_job, 6),
    (_slow, 10),
    (_page, 6),
    (_reload, 0.2),
]
