"""
Parse and build the messages of JSON-RPC 2.0 that MCP uses.

A body is one message: the revisions from 2025-06-18 on have no batches.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias, TypeGuard

from attrs import Factory, frozen

from kiroworkers.mcp.errors import McpError, invalid_params, invalid_request

#: The identifier of a request.  JSON-RPC also allows null and fractions; MCP does not.
RequestId: TypeAlias = str | int

_VERSION = "2.0"


@frozen
class Request:
    """
    Represent a request, which gets a response.

    Attributes:
        id: The identifier, to be repeated in the response.
        method: The name of the method.
        params: The parameters; empty if there are none.
    """

    id: RequestId
    method: str
    params: Mapping[str, Any] = Factory(dict)


@frozen
class Notification:
    """
    Represent a notification, which gets no response.

    Attributes:
        method: The name of the method.
        params: The parameters; empty if there are none.
    """

    method: str
    params: Mapping[str, Any] = Factory(dict)


@frozen
class InvalidMessage(Exception):
    """
    Raised when a body is not a message that a server may be sent.

    Attributes:
        id: The identifier of the request, if it has a valid one.
        error: What to respond.
    """

    id: RequestId | None
    error: McpError

    def __str__(self) -> str:
        return str(self.error)


def parse_message(body: Any) -> Request | Notification:
    """
    Return the message in `body`, which is parsed JSON.

    Raises:
        InvalidMessage: There is none.
    """
    if isinstance(body, list):
        raise InvalidMessage(None, invalid_request("Send one message at a time, not a batch"))
    if not isinstance(body, dict):
        raise InvalidMessage(None, invalid_request("The body must be a JSON-RPC message"))
    id = body.get("id")
    known_id = id if is_request_id(id) else None
    if body.get("jsonrpc") != _VERSION:
        raise InvalidMessage(known_id, invalid_request('jsonrpc must be "2.0"'))
    if "method" not in body and ("result" in body or "error" in body):
        raise InvalidMessage(None, invalid_request("This server sends no requests to respond to"))
    method = body.get("method")
    if not isinstance(method, str):
        raise InvalidMessage(known_id, invalid_request("method must be a string"))
    if "id" in body and known_id is None:
        raise InvalidMessage(None, invalid_request("id must be a string or a whole number"))
    params = body.get("params")
    if params is None:
        params = {}
    if not isinstance(params, dict):
        raise InvalidMessage(known_id, invalid_params("params", "params must be an object"))
    if known_id is None:
        return Notification(method, params)
    return Request(known_id, method, params)


def is_request_id(value: Any) -> TypeGuard[RequestId]:
    """
    Return whether `value` can be the identifier of a request.
    """
    # True is an int for Python.
    return isinstance(value, (str, int)) and not isinstance(value, bool)


def response(id: RequestId, result: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return the response to the request `id` with its `result`.
    """
    return {"jsonrpc": _VERSION, "id": id, "result": result}


def error_response(
    id: RequestId | None, code: int, message: str, data: Mapping[str, Any]
) -> dict[str, Any]:
    """
    Return the response to the request `id` with an error; the id is None if it is not known.
    """
    error = {"code": code, "message": message, "data": data}
    return {"jsonrpc": _VERSION, "id": id, "error": error}


def notification(method: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return a notification.
    """
    return {"jsonrpc": _VERSION, "method": method, "params": params}
