"""
Write the events and the pieces of a streamed answer.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

from kiroworkers.model_server.content import Json
from kiroworkers.model_server.reply import ModelReply

#: The number of characters in a piece of a text, and the most pieces that a text is cut into.
_PIECE = 40
_MAX_PIECES = 500


class Writer(ABC):
    """
    Write one answer in a protocol.

    Args:
        model: The name of the model.
        number: The number of the answer; ids of answers and of calls are made from it.
    """

    def __init__(self, model: str, number: int) -> None:
        self._model = model
        self._number = number

    @abstractmethod
    def stream(self, reply: ModelReply) -> Iterator[bytes]:
        """
        Yield the events of a stream; those after the text are left out of an endless answer.
        """

    @abstractmethod
    def body(self, reply: ModelReply) -> Json:
        """
        Return the body of a response that is not a stream.
        """


def to_json(data: Any) -> bytes:
    """
    Return `data` as JSON in UTF-8.

    The services do not escape what is not ASCII.  Half a surrogate pair, which an agent may
    have sent escaped, cannot be written in any other way.
    """
    try:
        return json.dumps(data, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return json.dumps(data).encode()


def event(data: Any, name: str = "") -> bytes:
    """
    Return one server-sent event.
    """
    line = f"event: {name}\n".encode() if name else b""
    return b"%bdata: %b\n\n" % (line, to_json(data))


def pieces(text: str) -> Iterator[str]:
    """
    Yield `text` in pieces, cut between code points.
    """
    size = max(_PIECE, -(-len(text) // _MAX_PIECES))
    for start in range(0, len(text), size):
        yield text[start : start + size]
