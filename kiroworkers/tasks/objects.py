"""
Find every JSON object in a text with a real JSON parser.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from kiroworkers.strict_json import StrictDecoder

#: How many characters may be read in failed attempts: a multiple of the text's
#: length, and at least this many.
_BUDGET_FACTOR = 4
_MIN_BUDGET = 1_000_000
#: What an attempt costs besides the characters it reads.
_ATTEMPT_COST = 100
#: The first window, and the longest token that its end can cut in two (characters).
_WINDOW = 2048
_MAX_TOKEN = 16

#: Where an object may begin.
OPENING = re.compile(r'\{\s*["}]')

_DECODER = StrictDecoder()


def read_budget(text: str) -> int:
    """
    Return how many characters may be read while searching `text` for objects.
    """
    return _BUDGET_FACTOR * len(text) + _MIN_BUDGET


def objects(text: str) -> Iterator[dict[str, Any]]:
    """
    Yield every outermost JSON object in `text`, in order of appearance.

    The search ends early in text that begins like an object again and again without
    being one, so its cost is proportional to the text's length.
    """
    budget = read_budget(text)
    opening = OPENING.search(text)
    while opening is not None and budget > 0:
        start = opening.start()
        value, length = _object_at(text, start)
        budget -= _ATTEMPT_COST + length
        if value is not None:
            yield value
        opening = OPENING.search(text, start + length if value is not None else start + 1)


def _object_at(text: str, start: int) -> tuple[dict[str, Any] | None, int]:
    """
    Return the object that begins at `start`, or None, and the characters read.

    The window grows step by step, because a parser error takes time proportional to the
    whole input, and most false starts end soon.
    """
    width = _WINDOW
    while True:
        window = text[start : start + width]
        whole = start + width >= len(text)
        try:
            value, length = _DECODER.raw_decode(window)
        except json.JSONDecodeError as problem:
            cut = problem.msg.startswith("Unterminated") or problem.pos + _MAX_TOKEN > width
            if whole or not cut:
                return None, problem.pos
        except (ValueError, RecursionError):
            # A number too large for a float, or nesting too deep to be an answer.
            return None, len(window)
        else:
            return value, length
        width *= 8


def decode(text: str) -> dict[str, Any] | None:
    """
    Return the JSON object that makes up the whole of `text`, or None.
    """
    value, length = _object_at(text, 0)
    return value if length == len(text) else None
