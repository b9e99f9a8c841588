"""
Client text as a JSON literal that means nothing to a terminal.

The literal is one line of characters that every terminal merely prints: no
control character, no escape, nothing that changes the direction or the look of
text, no lone surrogate.  Two more are written as escapes because Kiro's line
editor gives them a meaning: ``@`` expands files, and an odd number of ``` keeps
Enter from submitting.
"""

from __future__ import annotations

import json
import unicodedata
from typing import Any

#: Control, format (bidi marks and the like), surrogate, private, unassigned,
#: line and paragraph separators.
UNPRINTABLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
_MEANINGFUL = "@`"


def json_literal(value: Any) -> str:
    """
    `value` (anything JSON can hold) as one line of compact JSON, safe to paste
    into a terminal.  `json.loads` gives `value` back.
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    if text.isascii() and text.isprintable() and not any(mark in text for mark in _MEANINGFUL):
        return text
    # Each character that there is but once: a text can be a megabyte.
    return text.translate({ord(each): _safe(each) for each in set(text)})


def _safe(character: str) -> str:
    if character in _MEANINGFUL or unicodedata.category(character) in UNPRINTABLE:
        return json.dumps(character)[1:-1] if character not in _MEANINGFUL else _escape(character)
    return character


def _escape(character: str) -> str:
    return f"\\u{ord(character):04x}"
