"""
JSON-RPC 2.0, one object a line: bytes to messages, messages to bytes.

An agent may print anything between its messages (a log, a banner): a line that
is no message is told as such, and one that never ends is not kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeAlias

from attrs import frozen

#: The error code of a request that is not known; JSON-RPC 2.0, section 5.1.
METHOD_NOT_FOUND = -32601


@frozen
class Request:
    """
    The other side asks, and waits for a response to `id`.
    """

    id: int | str
    method: str
    params: Mapping[str, Any]


@frozen
class Notification:
    """
    The other side says something.
    """

    method: str
    params: Mapping[str, Any]


@frozen
class Response:
    """
    The other side answers our request `id`, with a `result` or, where it failed,
    an `error`.  Without an id it could not even read what it answers.
    """

    id: int | str | None
    result: Mapping[str, Any]
    error: Mapping[str, Any] | None = None


@frozen
class Garbage:
    """
    A line that is no message, or the `start` of one that was too long.
    """

    start: bytes
    too_long: bool = False


Message: TypeAlias = Request | Notification | Response | Garbage


class Reader:
    """
    Reads messages; a line may have `limit` bytes.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._become_idle = bytearray()
        self._skipping = False

    def feed(self, data: bytes) -> list[tuple[Message, int]]:
        """
        The messages that end in `data`, which may be cut anywhere, each with the
        bytes of its line.
        """
        found: list[tuple[Message, int]] = []
        *ends, rest = data.split(b"\n")
        for end in ends:
            if self._add(end):
                line = bytes(self._become_idle)
                if line.strip():
                    found.append((read_message(line), len(line) + 1))
            elif not self._skipping:
                found.append(self._too_long())
            self._become_idle.clear()
            self._skipping = False
        if not self._add(rest) and not self._skipping:
            found.append(self._too_long())
            self._become_idle.clear()
            self._skipping = True
        return found

    def _add(self, piece: bytes) -> bool:
        """
        Keep `piece` of a line, if that is wanted and not too much.
        """
        if self._skipping or len(self._become_idle) + len(piece) > self._limit:
            return False
        self._become_idle += piece
        return True

    def _too_long(self) -> tuple[Message, int]:
        return Garbage(bytes(self._become_idle[:200]), too_long=True), self._limit


def read_message(line: bytes) -> Message:
    """
    The message in `line`.
    """
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        return Garbage(line)
    match data:
        case {"method": str(method), "id": int() | str() as id} if not isinstance(id, bool):
            return Request(id, method, _table(data.get("params")))
        case {"method": str(method)} if "id" not in data:
            return Notification(method, _table(data.get("params")))
        case {"id": int() | str() | None as id, "error": error} if not isinstance(id, bool):
            return Response(id, {}, error if isinstance(error, dict) else {"message": error})
        case {"id": int() | str() as id} if "method" not in data and not isinstance(id, bool):
            # Whatever it is, nothing more comes to that request.
            return Response(id, _table(data.get("result")))
    return Garbage(line)


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def request(id: int, method: str, params: Mapping[str, Any]) -> bytes:
    """
    The line that asks.
    """
    return _line({"id": id, "method": method, "params": params})


def notification(method: str, params: Mapping[str, Any]) -> bytes:
    """
    The line that says something.
    """
    return _line({"method": method, "params": params})


def result(id: int | str, value: Mapping[str, Any]) -> bytes:
    """
    The line that answers the request `id`.
    """
    return _line({"id": id, "result": value})


def error(id: int | str, code: int, message: str) -> bytes:
    """
    The line that says why the request `id` has no answer.
    """
    return _line({"id": id, "error": {"code": code, "message": message}})


def _line(message: Mapping[str, Any]) -> bytes:
    return json.dumps({"jsonrpc": "2.0", **message}, separators=(",", ":")).encode() + b"\n"
