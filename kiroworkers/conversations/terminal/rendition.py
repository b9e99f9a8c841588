"""
Follow the sequences that set colours and attributes of text (SGR).

A rendition is a text, so that renditions are cheap to compare.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

#: The rendition of text without colours and attributes; pyte's name for it.
PLAIN = "default"

#: The longest parameters of a sequence that are read; no program sends longer ones.
_MAX_LENGTH = 128

#: The codes that turn attributes off, each with those that it turns off.
_OFF = {
    "22": {"1", "2"},
    "23": {"3"},
    "24": {"4"},
    "25": {"5"},
    "27": {"7"},
    "28": {"8"},
    "29": {"9"},
}
_ON = {"1", "2", "3", "4", "5", "7", "8", "9"}
#: Other codes for the same attributes: rapid blinking, double underlining.
_SAME = {"6": "5", "21": "4"}
_FOREGROUNDS = {str(code) for code in (*range(30, 38), *range(90, 98))}
_BACKGROUNDS = {str(code) for code in (*range(40, 48), *range(100, 108))}


@lru_cache(maxsize=1024)
def next_rendition(rendition: str, parameters: str) -> str:
    """
    Return the rendition of the text that follows a sequence.

    Args:
        rendition: The rendition before it.
        parameters: Its parameters.
    """
    if len(parameters) > _MAX_LENGTH:
        return rendition
    attributes, foreground, background = set[str](), "", ""
    if rendition != PLAIN:
        before, foreground, background = rendition.split("/")
        attributes.update(before)
    for code, value in _codes(parameters):
        if code == "0":
            attributes, foreground, background = set(), "", ""
        elif code in _ON:
            attributes.add(code)
        elif code in _OFF:
            attributes -= _OFF[code]
        elif code in _FOREGROUNDS:
            foreground = code
        elif code in _BACKGROUNDS:
            background = code
        elif code in ("38", "39"):
            foreground = value
        elif code in ("48", "49"):
            background = value
    if not (attributes or foreground or background):
        return PLAIN
    return "/".join(("".join(sorted(attributes)), foreground, background))


def _codes(parameters: str) -> Iterator[tuple[str, str]]:
    """
    Yield each code in `parameters`, and the colour that it sets; empty if it sets none.
    """
    parts = iter(parameters.split(";"))
    for part in parts:
        code, _, details = part.partition(":")
        code = code.lstrip("0") or "0"
        code = _SAME.get(code, code)
        if code == "4" and details == "0":
            yield "24", ""
        elif code not in ("38", "48", "58") or details:
            yield code, details
        else:
            # The numbers of the colour are parameters of their own.
            kind = next(parts, "")
            count = {"2": 3, "5": 1}.get(kind, 0)
            yield code, ",".join((kind, *(next(parts, "") for _ in range(count))))
