"""
Check the headers of a request of the stateless revision, which repeat parts of its body.

Proxies route by the headers, and the server acts on the body: if they differ, somebody is misled.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from typing import Any

from kiroworkers.mcp.errors import header_mismatch, quoted
from kiroworkers.mcp.jsonrpc import Request

PROTOCOL_VERSION = "MCP-Protocol-Version"
METHOD = "Mcp-Method"
NAME = "Mcp-Name"

#: The parameter that the header `NAME` repeats, by method.
_NAMED = {
    "tools/call": "name",
    "prompts/get": "name",
    "resources/read": "uri",
    "tasks/get": "taskId",
    "tasks/update": "taskId",
    "tasks/cancel": "taskId",
}

#: A value that a header cannot have as it is.
_ENCODED = re.compile(r"=\?base64\?(.*)\?=", re.DOTALL)

#: The values of a header of a request, by the header's name.
Headers = Mapping[str, Sequence[str]]


def check_headers(message: Request, revision: Any, headers: Headers) -> None:
    """
    Check that `headers` have what `message` has.

    Args:
        message: The request.
        revision: The revision that it declares.
        headers: The values of each of the three headers; none if it is missing.

    Raises:
        McpError: A header is missing, repeated or different.
    """
    _compare(PROTOCOL_VERSION, _single(PROTOCOL_VERSION, headers), revision)
    _compare(METHOD, _single(METHOD, headers), message.method)
    parameter = _NAMED.get(message.method)
    # The method says what is wrong with a parameter that is missing.
    if parameter is not None and isinstance(message.params.get(parameter), str):
        _compare(NAME, decode(_single(NAME, headers)), message.params[parameter])


def single_or_none(name: str, headers: Headers) -> str | None:
    """
    Return the value of the header `name`, or None if there is none.

    Raises:
        McpError: There are several.
    """
    values = headers.get(name, ())
    if len(values) > 1:
        raise header_mismatch(f"Send the header {name} only once")
    return values[0].strip() if values else None


def decode(value: str) -> str:
    """
    Return the text that the header's `value` stands for.

    Raises:
        McpError: It says that it is encoded, and it is not.
    """
    match = _ENCODED.fullmatch(value)
    if match is None:
        return value
    try:
        return base64.b64decode(match[1], validate=True).decode("utf-8")
    except ValueError:
        raise header_mismatch(f"The value of {NAME} is not UTF-8 in base64") from None


def _single(name: str, headers: Headers) -> str:
    value = single_or_none(name, headers)
    if value is None:
        raise header_mismatch(f"Send the header {name}")
    return value


def _compare(name: str, value: str, expected: Any) -> None:
    if value != expected:
        raise header_mismatch(f"The header {name} has {quoted(value)}, which the body contradicts")
