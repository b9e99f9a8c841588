"""
Read and write JSON-RPC 2.0 messages, one JSON object per line.

An agent may print anything between its messages, such as a log or a banner.  A line
that is not a message is returned as `Garbage`, and a line that is too long is not kept.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, TypeAlias

from attrs import frozen

from kiroworkers.strict_json import read_integer

#: The error code for an unknown method; JSON-RPC 2.0, section 5.1.
METHOD_NOT_FOUND = -32601

#: The number of bytes that are kept of a line that is too long.
_KEPT_OF_LONG_LINE = 200

#: A line of at most this many bytes has so few values that they need not be counted.
_MAX_UNCOUNTED = 64 * 1024

#: The maximum number of JSON values in a line: text of any length is read in no time, but
#: each value takes a fraction of a microsecond.
MAX_VALUES = 50_000

_BLANK = re.compile(rb"\s*+")
_OBJECT = re.compile(rb"\s*+\{")

#: Each value except the outermost follows one of these characters.
_SEPARATORS = (b",", b"[", b"{")

#: A string, or the beginning of one that goes on after the end of the data.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(")?', re.DOTALL)


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
        too_long: Whether the line was longer, or had more values, than the reader allows.
    """

    start: bytes
    too_long: bool = False


Message: TypeAlias = Request | Notification | Response | Garbage


_DECODER = json.JSONDecoder(parse_int=read_integer)


class Reader:
    """
    Split a stream of bytes into messages.

    Args:
        limit: The maximum length of a line, in bytes.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._skipping = False
        self._begin_line()

    def feed(self, data: bytes) -> list[tuple[Message, int]]:
        """
        Return the messages that end in `data`, each with the size of its line in bytes.

        The data may be cut at any byte.
        """
        messages: list[tuple[Message, int]] = []
        *line_ends, rest = data.split(b"\n")
        for line_end in line_ends:
            if self._append(line_end):
                messages += self._message()
            elif not self._skipping:
                messages.append(self._too_long())
            self._skipping = False
            self._begin_line()
        if not self._append(rest) and not self._skipping:
            messages.append(self._too_long())
            self._skipping = True
        return messages

    def _begin_line(self) -> None:
        self._line = bytearray()
        self._length = 0
        self._values = _ValueCounter()

    def _append(self, part: bytes) -> bool:
        """
        Append `part` to the current line; return False if the line is too long for it.
        """
        self._length += len(part)
        if self._skipping or self._length > self._limit:
            return False
        if self._values.too_many():
            return True
        self._line += part
        if self._length > _MAX_UNCOUNTED:
            counted = self._length - len(part) > _MAX_UNCOUNTED
            self._values.feed(part if counted else self._line)
            if self._values.too_many():
                del self._line[_KEPT_OF_LONG_LINE:]
        return True

    def _message(self) -> list[tuple[Message, int]]:
        """
        Return the message of the current line, which is complete; nothing for a blank line.
        """
        size = self._length + 1
        if self._values.too_many():
            return [(Garbage(bytes(self._line), too_long=True), size)]
        if _BLANK.fullmatch(self._line):
            return []
        return [(read_message(self._line), size)]

    def _too_long(self) -> tuple[Message, int]:
        return Garbage(bytes(self._line[:_KEPT_OF_LONG_LINE]), too_long=True), self._limit


class _ValueCounter:
    """
    Count the values in JSON that arrives in parts.
    """

    def __init__(self) -> None:
        self._count = 0
        # The beginning of what the next part continues: of a string, or of an escape in it.
        self._unread = b""

    def feed(self, part: bytes | bytearray) -> None:
        """
        Count the values that begin in `part`, which may be cut at any byte.
        """
        data = self._unread + part
        # A backslash and what it escapes are read together.
        escape = b"\\" * ((len(data) - len(data.rstrip(b"\\"))) % 2)
        data = data.removesuffix(escape)
        position, in_string = 0, False
        for string in _STRING.finditer(data):
            self._add(data[position : string.start()])
            position, in_string = string.end(), string[1] is None
        self._add(data[position:])
        self._unread = b'"' * in_string + escape

    def too_many(self) -> bool:
        """
        Return whether there are more values than a message may have.
        """
        return self._count > MAX_VALUES

    def _add(self, data: bytes) -> None:
        self._count += sum(map(data.count, _SEPARATORS))


def read_message(line: bytes | bytearray) -> Message:
    """
    Return the message in `line`, or `Garbage` if it holds none.
    """
    if not _OBJECT.match(line):
        return Garbage(bytes(line))
    try:
        data = _DECODER.decode(line.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError):
        return Garbage(bytes(line))
    match data:
        case {"method": str(method), "id": int() | str() as id} if not isinstance(id, bool):
            return Request(id, method, _object(data.get("params")))
        case {"method": str(method)} if "id" not in data:
            return Notification(method, _object(data.get("params")))
        case {"id": int() | str() | None as id, "error": error} if (
            # Some write it as null beside a result.
            error is not None and not isinstance(id, bool)
        ):
            return Response(id, {}, error if isinstance(error, dict) else {"message": error})
        case {"id": int() | str() as id} if "method" not in data and not isinstance(id, bool):
            # Even without a result it is the only response that this request will get.
            return Response(id, _object(data.get("result")))
    return Garbage(bytes(line))


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
