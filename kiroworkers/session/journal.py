"""
The journals that an agent's sessions keep in a folder.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from attrs import frozen

from kiroworkers.conversations.terminal.journal import answer_in

#: A file's time is coarser than the clock's.
_COARSE = 1.0


@frozen
class JournalFolder:
    """
    The files in `folder`, one for each session; of each, the last `limit` bytes.

    Which of them belongs to a session is not known beforehand: it is the one
    that holds the prompt, which has a mark of its own for that.

    Attributes:
        new_mark: makes a word that was never made before.
    """

    folder: Path
    limit: int
    new_mark: Callable[[], str]

    def marked(self, prompt: str) -> str:
        """
        `prompt`, so that no other session was ever asked the same.
        """
        return f"{prompt}\n(This is question {self.new_mark()}; do not mention that.)"

    def answer(self, prompt: str, since: float) -> str | None:
        """
        What was answered to the marked `prompt`, asked at `since` (seconds since the
        epoch); None where that is not written, or not for certain.
        """
        try:
            recent = [
                entry.path
                for entry in os.scandir(self.folder)
                if entry.name.endswith(".jsonl")
                and entry.is_file()
                and entry.stat().st_mtime >= since - _COARSE
            ]
        except OSError:
            return None  # no journal is kept
        answers = [answer_in(self._lines(path), prompt) for path in recent]
        found = [each for each in answers if each is not None]
        return found[0] if len(found) == 1 else None

    def _lines(self, path: str) -> list[str]:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - self.limit))
            data = file.read(self.limit)
        return data.decode("utf-8", "replace").split("\n")
