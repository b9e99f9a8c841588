"""
JSON whose long lines a full-screen program has cut.

Between two tokens a cut is nothing: JSON allows a newline there.  Inside a string
it is not known whether a space was at the cut, so each cut has two readings.
All are made, and whoever knows the schema decides whether one alone fits::

    >>> [reading["a"] for reading in readings('{"a": "one\\n  two"}')]
    ['onetwo', 'one two']
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product
from typing import Any

from kiroworkers.tasks.objects import decode

#: An object with more cuts inside its strings has too many readings.
MOST_CUTS = 8

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_CUT = re.compile(r"\s*\n\s*")


def readings(region: str) -> Iterator[dict[str, Any]]:
    """
    The objects that `region` can mean; none when it is no JSON, or when it is
    cut in more than `MOST_CUTS` strings.
    """
    parts = _parts(region)
    if len(parts) - 1 > MOST_CUTS:
        return
    for joints in product(("", " "), repeat=len(parts) - 1):
        joined = parts[0] + "".join(
            joint + part for joint, part in zip(joints, parts[1:], strict=True)
        )
        value = decode(joined)
        if value is not None:
            yield value


def cuts(region: str) -> int:
    """
    How many cuts are inside strings.
    """
    return len(_parts(region)) - 1


def _parts(region: str) -> list[str]:
    """
    `region`, apart at each cut inside a string.
    """
    parts = [""]
    end = 0
    for string in _STRING.finditer(region):
        first, *others = _CUT.split(string[0])
        parts[-1] += region[end : string.start()] + first
        parts += others
        end = string.end()
    parts[-1] += region[end:]
    return parts
