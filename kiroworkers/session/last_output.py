"""
Keep the end of a session's output, to explain why the session ended.
"""

from __future__ import annotations

from kiroworkers.conversations.transcript import plain_text

#: The number of bytes that are kept.
_KEPT = 4096

#: The maximum number of characters of it that a reason quotes.
_MAX_QUOTED = 1000

#: The maximum number of characters of a screen's last line that a reason quotes.
_MAX_LAST_LINE = 200


class LastOutput:
    """
    Keep the end of what a session printed since its turn began.
    """

    def __init__(self) -> None:
        self._data = bytearray()

    def add(self, data: bytes) -> None:
        """
        Append `data`, and drop the oldest output.
        """
        self._data += data[-_KEPT:]
        if len(self._data) > 2 * _KEPT:
            del self._data[:-_KEPT]

    def clear(self) -> None:
        """
        Drop all output, because another turn begins.
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
    Return the words that append `text` to the reason of a session's end; empty for no text.
    """
    # Control characters become escape sequences, so it may be longer than before.
    return f", after {repr(text)[-_MAX_QUOTED:]}" if text else ""
