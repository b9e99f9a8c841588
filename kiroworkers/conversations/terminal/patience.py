"""
Define how long to wait where a short silence proves nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

#: The seconds of silence after which a prompt that is still being edited was certainly not
#: submitted.  Agents show within 0.1 s that they work.
ENTER_LOST_AFTER = 2.0

#: The seconds of silence after which typed text counts as read, even if it is not recognized on
#: the screen.
TYPED_UNSEEN_AFTER = 1.0

#: The seconds of silence at a prompt after which a clear counts as not confirmed.
CLEAR_UNCONFIRMED_AFTER = 3.0

#: The seconds of silence after which an answer without a complete object counts as ended.
_INCOMPLETE_AFTER = 1.0

#: The number of characters at the end of a typed text that are looked for, without white space.
_MIN_END_LENGTH = 8

_SIZE = re.compile(r"\b(\d+) (?:lines?|chars?|characters)\b")


def patience(quiet: float, text: str) -> float:
    """
    Return the seconds of silence after which an answer is over, given its `text` so far.

    Agents are asked for an object.  Some show that they are idle before they have printed all
    of it, so an answer without a complete object is given more time.
    """
    complete = 0 < text.count("{") <= text.count("}")
    return quiet if complete else max(quiet, _INCOMPLETE_AFTER)


def ends_with(shown: str, typed: str) -> bool:
    """
    Return whether `shown` ends like the typed text, without regard to white space.
    """
    end = letters(typed)[-_MIN_END_LENGTH:]
    return bool(end) and letters(shown).endswith(end)


def holds_text(rows: Sequence[str], typed: str) -> bool:
    """
    Return whether an input field holds the typed text.

    Args:
        rows: The rows of the input field.
        typed: The typed text.  Instead of a long paste, only its size may be shown.
    """
    sizes = {len(typed), typed.count("\n"), typed.count("\n") + 1}
    shown = "\n".join(rows)
    by_size = any(int(size) in sizes for size in _SIZE.findall(shown))
    ends = range(1, len(rows) + 1)
    return by_size or any(ends_with("\n".join(rows[:end]), typed) for end in ends)


def letters(text: str) -> str:
    """
    Return `text` without white space.
    """
    return "".join(text.split())
