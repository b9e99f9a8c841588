"""
Keep the end of what an agent writes in addition to its messages.
"""

from __future__ import annotations

from kiroworkers.conversations.transcript import plain_text

#: The number of bytes that are kept.
_MAX_SIZE = 8192


class RecentOutput:
    """
    Keep the end of standard error and of the lines that are not messages.
    """

    def __init__(self) -> None:
        self._data = bytearray()

    def append(self, data: bytes) -> None:
        """
        Keep the end of `data`.
        """
        self._data += data
        if len(self._data) > 2 * _MAX_SIZE:
            del self._data[:-_MAX_SIZE]

    def text(self) -> str:
        """
        Return what is kept, as plain text.
        """
        return plain_text(bytes(self._data[-_MAX_SIZE:])).strip()
