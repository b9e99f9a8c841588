"""
Server-sent events, read as they come.

An `EventReader` is fed bytes, cut anywhere, and returns events::

    >>> EventReader().feed(b": hello\\nevent: queued\\ndata: {}\\n\\n")
    [Event(name='queued', data='{}')]

Source: WHATWG HTML, "Server-sent events", without what is for connecting again
(``id`` and ``retry``).
"""

from __future__ import annotations

import re

from attrs import frozen

_LINE_END = re.compile(rb"\r\n|\n|\r")

_BOM = b"\xef\xbb\xbf"


class EventTooLong(ValueError):
    """
    An event, or a line, is longer than the reader takes.
    """


@frozen
class Event:
    """
    What happened, and its data; lines of data are joined by newlines.
    """

    name: str
    data: str


class EventReader:
    """
    Finds the events in a stream; each may have `limit` bytes.
    """

    def __init__(self, limit: int = 16 * 1024 * 1024) -> None:
        self._limit = limit
        self._rest = bytearray()
        self._after_cr = False
        self._first = True
        self._forget()

    def feed(self, data: bytes) -> list[Event]:
        """
        The events that `data` completes.

        Raises:
            EventTooLong: for one that is larger than the limit.
        """
        if not data:
            return []
        if self._after_cr and data.startswith(b"\n"):
            data = data[1:]
        self._after_cr = data.endswith(b"\r")
        # Not what was there before: a long line comes in many pieces.
        first, *others = _LINE_END.split(data)
        self._rest += first
        lines = []
        if others:
            lines = [bytes(self._rest), *others[:-1]]
            self._rest = bytearray(others[-1])
        events = [event for event in map(self._take, lines) if event is not None]
        self._bound(len(self._rest))
        return events

    def _take(self, line: bytes) -> Event | None:
        if self._first:
            self._first = False
            line = line.removeprefix(_BOM)
        if not line:
            return self._dispatch()
        self._bound(len(line))
        name, _, value = line.decode("utf-8", "replace").partition(":")
        value = value.removeprefix(" ")
        match name:
            case "event":
                self._name = value
            case "data":
                self._data.append(value)
                self._size += len(line)
        return None

    def _dispatch(self) -> Event | None:
        event = Event(self._name or "message", "\n".join(self._data)) if self._data else None
        self._forget()
        return event

    def _forget(self) -> None:
        self._name = ""
        self._data: list[str] = []
        self._size = 0

    def _bound(self, more: int) -> None:
        if self._size + more > self._limit:
            raise EventTooLong(f"an event has more than {self._limit} bytes")
