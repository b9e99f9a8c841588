"""
Write client text as a JSON literal that has no meaning to a terminal.

The literal is one line of characters that every terminal merely prints: no control
characters, no escape sequences, nothing that changes the direction or look of text,
no lone surrogates.  Two more characters are escaped because Kiro's line editor acts
on them: ``@`` expands files, and an odd number of ``` keeps Enter from submitting.
"""

from __future__ import annotations

import json
import unicodedata
from itertools import islice
from typing import Any

#: Unicode categories: control, format (bidi marks, for example), surrogate, private
#: use, unassigned, line separators and paragraph separators.
UNPRINTABLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
#: Characters that Kiro's line editor acts on.
_EDITOR_CHARACTERS = "@`"
#: The most distinct unprintable characters that are replaced one by one.
_MAX_LOOKED_UP = 100


def json_literal(value: Any) -> str:
    """
    Return `value` as one line of compact JSON that is safe to paste into a terminal.

    Args:
        value: Anything that JSON can hold; `json.loads` of the result returns it.
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    if not text.isprintable():
        unprintable = _unprintable(text)
        if len(unprintable) > _MAX_LOOKED_UP:
            # No language has that many: this is not text.
            text = json.dumps(value, separators=(",", ":"))
            unprintable = _unprintable(text)
        text = text.translate(
            {ord(character): json.dumps(character)[1:-1] for character in unprintable}
        )
    for character in _EDITOR_CHARACTERS:
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _unprintable(text: str) -> list[str]:
    """
    Return the distinct characters of `text` that are `UNPRINTABLE`, or the first ones of many.
    """
    unprintable = (
        character
        for character in set(text)
        if not character.isprintable() and unicodedata.category(character) in UNPRINTABLE
    )
    return list(islice(unprintable, _MAX_LOOKED_UP + 1))
