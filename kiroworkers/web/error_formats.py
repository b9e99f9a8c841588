"""
Choose the format of an error by the path of its request.

Everything in the server makes errors as ``{"error": "one sentence", "code": "machine_word", …}``.
The clients of other APIs expect the formats of these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from attrs import frozen

from kiroworkers.web.chat.errors import openai_error, openai_headers
from kiroworkers.web.mcp.errors import json_rpc_error


def _unchanged(status: int, body: Mapping[str, Any]) -> Mapping[str, Any]:
    return body


def _no_headers(status: int, body: Mapping[str, Any]) -> Mapping[str, str]:
    return {}


@frozen
class ErrorFormat:
    """
    Represent the format of errors.

    Attributes:
        name: The format's name, with which the names of OpenAPI's components begin; empty for the
            format of this server.
        convert: Returns the body of the response to a failure with this status and body.
        headers: Returns headers to add to such a response.
        schema: Name of the schema of all errors; None if each failure has its own.
    """

    name: str = ""
    convert: Callable[[int, Mapping[str, Any]], Mapping[str, Any]] = _unchanged
    headers: Callable[[int, Mapping[str, Any]], Mapping[str, str]] = _no_headers
    schema: str | None = None


#: The format of this server, and the formats of paths and of all below them: the first that fits.
OWN_FORMAT = ErrorFormat()
FORMATS: Mapping[str, ErrorFormat] = {
    "/v1": ErrorFormat("openai", openai_error, openai_headers, "OpenAIError"),
    "/mcp": ErrorFormat("json-rpc", json_rpc_error, schema="JsonRpcError"),
}


def error_format(path: str) -> ErrorFormat:
    """
    Return the format of the errors of requests for `path`.
    """
    for start, found in FORMATS.items():
        if path == start or path.startswith(start + "/"):
            return found
    return OWN_FORMAT
