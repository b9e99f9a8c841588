"""
Read JSON with numbers as RFC 8259 defines them, and with a bounded number of values.

Python's own reader also accepts ``NaN`` and ``Infinity``, and turns a number that is too
large for a float into infinity.  None of these can be written as JSON again.  An integer may
have no more digits than a float.

What it costs to read, check and write JSON depends less on its length than on its number of
values: a megabyte has room for 350,000 of them.
"""

from __future__ import annotations

import json
import math
import re
from itertools import islice
from typing import Any

#: The maximum number of values in the JSON of a client or of an agent.  The names of an
#: object's members do not count.
MAX_VALUES = 20_000

#: The number of digits of the largest float, and a sign.
_MAX_DIGITS = 310

#: Each value except the outermost follows one of these characters.
_SEPARATORS = ",[{"

#: What precedes a separator outside strings, and the separator; or the rest of the text.
_NEXT_SEPARATOR = re.compile(
    r'[^"\[{,]*+(?:"[^"\\]*+(?:\\.[^"\\]*+)*+"?[^"\[{,]*+)*+(?:([\[{,])|\Z)', re.DOTALL
)


class StrictDecoder(json.JSONDecoder):
    """
    Decode JSON, and raise `ValueError` at what is no JSON number or too large for a float.
    """

    def __init__(self) -> None:
        super().__init__(
            parse_constant=_reject_constant, parse_float=_finite_float, parse_int=read_integer
        )


def has_more_values(text: str, limit: int) -> bool:
    """
    Return whether the JSON `text` has more than `limit` values.

    The text is not parsed, and need not be valid.
    """
    # Nearly every text is short or has few separators, even if those in strings are counted.
    if len(text) < limit or sum(map(text.count, _SEPARATORS)) < limit:
        return False
    separators = (match for match in _NEXT_SEPARATOR.finditer(text) if match[1])
    return sum(1 for _ in islice(separators, limit)) == limit


def read_integer(text: str) -> int:
    """
    Return the integer in `text`.

    The time to read one grows with the square of its length.

    Raises:
        ValueError: It has so many digits that it is too large for a float.
    """
    if len(text) > _MAX_DIGITS:
        raise ValueError(f"the number {text[:40]} is too large")
    return int(text)


def _reject_constant(constant: str) -> Any:
    raise ValueError(f"{constant} is not a JSON number")


def _finite_float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:40]} is too large")
    return number
