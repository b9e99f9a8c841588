"""
Find out whether a line editor has drawn all of the typed text.
"""

from __future__ import annotations

from kiroworkers.conversations.terminal.patience import letters
from kiroworkers.conversations.transcript import plain_text

#: The number of bytes at the end of what is drawn, and of letters at the end of the typed text,
#: that are compared.
_MAX_DRAWN = 4096
_MAX_LETTERS = 64


class TypedText:
    """
    Hold the end of the typed text, and the end of what the line editor has drawn since.
    """

    def __init__(self) -> None:
        self._letters = ""
        self._drawn = bytearray()

    def type(self, text: str) -> None:
        """
        Record that `text` is typed.
        """
        self._letters = letters(text[-8 * _MAX_LETTERS :])[-_MAX_LETTERS:]
        self._drawn.clear()

    def forget(self) -> None:
        """
        Forget the typed text: it was submitted, or no longer matters.
        """
        self._letters = ""
        self._drawn.clear()

    def draw(self, output: bytes) -> None:
        """
        Record that the line editor has drawn `output`.
        """
        if self._letters:
            self._drawn += output
            del self._drawn[:-_MAX_DRAWN]

    @property
    def is_drawn(self) -> bool:
        """
        Return whether what the line editor has drawn ends with the typed text.

        White space does not count, because line editors break lines where they like.
        """
        return bool(self._letters) and letters(plain_text(self._drawn)).endswith(self._letters)
