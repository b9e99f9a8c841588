"""
Define the errors of the protocol: those of JSON-RPC and those of MCP.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import Factory, frozen

from kiroworkers.errors import ErrorCode, FailureCode
from kiroworkers.mcp.revisions import SUPPORTED

#: JSON-RPC 2.0, section 5.1.
PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603

#: MCP 2026-07-28: headers contradict the body, a capability of the client is missing, or the server
#: does not speak the revision.
HEADER_MISMATCH = -32020
MISSING_CAPABILITY = -32021
UNSUPPORTED_REVISION = -32022

#: A request was cancelled by its client; the Language Server Protocol has the same code.
REQUEST_CANCELLED = -32800

#: The longest text of a client that a message quotes, in characters.
_MAX_QUOTED = 100


@frozen
class McpError(Exception):
    """
    Raised when a message is answered with an error of the protocol.

    Attributes:
        code: The code of JSON-RPC or MCP.
        message: The sentence for people.
        failure: The failure's entry in the catalogue.
        data: What the error has as ``data`` besides the code of `failure`.
    """

    code: int
    message: str
    failure: FailureCode = ErrorCode.INVALID_MESSAGE
    data: Mapping[str, Any] = Factory(dict)

    def __str__(self) -> str:
        return self.message


def invalid_request(message: str) -> McpError:
    """
    Return the error for a body that is no request and no notification.
    """
    return McpError(INVALID_REQUEST, message)


def invalid_params(field: str, message: str) -> McpError:
    """
    Return the error for a request with a wrong parameter.

    Args:
        field: The path of the parameter, such as ``params.name``.
        message: The sentence, which names the parameter and says why it is wrong.
    """
    return McpError(INVALID_PARAMS, message, ErrorCode.INVALID_INPUT, {"field": field})


def method_not_found(method: str, revision: str) -> McpError:
    """
    Return the error for a method that the server does not have in `revision`.
    """
    message = f"The server has no method {quoted(method)} in revision {revision} of MCP"
    return McpError(METHOD_NOT_FOUND, message, ErrorCode.UNKNOWN_METHOD)


def header_mismatch(message: str) -> McpError:
    """
    Return the error for headers that contradict the body, or are missing.
    """
    return McpError(HEADER_MISMATCH, message)


def missing_capability(message: str, required: Mapping[str, Any]) -> McpError:
    """
    Return the error for a request whose client lacks a capability.

    Args:
        message: The sentence for people.
        required: The capabilities that the client would have to declare.
    """
    data = {"requiredCapabilities": required}
    return McpError(MISSING_CAPABILITY, message, ErrorCode.INVALID_MESSAGE, data)


def unsupported_revision(requested: str) -> McpError:
    """
    Return the error for a revision that the server does not speak.
    """
    return McpError(
        UNSUPPORTED_REVISION,
        f"Unsupported protocol version {quoted(requested)}; this server supports "
        + ", ".join(SUPPORTED),
        ErrorCode.UNSUPPORTED_REVISION,
        {"supported": [*SUPPORTED], "requested": requested[:_MAX_QUOTED]},
    )


def quoted(text: str) -> str:
    """
    Return the beginning of a client's `text`, in quotes.
    """
    return repr(text[:_MAX_QUOTED])
