"""
Say how much silence proves something, where a moment of it is not enough.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

#: The seconds of silence after which a prompt that is still being edited was not submitted:
#: agents show that they work within 0.1 s.
ENTER_LOST_AFTER = 2.0

#: The seconds of silence after which typed text was read, although it is not recognized on
#: the screen.
TYPED_UNSEEN_AFTER = 1.0

#: The seconds of silence at a prompt after which a clear will not be confirmed any more.
CLEAR_UNCONFIRMED_AFTER = 3.0

#: The seconds of silence after which an answer without a whole object will not go on.
_INCOMPLETE_AFTER = 1.0

#: This much of the end of a typed text is looked for, white space aside.
_MIN_END_LENGTH = 8

_SIZE = re.compile(r"\b(\d+) (?:lines?|chars?|characters)\b")


def patience(quiet: float, text: str) -> float:
    """
    Return the seconds of silence after which an answer is over whose text so far is `text`.

    Agents are asked for an object.  Some show that they are idle before they have printed all
    of it, so an answer whose object has not ended is given more time.
    """
    complete = 0 < text.count("{") <= text.count("}")
    return quiet if complete else max(quiet, _INCOMPLETE_AFTER)


def ends_with(shown: str, typed: str) -> bool:
    """
    Return whether `shown` ends with the end of what was typed, white space aside.
    """
    end = letters(typed)[-_MIN_END_LENGTH:]
    return bool(end) and letters(shown).endswith(end)


def holds_text(rows: Sequence[str], typed: str) -> bool:
    """
    Return whether an input field holds what was typed.

    Args:
        rows: The rows of the input field.
        typed: What was typed.  A long paste may be shown by its size alone.
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
