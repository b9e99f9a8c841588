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
_BUDGET_FACTOR = 10
_MIN_BUDGET = 1_000_000
#: What a failed attempt costs besides the characters it reads.
_ATTEMPT_COST = 100
#: The first window, and the longest token that its end can cut in two (characters).
_WINDOW = 2048
_MAX_TOKEN = 16

#: Where an object may begin.
OPENING = re.compile(r'\{\s*["}]')

_DECODER = StrictDecoder()


class TooManyFalseStarts(Exception):
    """
    Raised when too much of a text begins like an object without being one.
    """


class ReadBudget:
    """
    Limit the characters that are read in failed attempts to find objects in `text`.

    So the cost of a search is proportional to the length of the text.
    """

    def __init__(self, text: str) -> None:
        self._left = _BUDGET_FACTOR * len(text) + _MIN_BUDGET

    def spend(self, characters: int) -> None:
        """
        Count a failed attempt that has read this many `characters`.

        Raises:
            TooManyFalseStarts: The limit is exceeded.
        """
        self._left -= _ATTEMPT_COST + characters
        if self._left < 0:
            raise TooManyFalseStarts


def objects(text: str) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """
    Yield every outermost JSON object in `text`, in order of appearance.

    Yields:
        The object's offset in `text`, its text, and its value.

    Raises:
        TooManyFalseStarts: The search was given up.
    """
    budget = ReadBudget(text)
    opening = OPENING.search(text)
    while opening is not None:
        start = opening.start()
        value, length = object_at(text, start)
        if value is None:
            budget.spend(length)
            opening = OPENING.search(text, start + 1)
        else:
            yield start, text[start : start + length], value
            opening = OPENING.search(text, start + length)


def object_at(text: str, start: int) -> tuple[dict[str, Any] | None, int]:
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
    value, length = object_at(text, 0)
    return value if length == len(text) else None
