r"""
Rejoin JSON whose long lines a full-screen program has cut.

Between two tokens a cut does no harm: JSON allows a newline there.  Inside a number
or a word the two parts belong together, since JSON never has them side by side.
Inside a string nothing tells whether a space was lost at the cut, so each such cut
has two readings.  All are produced, and the caller, who knows the schema, decides
whether exactly one fits::

    >>> [reading["a"] for reading in readings('{"a": "one\n  two"}')]
    ['onetwo', 'one two']
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product
from typing import Any

from kiroworkers.tasks.objects import OPENING, decode, read_budget

#: The maximum number of cuts inside strings that are tried: each doubles the number of readings.
MAX_CUTS = 8

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}]', re.DOTALL)
_WORD_CHARACTER = re.compile(r"[\w.+-]")


def regions(text: str) -> Iterator[str]:
    """
    Yield the text of every outermost object in `text`, in order of appearance.

    Text that only begins like an object is skipped and its inside searched, but
    nothing is extracted from the inside of an object that was cut.
    """
    budget = read_budget(text)
    opening = OPENING.search(text)
    while opening is not None and budget > 0:
        start = opening.start()
        end = _object_end(text, start)
        budget -= (len(text) if end is None else end) - start
        whole = False
        if end is not None:
            region = text[start:end]
            whole = cuts(region) > 0 or next(readings(region), None) is not None
            if whole:
                yield region
        opening = OPENING.search(text, end if whole and end is not None else start + 1)


def readings(region: str) -> Iterator[dict[str, Any]]:
    """
    Yield the objects that `region` can stand for.

    There are none if it is not JSON, or if strings are cut in more than `MAX_CUTS`
    places.
    """
    first, *others = _parts(region)
    if len(others) <= MAX_CUTS:
        for joints in product(("", " "), repeat=len(others)):
            rest = (joint + part for joint, part in zip(joints, others, strict=True))
            value = decode(first + "".join(rest))
            if value is not None:
                yield value


def cuts(region: str) -> int:
    """
    Return in how many places a string, a number or a word of `region` is cut.
    """
    count = len(_parts(region)) - 1
    end = 0
    for token in _TOKEN.finditer(region):
        count += _join_words(region[end : token.start()])[1]
        end = token.end()
    return count


def _parts(region: str) -> list[str]:
    """
    Split `region` at each cut inside a string, with numbers and words rejoined.
    """
    parts = [""]
    end = 0
    for token in _TOKEN.finditer(region):
        if token[0].startswith('"'):
            first, *others = _trimmed_lines(token[0])
            parts[-1] += _join_words(region[end : token.start()])[0] + first
            parts += others
            end = token.end()
    parts[-1] += _join_words(region[end:])[0]
    return parts


def _trimmed_lines(text: str) -> list[str]:
    """
    Return the lines of `text`, without white space where they were cut.
    """
    first, *others = text.split("\n")
    if not others:
        return [text]
    *middle, last = others
    return [first.rstrip(), *filter(None, map(str.strip, middle)), last.lstrip()]


def _join_words(text: str) -> tuple[str, int]:
    """
    Return `text` with its numbers and words rejoined, and how many were cut.

    Args:
        text: A piece of JSON that holds no string.
    """
    first, *others = _trimmed_lines(text)
    words = 0
    joined = [first]
    for line in others:
        cut = _WORD_CHARACTER.match(joined[-1][-1:]) and _WORD_CHARACTER.match(line)
        joined += ["" if cut else "\n", line]
        words += bool(cut)
    return "".join(joined), words


def _object_end(text: str, start: int) -> int | None:
    """
    Return where the object that begins at `start` ends, or None if it is incomplete.
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
