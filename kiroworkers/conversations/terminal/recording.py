"""
Recordings of terminals: exact bytes with times, as an asciicast.

The format is asciicast v2 (https://docs.asciinema.org/manual/asciicast/v2/): a
line with the terminal's size, then a line for each piece, ``[seconds, "o",
text]`` for output and ``"i"`` for input, so any player of that format shows
one.  Bytes that are not UTF-8 are kept as lone surrogates, as Python's
``surrogateescape`` does, so reading a recording gives the very bytes again.
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
    A recording cannot be read; the message names the line and the reason.
    """


@frozen
class Piece:
    """
    Bytes that came out of a terminal (`o`) or went in (`i`), and when, in
    seconds from the recording's start.
    """

    seconds: float
    direction: Direction
    data: bytes


class Writer:
    """
    Makes the lines of a recording of a terminal of this size.
    """

    def __init__(self, rows: int, columns: int, command: str = "") -> None:
        self._header = {"version": 2, "width": columns, "height": rows, "command": command}
        decoder = getincrementaldecoder("utf-8")
        self._decoders = {each: decoder("surrogateescape") for each in ("i", "o")}

    def header(self) -> str:
        """
        The first line.
        """
        return json.dumps(self._header) + "\n"

    def line(self, piece: Piece) -> str:
        """
        The line of `piece`; a character that it ends within belongs to the next.
        """
        text = self._decoders[piece.direction].decode(piece.data)
        return json.dumps([round(piece.seconds, 6), piece.direction, text]) + "\n"

    def last_lines(self, seconds: float) -> str:
        """
        What is left of characters that never ended.
        """
        left = ((each, decoder.decode(b"", True)) for each, decoder in self._decoders.items())
        return "".join(json.dumps([round(seconds, 6), *each]) + "\n" for each in left if each[1])


def recorded_size(header: str) -> tuple[int, int] | None:
    """
    The rows and columns of the terminal that was recorded, as the first line
    says; None where it does not.
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


def read_recording(lines: Iterable[str]) -> Iterator[Piece]:
    """
    The pieces of a recording.  A last line that was cut off is left out.

    Raises:
        BadRecording: for anything that is not one.
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
                yield Piece(float(seconds), direction, text.encode("utf-8", "surrogateescape"))
            case [int() | float(), str(), str()] if number > 1:
                pass  # markers and resizes, which other recorders make
            case _:
                raise BadRecording(f"line {number}: not an asciicast of version 2")
    if not number:
        raise BadRecording("line 1: is missing")
