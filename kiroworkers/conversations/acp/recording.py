"""
Read recordings of agents that speak a protocol: their messages with their times, as JSON lines.

The first line is an object with ``format`` and ``version``.  Each other line is an event:
``t`` is its time in seconds since the start, and ``dir`` says where it comes from: ``in`` from
the agent, ``out`` to it, ``err`` from its standard error, and ``mark`` from the server.  A
message is in ``frame``; text that is not a message, and the facts of a marker, are in ``data``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from math import isfinite
from typing import Any, Literal, TypeAlias

from attrs import frozen

from kiroworkers.conversations.terminal.recording import BadRecording

#: What the first line says.
JSONL_FORMAT, JSONL_VERSION = "kiroworkers-frames", 1

FrameDirection: TypeAlias = Literal["in", "out", "err", "mark"]


@frozen
class Frame:
    """
    Represent an event of a recording.

    Attributes:
        seconds: The time since the start of the recording.
        direction: Where it comes from.
        message: The message; None if it is none.
        data: Text that is not a message, or the facts of a marker.
    """

    seconds: float
    direction: FrameDirection
    message: Any = None
    data: Any = None


def read_frames(lines: Iterable[str]) -> Iterator[Frame]:
    """
    Yield the events of a recording, except a last line that was cut off.

    Raises:
        BadRecording: If the lines are not such a recording.
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
            case {"format": str(name), "version": version} if number == 1 and (
                (name, version) == (JSONL_FORMAT, JSONL_VERSION)
            ):
                pass
            case {
                "t": int() | float() as seconds,
                "dir": "in" | "out" | "err" | "mark" as direction,
            } if number > 1 and isfinite(seconds):
                yield Frame(float(seconds), direction, value.get("frame"), value.get("data"))
            case _:
                raise BadRecording(
                    f"line {number}: not a recording of the format {JSONL_FORMAT}, "
                    f"version {JSONL_VERSION}"
                )
    if not number:
        raise BadRecording("the recording is empty")
