"""
Choose the format of an error by the path of its request, and by the API of its client.

Everything in the server makes errors as ``{"error": "one sentence", "code": "machine_word", …}``.
The clients of other APIs expect the formats of these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from attrs import frozen
from twisted.web.iweb import IRequest

from kiroworkers.web.chat.anthropic_version import names_version
from kiroworkers.web.chat.errors import openai_error, openai_headers
from kiroworkers.web.chat.message_errors import anthropic_error, anthropic_headers
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


_OPENAI = ErrorFormat("openai", openai_error, openai_headers, "OpenAIError")
_ANTHROPIC = ErrorFormat("anthropic", anthropic_error, anthropic_headers, "AnthropicError")
#: OpenAI's format, except for clients of Anthropic's API; see `error_format_of`.
_EITHER = ErrorFormat("either", openai_error, openai_headers, "AnyError")

#: The format of this server, and the formats of paths and of all below them: the first that fits.
OWN_FORMAT = ErrorFormat()
FORMATS: Mapping[str, ErrorFormat] = {
    "/v1/messages": _ANTHROPIC,
    "/v1/models": _EITHER,
    "/v1": _OPENAI,
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


def error_format_of(request: IRequest) -> ErrorFormat:
    """
    Return the format of the errors of `request`.

    OpenAI's and Anthropic's APIs have paths in common, such as that of the models.
    """
    found = error_format(request.path.decode("latin-1"))
    return _ANTHROPIC if found in (_OPENAI, _EITHER) and names_version(request) else found
