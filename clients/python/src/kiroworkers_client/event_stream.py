r"""
Read a stream of server-sent events.

Feed an `EventReader` bytes, cut anywhere, and it returns the events that they complete::

    >>> EventReader().feed(b": hello\nevent: queued\ndata: {}\n\n")
    [ServerSentEvent(name='queued', data='{}', id='')]

Each byte is looked at once, however the stream is cut.

Source: WHATWG HTML, "Server-sent events".  The field ``retry`` is ignored.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_LINE_END = re.compile(rb"\r\n|\n|\r")

_BOM = b"\xef\xbb\xbf"


class EventTooLong(ValueError):
    """
    Raised when an event, or a single line, exceeds the reader's limit.
    """


@dataclass(frozen=True)
class ServerSentEvent:
    """
    Represent one event of a stream.

    Attributes:
        name: The type of the event; ``message`` where the stream names none.
        data: Its data, lines joined by newlines.
        id: The last identifier in the stream so far; empty for none.
    """

    name: str
    data: str
    id: str = ""


class EventReader:
    """
    Find the events in a stream.

    Args:
        limit: The maximum size of an event, in bytes.
    """

    def __init__(self, limit: int = 32 * 1024 * 1024) -> None:
        self._limit = limit
        self._partial_line = bytearray()
        self._after_cr = False
        self._at_start = True
        self._id = ""
        self._reset()

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        """
        Return the events that `data` completes.

        Raises:
            EventTooLong: If an event is longer than the limit.
        """
        if not data:
            return []
        if self._after_cr and data.startswith(b"\n"):
            data = data[1:]
        self._after_cr = data.endswith(b"\r")
        # Only the new data is searched: a long line may come in very many pieces.
        first, *others = _LINE_END.split(data)
        self._partial_line += first
        lines: list[bytes] = []
        if others:
            lines = [bytes(self._partial_line), *others[:-1]]
            self._partial_line = bytearray(others[-1])
        events = [event for event in map(self._read_line, lines) if event is not None]
        self._check_size(len(self._partial_line))
        return events

    def _read_line(self, line: bytes) -> ServerSentEvent | None:
        if self._at_start:
            self._at_start = False
            line = line.removeprefix(_BOM)
        if not line:
            return self._dispatch()
        self._check_size(len(line))
        name, _, value = line.decode("utf-8", "replace").partition(":")
        value = value.removeprefix(" ")
        match name:
            case "event":
                self._name = value
            case "data":
                self._data.append(value)
                self._size += len(line)
            case "id" if "\0" not in value:
                self._id = value
        return None

    def _dispatch(self) -> ServerSentEvent | None:
        event = None
        if self._data:
            event = ServerSentEvent(self._name or "message", "\n".join(self._data), self._id)
        self._reset()
        return event

    def _reset(self) -> None:
        self._name = ""
        self._data: list[str] = []
        self._size = 0

    def _check_size(self, more: int) -> None:
        if self._size + more > self._limit:
            raise EventTooLong(f"an event has more than {self._limit} bytes")
