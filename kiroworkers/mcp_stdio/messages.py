"""
Read and write the messages of JSON-RPC that pass between a client and a server.

To forward a message, only its kind, its identifier and its method are read.
Its bytes stay as they are, so numbers, the order of members and unknown ones pass unchanged.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeAlias

from attrs import frozen

from kiroworkers.strict_json import StrictDecoder

#: The codes of JSON-RPC's errors, and the first of those that an implementation may choose.
PARSE_ERROR = -32700
INVALID_REQUEST = -32600
SERVER_ERROR = -32000

#: The identifier of a request.
Id: TypeAlias = str | int | float

#: The method with which either side gives a request up.
CANCELLED = "notifications/cancelled"

_DECODER = StrictDecoder()
_SPACES = bytes.maketrans(b"\r\n", b"  ")


class InvalidMessage(ValueError):
    """
    Raised when a line is no message; the text says why.

    Attributes:
        code: The code of JSON-RPC's error.
        id: The identifier of the request, if it could be read.
    """

    def __init__(self, code: int, sentence: str, id: Id | None = None) -> None:
        super().__init__(sentence)
        self.code = code
        self.id = id


@frozen
class Message:
    """
    Hold a message.

    Attributes:
        body: Its JSON, on one line.
        value: The object that it stands for.
    """

    body: bytes
    value: Mapping[str, Any]

    @property
    def method(self) -> str | None:
        """
        Return the method of a request or of a notification; None for a response.
        """
        return self.value.get("method")

    @property
    def id(self) -> Id | None:
        """
        Return the identifier of a request or of a response.

        It is None for a notification, and for the error of a request whose identifier could not
        be read.
        """
        return self.value.get("id")

    @property
    def is_request(self) -> bool:
        """
        Return whether the message is to be answered.
        """
        return "method" in self.value and "id" in self.value

    @property
    def is_response(self) -> bool:
        """
        Return whether the message answers a request.
        """
        return "method" not in self.value

    @property
    def params(self) -> Mapping[str, Any]:
        """
        Return the parameters of a request or of a notification; empty unless they are an object.
        """
        return self._object("params")

    @property
    def result(self) -> Mapping[str, Any]:
        """
        Return the result of a response; empty unless it is an object.
        """
        return self._object("result")

    @property
    def error(self) -> Mapping[str, Any]:
        """
        Return the error of a response; empty if it has none.
        """
        return self._object("error")

    @property
    def version(self) -> str | None:
        """
        Return the revision that the message itself names; None before 2026-07-28.
        """
        match self.params.get("_meta"):
            case {"io.modelcontextprotocol/protocolVersion": str(version)}:
                return version
        return None

    @property
    def cancelled_id(self) -> Id | None:
        """
        Return the identifier of the request that the message gives up, if it does.
        """
        id = self.params.get("requestId") if self.method == CANCELLED else None
        return id if _is_id(id) else None

    def _object(self, name: str) -> Mapping[str, Any]:
        value = self.value.get(name)
        return value if isinstance(value, dict) else {}


def read_message(line: bytes) -> Message:
    """
    Return the message in `line`.

    Raises:
        InvalidMessage: If it holds none.
    """
    try:
        # JSON's own reader would guess another encoding.
        value = _DECODER.decode(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise InvalidMessage(PARSE_ERROR, f"the message is not UTF-8: {error.reason}") from None
    except RecursionError:
        raise InvalidMessage(PARSE_ERROR, "the message is nested too deeply") from None
    except ValueError as error:
        raise InvalidMessage(PARSE_ERROR, f"the message is not JSON: {error}") from None
    if isinstance(value, list):
        raise InvalidMessage(INVALID_REQUEST, "batches are not supported: send one message a line")
    if not isinstance(value, dict) or value.get("jsonrpc") != "2.0":
        raise InvalidMessage(INVALID_REQUEST, "the message is not an object with jsonrpc 2.0")
    id = value.get("id")
    known_id = id if _is_id(id) else None
    if "method" in value:
        if not isinstance(value["method"], str):
            raise InvalidMessage(INVALID_REQUEST, "method must be a string", known_id)
        if "id" in value and known_id is None:
            raise InvalidMessage(INVALID_REQUEST, "id must be a string or a number")
    elif ("result" in value) == ("error" in value):
        sentence = "the message has neither a method nor one of result and error"
        raise InvalidMessage(INVALID_REQUEST, sentence, known_id)
    elif known_id is None and id is not None:
        raise InvalidMessage(INVALID_REQUEST, "id must be a string or a number")
    return Message(_on_one_line(line), value)


def write_error(
    id: Id | None, code: int, sentence: str, data: Mapping[str, Any] | None = None
) -> bytes:
    """
    Return an error as the response to the request `id`.
    """
    error: dict[str, Any] = {"code": code, "message": sentence}
    if data:
        error["data"] = data
    return _write({"jsonrpc": "2.0", "id": id, "error": error})


def write_cancelled(id: Id, reason: str) -> bytes:
    """
    Return the notification that ends a stream which the request `id` has opened.
    """
    params = {"requestId": id, "reason": reason}
    return _write({"jsonrpc": "2.0", "method": CANCELLED, "params": params})


def with_id(response: Message, id: Id) -> bytes:
    """
    Return the body of `response`, as the response to the request `id`.
    """
    if response.id == id and type(response.id) is type(id):
        return response.body
    return _write({**response.value, "id": id})


def _write(value: Mapping[str, Any]) -> bytes:
    # Escapes what is not ASCII, and so surrogates, which UTF-8 does not allow.
    return json.dumps(value, separators=(",", ":")).encode("ascii")


def _on_one_line(body: bytes) -> bytes:
    """
    Return valid JSON without the ends of lines, which can only be between its tokens.
    """
    return body.translate(_SPACES).strip()


def _is_id(value: Any) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)
