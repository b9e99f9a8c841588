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

from kiroworkers.tasks.objects import OPENING, decode, patience_for

#: An object with more cuts inside its strings has too many readings.
MOST_CUTS = 8

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}]', re.DOTALL)
_CUT = re.compile(r"\s*\n\s*")


def regions(text: str) -> Iterator[str]:
    """
    Every outermost object in `text`, in order, as it stands there; strings may
    run over several lines.  What is none after all is given, too, and what is
    inside of it.
    """
    patience = patience_for(text)
    opening = OPENING.search(text)
    while opening is not None and patience > 0:
        start = opening.start()
        end = _end_of(text, start)
        patience -= (end or len(text)) - start
        region = text[start:end] if end is not None else ""
        if region:
            yield region
        whole = bool(region) and any(True for _ in readings(region))
        opening = OPENING.search(text, end if whole and end is not None else start + 1)


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
    for token in _TOKEN.finditer(region):
        if token[0].startswith('"'):
            first, *others = _CUT.split(token[0])
            parts[-1] += region[end : token.start()] + first
            parts += others
            end = token.end()
    parts[-1] += region[end:]
    return parts


def _end_of(text: str, start: int) -> int | None:
    """
    Where the object that begins at `start` ends.
    """
    depth = 0
    for token in _TOKEN.finditer(text, start):
        if token[0] == "{":
            depth += 1
        elif token[0] == "}":
            depth -= 1
            if depth == 0:
                return token.end()
    return None
