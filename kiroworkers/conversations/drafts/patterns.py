r"""
Make a pattern that matches texts that were seen, and others like them.

Numbers may change, and so may a part in the middle::

    >>> pattern_for(["In [1]: ", "In [2]: "])
    'In \\[\\d+\\]: '
    >>> pattern_for(["Working on it", "Working hard"])
    'Working '
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import takewhile

_NUMBER = re.compile(r"[0-9]+")
_SPECIAL = re.compile(r"[\\^$.|?*+()\[\]{}]")

#: Sequences for style and for moves of the cursor within a row, which may stand between any two
#: characters of a prompt.
_STYLES = r"(?:\x1b\[[0-9;]*[mCDG])*"
#: A style that is set at the end of output.
_STYLE_AT_END = re.compile(rb"\x1b\[[0-9;]+m\Z")


def escaped(text: str) -> str:
    """
    Return a pattern for exactly `text`.
    """
    return _SPECIAL.sub(r"\\\g<0>", text)


def pattern_for(texts: Sequence[str]) -> str:
    """
    Return a pattern for the beginning that `texts` have in common; empty if they have none.

    The pattern is for the whole of them if they differ only in numbers.
    """
    if not texts:
        return ""
    if len(set(texts)) == 1:
        return escaped(texts[0])
    shapes = {_NUMBER.sub("0", text) for text in texts}
    if len(shapes) == 1:
        return r"\d+".join(map(escaped, _NUMBER.split(texts[0])))
    prefix = _common_prefix(texts)
    # A number may have been cut.
    return escaped(prefix.rstrip("0123456789"))


def whole_pattern_for(texts: Sequence[str]) -> str:
    """
    Return a pattern for the whole of `texts`; empty if they have too little in common.
    """
    prefix = pattern_for(texts)
    if len({_NUMBER.sub("0", text) for text in texts}) == 1:
        return f"^{prefix}$"
    suffix = _common_prefix([text[::-1] for text in texts])[::-1]
    if not prefix.strip() and not suffix.strip():
        return ""
    return f"^{prefix}.*{escaped(suffix)}$"


def _common_prefix(texts: Sequence[str]) -> str:
    columns = zip(*texts, strict=False)
    return "".join(column[0] for column in takewhile(lambda column: len(set(column)) == 1, columns))


def drawn_pattern_for(texts: Sequence[str], drawn: Sequence[bytes]) -> str:
    """
    Return a pattern that finds a prompt in raw output; empty if there is none.

    A program may change colours in it, and move the cursor instead of printing a blank.

    Args:
        texts: The prompt as it was seen, each time.
        drawn: The raw output with it, each time.
    """
    if len({_NUMBER.sub("0", text) for text in texts}) != 1 or not texts[0].strip():
        return ""
    words = re.findall(r"[0-9]+| +|[^0-9 ]+", texts[0].rstrip())
    varies = len(set(texts)) > 1
    for between in ("", _STYLES):
        pattern = between.join(_drawn(word, varies, bool(between)) for word in words)
        found = [re.search(pattern.encode(), output) for output in drawn]
        if all(found):
            context = _context([match for match in found if match is not None])
            return context + pattern
    return ""


def _context(prompts: Sequence[re.Match[bytes]]) -> str:
    """
    Return a pattern for the style in which all of `prompts` are drawn.

    Without one, the beginning of a prompt must at least not be part of an escape sequence.
    """
    before = (_STYLE_AT_END.search(prompt.string[: prompt.start()]) for prompt in prompts)
    styles = {b"" if style is None else style[0] for style in before}
    style = styles.pop()
    if styles or not style:
        return "" if prompts[0][0][:1].isalnum() else r"(?<![\[?;0-9])"
    return escaped(style.decode()).replace("\x1b", r"\x1b")


def _drawn(word: str, varies: bool, moves: bool) -> str:
    if word.isspace() and moves:
        return r"(?: +|\x1b\[[0-9]*C)"
    return "[0-9]+" if varies and word.isdecimal() else escaped(word)
