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
from typing import Any

#: Unicode categories: control, format (bidi marks, for example), surrogate, private
#: use, unassigned, line separators and paragraph separators.
UNPRINTABLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
#: Characters that Kiro's line editor acts on.
_EDITOR_CHARACTERS = "@`"


def json_literal(value: Any) -> str:
    """
    Return `value` as one line of compact JSON that is safe to paste into a terminal.

    Args:
        value: Anything that JSON can hold; `json.loads` of the result returns it.
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    if (
        text.isascii()
        and text.isprintable()
        and not any(mark in text for mark in _EDITOR_CHARACTERS)
    ):
        return text
    # Look at each distinct character once: a text can be a megabyte.
    return text.translate({ord(character): _escaped(character) for character in set(text)})


def _escaped(character: str) -> str:
    if character in _EDITOR_CHARACTERS:
        return _escape(character)
    if unicodedata.category(character) in UNPRINTABLE:
        return json.dumps(character)[1:-1]
    return character


def _escape(character: str) -> str:
    return f"\\u{ord(character):04x}"
