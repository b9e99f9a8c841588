r"""
Distinguish the highlighting of a JSON object from the rendering of Markdown.

A terminal may colour the JSON in a code block.  It then changes the style between the tokens,
at quotation marks and at escapes, from the first key on, and leaves the text as it is.  In text
outside a code block it changes the style where it has removed the marks of Markdown::

    >>> without_highlighting('{"a": "b"}', [1, 4, 6, 9])
    ()
    >>> without_highlighting('{"a": "two bold words"}', [11, 15])
    (11, 15)
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence

_START = re.compile(r'\{\s*"')
_TOKEN = re.compile(
    r'\s+|(?P<string>"(?:[^"\\]|\\.)*+")|(?P<open>[{\[])|(?P<close>[}\]])|[,:]'
    r"|-?[0-9][0-9.eE+-]*+|true|false|null",
    re.DOTALL,
)
_ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{4}|.)", re.DOTALL)


def without_highlighting(text: str, styled: Sequence[int]) -> tuple[int, ...]:
    """
    Return the offsets at which the style changes, without those of highlighted objects.

    Args:
        text: The text of a turn.
        styled: The offsets in `text`, in ascending order, at which the style changes.
    """
    left: list[int] = []
    done = position = 0
    while done < len(styled) and (start := _START.search(text, position)) is not None:
        strings, position = _read_object(text, start.start())
        first = bisect_right(styled, start.start(), done)
        last = bisect_left(styled, position, first)
        # The style of the first key differs from that of the brace.
        if strings and first < last and styled[first] <= start.end():
            left += styled[done:first]
            left += _inside(text, strings, styled[first:last])
            done = last
    return (*left, *styled[done:])


def _read_object(text: str, start: int) -> tuple[list[tuple[int, int]], int]:
    """
    Return the places of the strings of the object at `start`, and where it ends.

    Without any strings if it is no object; then what was read does not begin another.
    """
    depth, position = 0, start
    strings: list[tuple[int, int]] = []
    while (token := _TOKEN.match(text, position)) is not None:
        position = token.end()
        match token.lastgroup:
            case "string":
                strings.append(token.span())
            case "open":
                depth += 1
            case "close":
                depth -= 1
                if depth == 0:
                    return strings, position
    return [], max(position, start + 1)


def _inside(text: str, strings: list[tuple[int, int]], styled: Sequence[int]) -> Iterator[int]:
    """
    Yield those of the offsets that are inside a string, and not next to an escape.
    """
    remaining = iter(strings)
    start, end = next(remaining)
    escapes: set[int] | None = None
    for offset in styled:
        while end <= offset:
            start, end = next(remaining, (len(text), len(text) + 1))
            escapes = None
        if start + 1 < offset < end - 1:
            if escapes is None:
                found = _ESCAPE.finditer(text, start + 1, end - 1)
                escapes = {place for escape in found for place in escape.span()}
            if offset not in escapes:
                yield offset
