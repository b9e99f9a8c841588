"""
Read and write recordings of terminals: the exact bytes with their times, as an asciicast.

The format is asciicast v2 (https://docs.asciinema.org/manual/asciicast/v2/): a line with
the terminal's size, then a line for each chunk, ``[seconds, "o", text]`` for output and
``"i"`` for input.  Any player of that format can show a recording.  Bytes that are not
UTF-8 are kept as lone surrogates, as Python's ``surrogateescape`` does, so reading a
recording returns exactly the bytes that were written.
"""

from __future__ import annotations

import json
from codecs import getincrementaldecoder
from collections.abc import Iterable, Iterator
from typing import Literal

from attrs import frozen

Direction = Literal["i", "o"]


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


class RecordingWriter:
    """
    Format the lines of a recording.

    Args:
        rows: The terminal's height.
        columns: The terminal's width.
        command: The command that runs on the terminal.
    """

    def __init__(self, rows: int, columns: int, command: str = "") -> None:
        self._header = {"version": 2, "width": columns, "height": rows, "command": command}
        decoder = getincrementaldecoder("utf-8")
        self._decoders = {direction: decoder("surrogateescape") for direction in ("i", "o")}

    def header(self) -> str:
        """
        Return the first line of the recording.
        """
        return json.dumps(self._header) + "\n"

    def line(self, chunk: Chunk) -> str:
        """
        Return the line of `chunk`; a character cut at its end goes to the next line.
        """
        text = self._decoders[chunk.direction].decode(chunk.data)
        return self._line(chunk.seconds, chunk.direction, text)

    def closing_lines(self, seconds: float) -> str:
        """
        Return the lines for incomplete characters that are left over at the end.
        """
        rests = ((name, decoder.decode(b"", True)) for name, decoder in self._decoders.items())
        return "".join(self._line(seconds, name, text) for name, text in rests if text)

    @staticmethod
    def _line(seconds: float, direction: str, text: str) -> str:
        return json.dumps([round(seconds, 6), direction, text]) + "\n"


def recorded_size(header: str) -> tuple[int, int] | None:
    """
    Return the rows and columns that the first line of a recording names, or None.
    """
    try:
        value = json.loads(header)
    except ValueError:
        return None
    match value:
        case {"width": int(columns), "height": int(rows)} if columns > 1 and rows > 1:
            return rows, columns
        case _:
            return None


def recorded_command(header: str) -> str:
    """
    Return the command that the first line of a recording names; empty if it names none.
    """
    try:
        value = json.loads(header)
    except ValueError:
        return ""
    match value:
        case {"command": str(command)}:
            return command
        case _:
            return ""


def read_recording(lines: Iterable[str]) -> Iterator[Chunk]:
    """
    Yield the chunks of a recording, except a last line that was cut off.

    Raises:
        BadRecording: If the lines are not an asciicast of version 2.
    """
    number = 0
    for number, line in enumerate(lines, 1):
        try:
            value = json.loads(line)
        except ValueError:
            if number > 1 and not line.endswith("\n"):
                return
            raise BadRecording(f"line {number}: not JSON") from None
        match value:
            case {"version": 2} if number == 1:
                pass
            case [int() | float() as seconds, "i" | "o" as direction, str(text)] if number > 1:
                yield Chunk(float(seconds), direction, text.encode("utf-8", "surrogateescape"))
            case [int() | float(), str(), str()] if number > 1:
                pass  # markers and resizes, which other recorders write
            case _:
                raise BadRecording(f"line {number}: not an asciicast of version 2")
    if not number:
        raise BadRecording("the recording is empty")
