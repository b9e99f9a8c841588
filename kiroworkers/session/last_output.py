"""
Keep the end of what a session printed, for the reason of its end.
"""

from __future__ import annotations

from kiroworkers.conversations.transcript import plain_text

#: How many bytes are kept.
_KEPT = 4096

#: How many characters of it go into a reason.
_MAX_QUOTED = 1000

#: How many characters of the last line of a screen go into a reason.
_MAX_LAST_LINE = 200


class LastOutput:
    """
    Keep the end of what a session printed since its turn began.
    """

    def __init__(self) -> None:
        self._data = bytearray()

    def add(self, data: bytes) -> None:
        """
        Append `data`, and forget what is too old.
        """
        self._data += data[-_KEPT:]
        if len(self._data) > 2 * _KEPT:
            del self._data[:-_KEPT]

    def clear(self) -> None:
        """
        Forget everything, because another turn begins.
        """
        self._data.clear()

    def text(self) -> str:
        """
        Return the end of the output as plain text.
        """
        return plain_text(self._data[-_KEPT:]).strip()[-_MAX_QUOTED:]


def last_line(screen: str) -> str:
    """
    Return the end of the last line of `screen`.
    """
    return screen.rpartition("\n")[2][-_MAX_LAST_LINE:]


def quoted(text: str) -> str:
    """
    Return `text` as the end of a sentence about the end of a session; empty if there is none.
    """
    # Control characters become escape sequences, so it may be longer than before.
    return f", after {repr(text)[-_MAX_QUOTED:]}" if text else ""
