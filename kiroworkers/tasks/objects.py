"""
Every JSON object in a text, whatever stands between, by a real JSON parser.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any

#: How much text may be read in vain: so many times its own length, and some.
_PATIENCE = 4
_LEAST_PATIENCE = 1_000_000
#: What one attempt costs beside the text it reads.
_ATTEMPT = 100
#: The first window, and the longest token that its end can cut in two.
_WINDOW = 2048
_TOKEN = 16

#: Where an object may begin.
OPENING = re.compile(r'\{\s*["}]')


def patience_for(text: str) -> int:
    """
    How many characters may be read while looking for objects in `text`.
    """
    return _PATIENCE * len(text) + _LEAST_PATIENCE


def objects(text: str) -> Iterator[dict[str, Any]]:
    """
    Every outermost JSON object in `text`, in order, whatever stands between.

    Text that begins like an object again and again but never is one is given
    up after work in proportion to its length.
    """
    patience = patience_for(text)
    opening = OPENING.search(text)
    while opening is not None and patience > 0:
        start = opening.start()
        value, length = _object_at(text, start)
        patience -= _ATTEMPT + length
        if value is not None:
            yield value
        opening = OPENING.search(text, start + length if value is not None else start + 1)


def _object_at(text: str, start: int) -> tuple[dict[str, Any] | None, int]:
    """
    The object that begins at `start`, or None, and how much of `text` it took
    to know.  Read through a growing window, because a parser's error costs the
    length of all it was given, and most false starts end soon.
    """
    width = _WINDOW
    while True:
        window = text[start : start + width]
        whole = start + width >= len(text)
        try:
            value, length = _DECODER.raw_decode(window)
        except json.JSONDecodeError as problem:
            cut = problem.msg.startswith("Unterminated") or problem.pos + _TOKEN > width
            if whole or not cut:
                return None, problem.pos
        except (ValueError, RecursionError):
            # A number that no float holds, or nesting that is no answer.
            return None, len(window)
        else:
            return value, length
        width *= 8


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:40]} is too large")
    return number


_DECODER = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite)


def decode(text: str) -> dict[str, Any] | None:
    """
    The object that is all of `text`; None when it is none.
    """
    value, length = _object_at(text, 0)
    return value if length == len(text) else None
