"""
Read and write JSON-RPC 2.0 messages, one JSON object per line.

An agent may print anything between its messages, such as a log or a banner.  A line
that is not a message is returned as `Garbage`, and a line that is too long is not kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeAlias

from attrs import frozen

#: The error code for an unknown method; JSON-RPC 2.0, section 5.1.
METHOD_NOT_FOUND = -32601

#: The number of bytes that are kept of a line that is too long.
_KEPT_OF_LONG_LINE = 200


@frozen
class Request:
    """
    Represent a request from the other side, which waits for a response to `id`.
    """

    id: int | str
    method: str
    params: Mapping[str, Any]


@frozen
class Notification:
    """
    Represent a message from the other side that expects no response.
    """

    method: str
    params: Mapping[str, Any]


@frozen
class Response:
    """
    Represent the other side's response to one of our requests.

    Attributes:
        id: The request's id, or None if the other side could not even read the request.
        result: The result; empty if there is an error.
        error: The error object, or None if the request succeeded.
    """

    id: int | str | None
    result: Mapping[str, Any]
    error: Mapping[str, Any] | None = None


@frozen
class Garbage:
    """
    Represent a line that is not a message.

    Attributes:
        start: The line, or its first bytes if it was too long.
        too_long: Whether the line was longer than the reader's limit.
    """

    start: bytes
    too_long: bool = False


Message: TypeAlias = Request | Notification | Response | Garbage


class Reader:
    """
    Split a stream of bytes into messages.

    Args:
        limit: The maximum length of a line, in bytes.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._line = bytearray()
        self._skipping = False

    def feed(self, data: bytes) -> list[tuple[Message, int]]:
        """
        Return the messages that end in `data`, each with the size of its line in bytes.

        The data may be cut at any byte.
        """
        messages: list[tuple[Message, int]] = []
        *line_ends, rest = data.split(b"\n")
        for line_end in line_ends:
            if self._append(line_end):
                line = bytes(self._line)
                if line.strip():
                    messages.append((read_message(line), len(line) + 1))
            elif not self._skipping:
                messages.append(self._too_long())
            self._line.clear()
            self._skipping = False
        if not self._append(rest) and not self._skipping:
            messages.append(self._too_long())
            self._line.clear()
            self._skipping = True
        return messages

    def _append(self, part: bytes) -> bool:
        """
        Append `part` to the current line; return False if the line is too long for it.
        """
        if self._skipping or len(self._line) + len(part) > self._limit:
            return False
        self._line += part
        return True

    def _too_long(self) -> tuple[Message, int]:
        return Garbage(bytes(self._line[:_KEPT_OF_LONG_LINE]), too_long=True), self._limit


def read_message(line: bytes) -> Message:
    """
    Return the message in `line`, or `Garbage` if it holds none.
    """
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        return Garbage(line)
    match data:
        case {"method": str(method), "id": int() | str() as id} if not isinstance(id, bool):
            return Request(id, method, _object(data.get("params")))
        case {"method": str(method)} if "id" not in data:
            return Notification(method, _object(data.get("params")))
        case {"id": int() | str() | None as id, "error": error} if not isinstance(id, bool):
            return Response(id, {}, error if isinstance(error, dict) else {"message": error})
        case {"id": int() | str() as id} if "method" not in data and not isinstance(id, bool):
            # Even without a result it is the only response that this request will get.
            return Response(id, _object(data.get("result")))
    return Garbage(line)


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def request(id: int, method: str, params: Mapping[str, Any]) -> bytes:
    """
    Return the line that sends a request.
    """
    return _line({"id": id, "method": method, "params": params})


def notification(method: str, params: Mapping[str, Any]) -> bytes:
    """
    Return the line that sends a notification.
    """
    return _line({"method": method, "params": params})


def result(id: int | str, value: Mapping[str, Any]) -> bytes:
    """
    Return the line that answers the request `id` with a result.
    """
    return _line({"id": id, "result": value})


def error(id: int | str, code: int, message: str) -> bytes:
    """
    Return the line that answers the request `id` with an error.
    """
    return _line({"id": id, "error": {"code": code, "message": message}})


def _line(message: Mapping[str, Any]) -> bytes:
    return json.dumps({"jsonrpc": "2.0", **message}, separators=(",", ":")).encode() + b"\n"
