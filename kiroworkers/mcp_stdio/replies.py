"""
Read the response to an HTTP request that sent a message of MCP.
"""

from __future__ import annotations

from kiroworkers.mcp_stdio.messages import (
    SERVER_ERROR,
    Id,
    InvalidMessage,
    Message,
    read_message,
    with_id,
    write_error,
)

#: JSON-RPC's code for a method that the server does not have.  Its status is 404, too.
_METHOD_NOT_FOUND = -32601

#: How many characters of a body are shown that is not JSON-RPC.
_SHOWN = 200


def read_error(body: bytes) -> Message | None:
    """
    Return the error of JSON-RPC in the body of a response; None if it is something else.
    """
    try:
        message = read_message(body)
    except InvalidMessage:
        return None
    return message if message.is_response and message.error else None


def answers_message(body: bytes) -> bool:
    """
    Return whether an error is about the message, and not about the HTTP request that sent it.

    The server has read the identifier of the message then.
    """
    error = read_error(body)
    return error is not None and error.id is not None


def is_session_lost(status: int, body: bytes) -> bool:
    """
    Return whether the response to a request of a session says that there is no such session.
    """
    error = read_error(body)
    return status == 404 and (error is None or error.error.get("code") != _METHOD_NOT_FOUND)


def failure_reply(id: Id, url: str, status: int, body: bytes, hint: str = "") -> bytes:
    """
    Return the error with which the request `id` ends, for a response that is no success.

    Args:
        id: The identifier of the request.
        url: The address that it was sent to.
        status: The status of the response.
        body: Its body.  The server's own error of JSON-RPC is passed on.
        hint: What to do, to be added to the error's message.
    """
    error = read_error(body)
    if error is not None and not hint:
        return with_id(error, id)
    if error is not None:
        code, data = error.error.get("code", SERVER_ERROR), error.error.get("data")
        return write_error(id, code, f"{error.error.get('message')} {hint}", data)
    text = " ".join(body.decode("utf-8", "replace").split())
    shown = f": {text[:_SHOWN]}" if text else ""
    return write_error(
        id, SERVER_ERROR, f"{url} answered {status}{shown} {hint}".rstrip(), {"status": status}
    )
