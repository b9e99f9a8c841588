"""
Read and write recordings of terminals: the exact bytes with their times, as an asciicast.

The format that is written is asciicast v3 (https://docs.asciinema.org/manual/asciicast/v3/):
a line with the terminal's size, then a line for each event, ``[interval, code, text]``.  The
interval is in seconds since the previous event; the code is ``"o"`` for output, ``"i"`` for
input, ``"m"`` for a marker, and ``"x"`` for the exit status.  Recordings of version 2, whose
times count from the start, are read as well.

Bytes that are not UTF-8 cannot stand in JSON.  Players show a replacement character in their
place; a comment before the event, ``# bytes BASE64``, has the bytes of the whole event, so
reading a recording returns exactly what was written.  (Version 2 was written with lone
surrogates instead, which strict players refuse.)
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from codecs import getincrementaldecoder
from collections.abc import Iterable, Iterator
from math import isfinite
from typing import Any, Literal

from attrs import frozen

Direction = Literal["i", "o"]

_MICROSECONDS = 1_000_000

#: The comment before an event whose bytes are not UTF-8.
_BYTES = "# bytes "


class BadRecording(ValueError):
    """
    Raised when a recording cannot be read; the message says where and why.
    """


@frozen
class Chunk:
    """
    Represent bytes that were read from or written to a terminal at once.

    Attributes:
        seconds: The time since the start of the recording.
        direction: ``o`` for output of the terminal, ``i`` for input.
        data: The bytes.
    """

    seconds: float
    direction: Direction
    data: bytes


@frozen
class Marker:
    """
    Represent a remark about a moment of a recording.

    Attributes:
        seconds: The time since the start of the recording.
        label: The text, in one line.
    """

    seconds: float
    label: str


class RecordingWriter:
    """
    Format the lines of a recording.

    Args:
        rows: The terminal's height.
        columns: The terminal's width.
        command: The command that runs on the terminal; empty to leave it out.
        title: The title that players show; empty to leave it out.
        timestamp: When the recording began, in seconds since the epoch; None to leave it out.
    """

    def __init__(
        self,
        rows: int,
        columns: int,
        command: str = "",
        title: str = "",
        timestamp: float | None = None,
    ) -> None:
        facts = {
            "timestamp": None if timestamp is None else int(timestamp),
            "command": command,
            "title": title,
        }
        self._header = {
            "version": 3,
            "term": {"cols": columns, "rows": rows, "type": "xterm-256color"},
            **{name: value for name, value in facts.items() if value},
        }
        decoder = getincrementaldecoder("utf-8")
        self._decoders = {direction: decoder("surrogateescape") for direction in ("i", "o")}
        # The time of the last event, in microseconds: rounded intervals must not add up.
        self._last = 0

    def header(self) -> str:
        """
        Return the first line of the recording.
        """
        return json.dumps(self._header) + "\n"

    def line(self, chunk: Chunk) -> str:
        """
        Return the line of `chunk`; a character cut at its end goes to the next line.

        It is two lines if some bytes are not UTF-8, and none for a part of a character.
        """
        text = self._decoders[chunk.direction].decode(chunk.data)
        return self._line(chunk.seconds, chunk.direction, text) if text else ""

    def marker(self, marker: Marker) -> str:
        """
        Return the line of `marker`.
        """
        return self._line(marker.seconds, "m", marker.label)

    def exit(self, seconds: float, status: int) -> str:
        """
        Return the line that says with which status the program has ended.
        """
        return self._line(seconds, "x", str(status))

    def closing_lines(self, seconds: float) -> str:
        """
        Return the lines for incomplete characters that are left over at the end.
        """
        rests = ((name, decoder.decode(b"", True)) for name, decoder in self._decoders.items())
        return "".join(self._line(seconds, name, text) for name, text in rests if text)

    def _line(self, seconds: float, code: str, text: str) -> str:
        now = max(self._last, round(seconds * _MICROSECONDS))
        interval, self._last = (now - self._last) / _MICROSECONDS, now
        comment = ""
        try:
            text.encode()
        except UnicodeEncodeError:
            data = text.encode("utf-8", "surrogateescape")
            comment = f"{_BYTES}{b64encode(data).decode()}\n"
            text = data.decode("utf-8", "replace")
        return f"{comment}{json.dumps([interval, code, text])}\n"


def recorded_size(header: str) -> tuple[int, int] | None:
    """
    Return the rows and columns that the first line of a recording names, or None.
    """
    match _header(header):
        case {"version": 3, "term": {"cols": int(columns), "rows": int(rows)}} | {
            "width": int(columns),
            "height": int(rows),
        } if columns > 1 and rows > 1:
            return rows, columns
        case _:
            return None


def recorded_command(header: str) -> str:
    """
    Return the command that the first line of a recording names; empty if it names none.
    """
    match _header(header):
        case {"command": str(command)}:
            return command
        case _:
            return ""


def _header(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


def read_recording(lines: Iterable[str]) -> Iterator[Chunk]:
    """
    Yield the chunks of a recording, except a last line that was cut off.

    Raises:
        BadRecording: If the lines are not an asciicast of version 2 or 3.
    """
    for event in read_events(lines):
        if isinstance(event, Chunk):
            yield event


def read_events(lines: Iterable[str]) -> Iterator[Chunk | Marker]:
    """
    Yield the chunks and the markers of a recording, except a last line that was cut off.

    Raises:
        BadRecording: If the lines are not an asciicast of version 2 or 3.
    """
    number = version = now = 0
    exact: bytes | None = None
    for number, line in enumerate(lines, 1):
        if version == 3 and line.startswith("#"):
            exact = _exact_bytes(line)
            continue
        try:
            value = json.loads(line)
        except ValueError:
            if number > 1 and not line.endswith("\n"):
                return
            raise BadRecording(f"line {number}: not JSON") from None
        match value:
            case {"version": 2 | 3 as version} if number == 1:
                pass
            case [int() | float() as time, str(code), str(text)] if number > 1 and isfinite(time):
                # Integers do not drift.
                now = round(time * _MICROSECONDS) + (now if version == 3 else 0)
                seconds = now / _MICROSECONDS
                if code in ("i", "o"):
                    data = text.encode("utf-8", "surrogateescape") if exact is None else exact
                    yield Chunk(seconds, "i" if code == "i" else "o", data)
                elif code == "m":
                    yield Marker(seconds, text)
                # Others, such as a resize, are for players.
                exact = None
            case _:
                raise BadRecording(f"line {number}: not an asciicast of version 2 or 3")
    if not number:
        raise BadRecording("the recording is empty")


def _exact_bytes(comment: str) -> bytes | None:
    """
    Return the bytes that `comment` has for the event after it, or None.
    """
    if not comment.startswith(_BYTES):
        return None
    try:
        return b64decode(comment[len(_BYTES) :].strip(), validate=True)
    except ValueError:
        return None
