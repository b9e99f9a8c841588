"""
Respond to messages that are answered with an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import frozen
from twisted.web.iweb import IRequest

from kiroworkers.errors import WorkError
from kiroworkers.mcp.errors import METHOD_NOT_FOUND, McpError
from kiroworkers.mcp.jsonrpc import RequestId, error_response
from kiroworkers.web.errors import HttpError, error_json, respond, with_request_id
from kiroworkers.web.mcp.errors import json_rpc_error
from kiroworkers.web.recorded_request import record_of

#: The status of an error of the protocol, and of a method that the server does not have.
_REFUSED, _NO_METHOD = 400, 404


@frozen
class ErrorResponse:
    """
    Hold the response to a request that failed.

    Attributes:
        status: The HTTP status, unless the response is an event.
        message: The error of JSON-RPC.
        headers: Further headers.
    """

    status: int
    message: Mapping[str, Any]
    headers: Mapping[str, str]

    def send(self, request: IRequest) -> bytes:
        """
        Set the status and headers of the response to `request`, and return its body.
        """
        for name, value in self.headers.items():
            request.setHeader(name.encode(), value.encode())
        return respond(request, self.status, self.message)


def protocol_error(
    request: IRequest, id: RequestId | None, error: McpError, status: int | None = None
) -> ErrorResponse:
    """
    Return the response to a message that violates the protocol, and note the failure.

    Args:
        request: The HTTP request.
        id: The id of the message, if it is known.
        error: What is wrong.
        status: The HTTP status; None for the one that the newest revision demands.
    """
    if status is None:
        status = _NO_METHOD if error.code == METHOD_NOT_FOUND else _REFUSED
    record = record_of(request)
    record.fail(error.failure.value, error.message)
    data = with_request_id({**error.data, "code": error.failure.value}, record.id)
    return ErrorResponse(status, error_response(id, error.code, error.message, data), {})


def failure_response(
    request: IRequest, id: RequestId, error: WorkError | HttpError
) -> ErrorResponse:
    """
    Return the response to the message `id`, which failed for another reason, and note the failure.
    """
    record = record_of(request)
    status, body = error_json(error, prompted=record.prompted)
    record.fail(body["code"], body["error"])
    headers = {**error.headers} if isinstance(error, HttpError) else {}
    if "retryAfter" in body:
        headers["Retry-After"] = str(body["retryAfter"])
    message = json_rpc_error(status, with_request_id(body, record.id))
    return ErrorResponse(status, {**message, "id": id}, headers)
