"""
JSON whose long lines a full-screen program has cut.

Between two tokens a cut is nothing: JSON allows a newline there.  Inside a number
or a word the two parts belong together, since no JSON has them side by side.
Inside a string it is not known whether a space was at the cut, so each such cut
has two readings.  All are made, and whoever knows the schema decides whether one
alone fits::

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
_IN_WORD = re.compile(r"[\w.+-]")


def regions(text: str) -> Iterator[str]:
    """
    Every outermost object in `text`, in order, as it stands there.  What only
    begins like one is left out, and what is inside of it given; but nothing is
    taken out of one that was cut.
    """
    patience = patience_for(text)
    opening = OPENING.search(text)
    while opening is not None and patience > 0:
        start = opening.start()
        end = _end_of(text, start)
        patience -= (len(text) if end is None else end) - start
        whole = False
        if end is not None:
            region = text[start:end]
            whole = cuts(region) > 0 or next(readings(region), None) is not None
            if whole:
                yield region
        opening = OPENING.search(text, end if whole and end is not None else start + 1)


def readings(region: str) -> Iterator[dict[str, Any]]:
    """
    The objects that `region` can mean; none when it is no JSON, or when it is
    cut in more than `MOST_CUTS` strings.
    """
    first, *others = _parts(region)
    if len(others) <= MOST_CUTS:
        for joints in product(("", " "), repeat=len(others)):
            rest = (joint + part for joint, part in zip(joints, others, strict=True))
            value = decode(first + "".join(rest))
            if value is not None:
                yield value


def cuts(region: str) -> int:
    """
    In how many places a string, a number or a word of `region` is cut.
    """
    found = len(_parts(region)) - 1
    end = 0
    for token in _TOKEN.finditer(region):
        found += _whole_words(region[end : token.start()])[1]
        end = token.end()
    return found


def _parts(region: str) -> list[str]:
    """
    `region`, apart at each cut inside a string, its numbers and words whole.
    """
    parts = [""]
    end = 0
    for token in _TOKEN.finditer(region):
        if token[0].startswith('"'):
            first, *others = _lines(token[0])
            parts[-1] += _whole_words(region[end : token.start()])[0] + first
            parts += others
            end = token.end()
    parts[-1] += _whole_words(region[end:])[0]
    return parts


def _lines(text: str) -> list[str]:
    """
    The lines of `text`, without blanks where they were cut.
    """
    first, *others = text.split("\n")
    if not others:
        return [text]
    *middle, last = others
    return [first.rstrip(), *filter(None, map(str.strip, middle)), last.lstrip()]


def _whole_words(text: str) -> tuple[str, int]:
    """
    `text`, in which no string is, with its numbers and words whole, and how many
    of them were cut.
    """
    first, *others = _lines(text)
    words = 0
    joined = [first]
    for line in others:
        cut = _IN_WORD.match(joined[-1][-1:]) and _IN_WORD.match(line)
        joined += ["" if cut else "\n", line]
        words += bool(cut)
    return "".join(joined), words


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
