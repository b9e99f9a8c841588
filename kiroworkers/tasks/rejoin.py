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

from kiroworkers.tasks.objects import OPENING, ReadBudget, decode, object_at

#: The maximum number of cuts inside strings that are tried: each doubles the number of readings.
MAX_CUTS = 8
#: The maximum length of all readings of one object together, in characters.
_MAX_LENGTH = 16_000_000

#: A string, or the rest of a text in which a string does not end.  The text of a string is
#: never given back, so that none is read twice.
_STRING = r'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|(\\?\Z))'
_STRINGS = re.compile(_STRING, re.DOTALL)
_TOKENS = re.compile(rf"{_STRING}|[{{}}]", re.DOTALL)
_BRACES = re.compile("[{}]")
_WORD_CHARACTER = re.compile(r"[\w.+-]")


def regions(text: str) -> Iterator[tuple[int, str, dict[str, Any] | None]]:
    """
    Yield every outermost object in `text`, in order of appearance.

    Text that only begins like an object is skipped and its inside searched, but
    nothing is extracted from the inside of an object that was cut.

    Yields:
        The object's offset in `text`, its text, and its value; None for an object that
        was cut.

    Raises:
        TooManyFalseStarts: The search was given up.
    """
    budget = ReadBudget(text)
    opening = OPENING.search(text)
    while opening is not None:
        start = opening.start()
        # An object that can be read as it stands is not cut.
        value, length = object_at(text, start)
        end = start + length
        if value is None:
            found, read = _end_of_cut_object(text, start)
            if found is None:
                budget.spend(length + read)
                opening = OPENING.search(text, start + 1)
                continue
            end = found
        yield start, text[start:end], value
        opening = OPENING.search(text, end)


def readings(region: str) -> Iterator[dict[str, Any]]:
    """
    Yield the objects that `region` can stand for.

    There are none if it is not JSON, if strings are cut in more than `MAX_CUTS`
    places, or if all readings together would be too long.
    """
    (first, *others), _ = _split(region)
    if len(others) <= MAX_CUTS and len(region) << len(others) <= _MAX_LENGTH:
        for joints in product(("", " "), repeat=len(others)):
            rest = (joint + part for joint, part in zip(joints, others, strict=True))
            value = decode(first + "".join(rest))
            if value is not None:
                yield value


def count_readings(text: str) -> int:
    """
    Return how many readings all objects of `text` have together.

    Raises:
        TooManyFalseStarts: The search for objects was given up.
    """
    return sum(
        1 if value is not None else 2 ** min(len(_split(region)[0]) - 1, MAX_CUTS)
        for _, region, value in regions(text)
    )


def cuts(region: str) -> int:
    """
    Return in how many places a string, a number or a word of `region` is cut.
    """
    parts, words = _split(region)
    return len(parts) - 1 + words


def _split(region: str) -> tuple[list[str], int]:
    """
    Split `region` at each cut inside a string, with numbers and words rejoined.

    Returns:
        The parts, and how many numbers and words were cut.
    """
    parts: list[list[str]] = [[]]
    end = total = 0
    for string in _STRINGS.finditer(region):
        if string[1] is not None:
            break
        between, words = _join_words(region[end : string.start()])
        first, *others = _trimmed_lines(string[0])
        parts[-1] += (between, first)
        parts += ([line] for line in others)
        total += words
        end = string.end()
    between, words = _join_words(region[end:])
    parts[-1].append(between)
    return ["".join(part) for part in parts], total + words


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


def _end_of_cut_object(text: str, start: int) -> tuple[int | None, int]:
    """
    Return where the object that begins at `start` ends, and the number of characters read.

    The end is None if this is no object that was cut.
    """
    end = _object_end(text, start)
    if end is None:
        return None, len(text) - start
    region = text[start:end]
    is_object = cuts(region) > 0 or next(readings(region), None) is not None
    return end if is_object else None, len(region)


def _object_end(text: str, start: int) -> int | None:
    """
    Return where the object that begins at `start` ends, or None if it is incomplete.
    """
    depth = 0
    for token in _tokens(text, start):
        if token[0] == "{":
            depth += 1
        elif token[0] == "}":
            depth -= 1
            if depth == 0:
                return token.end()
    return None


def _tokens(text: str, start: int) -> Iterator[re.Match[str]]:
    """
    Yield the strings and the braces outside strings from `start` on.

    Where a string does not end, its quotation mark is skipped.  No string begins behind it.
    """
    for token in _TOKENS.finditer(text, start):
        if token[1] is not None:
            yield from _BRACES.finditer(text, token.start())
            return
        yield token
