"""
Collect the text of a turn while a program prints it from top to bottom.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from io import StringIO

from kiroworkers.conversations.transcript import Transcript

#: The number of bytes of a turn that are converted to text at once.  That takes less than a
#: millisecond, or some 20 ms if the style changes with each character.
_MAX_UNCONVERTED = 16384

#: The maximum length of what an agent prints after an answer, in characters.
_MAX_SUFFIX_LENGTH = 1024

#: Longer numbers are no costs and no shares.
_NUMBER = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")

_LINE = re.compile(r"[^\n]*\n")


class TurnText:
    """
    Convert output to text, and find the part of it that certainly belongs to an answer.

    The agent's footer after an answer, and the white space before it, are not part of the answer.
    So a blank line, or a line that looks like the agent's, is certain to be part of an answer
    only when a line follows that is neither.

    Args:
        suffix: The pattern for a line that the agent prints after an answer, or None.
    """

    def __init__(self, suffix: re.Pattern[str] | None = None) -> None:
        self._suffix = suffix
        self._transcript = Transcript()
        self._unconverted = bytearray()
        self._lines = StringIO()
        self._released = 0
        # Complete lines of which it is unknown whether they are part of the answer.
        self._held: list[str] = []
        #: What the turn cost in credits; None unless the suffix that `finish` found says so.
        self.credits: float | None = None

    def add(self, output: bytes) -> None:
        """
        Take in the next output, which may be cut at any byte.
        """
        self._unconverted += output

    @property
    def is_due(self) -> bool:
        """
        Return whether so much output was added that it should be converted now.
        """
        return len(self._unconverted) > _MAX_UNCONVERTED

    def convert(self) -> list[str]:
        """
        Return the lines that became complete since the last conversion, each with its newline.
        """
        return _LINE.findall(self._convert())

    def _convert(self) -> str:
        lines = self._transcript.feed(bytes(self._unconverted))
        self._unconverted.clear()
        self._lines.write(lines)
        return lines

    def release(self, line: str) -> str:
        """
        Return the text that is now certain to be part of the answer.

        Args:
            line: The next line that `convert` returned.
        """
        text = line.rstrip()
        if not text or (self._suffix and self._suffix.search(line)):
            self._held.append(line)
            return ""
        certain = "".join((*self._held, text))
        self._held = [line[len(text) :]]
        self._released += len(certain)
        return certain

    def finish(self) -> tuple[str, tuple[int, ...]]:
        """
        Return the text of the answer, and the offsets in it at which it was styled.
        """
        self._convert()
        lines, rest = self._lines.getvalue(), self._transcript.rest().rstrip()
        # Each copy of a large text takes milliseconds.
        text = lines + rest if rest else lines.rstrip()
        if self._suffix is not None:
            start = max(0, len(text) - _MAX_SUFFIX_LENGTH)
            for ending in self._suffix.finditer(text, start):
                if ending.end() == len(text):
                    self.credits = number_in(ending.groupdict().get("credits"))
                    text = text[: ending.start()].rstrip()
                    break
        styled = self._transcript.styled()
        return text, styled[: bisect_right(styled, len(text))]

    def unreleased(self, text: str) -> str:
        """
        Return the part of an answer's `text` that `release` has not returned.
        """
        return text[self._released :]


def number_in(text: str | None) -> float | None:
    """
    Return the number that `text` is, or None.
    """
    return float(text) if text is not None and _NUMBER.fullmatch(text) else None
