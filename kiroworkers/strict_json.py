"""
Read JSON with numbers as RFC 8259 defines them.

Python's own reader also accepts ``NaN`` and ``Infinity``, and turns a number that is too
large for a float into infinity.  None of these can be written as JSON again.
"""

from __future__ import annotations

import json
import math
from typing import Any


class StrictDecoder(json.JSONDecoder):
    """
    Decode JSON, and raise `ValueError` at what is no JSON number or too large for a float.
    """

    def __init__(self) -> None:
        super().__init__(parse_constant=_reject_constant, parse_float=_finite_float)


def _reject_constant(constant: str) -> Any:
    raise ValueError(f"{constant} is not a JSON number")


def _finite_float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:40]} is too large")
    return number
