"""
Find a session's answers in the journals that its agent writes to a directory.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from attrs import frozen

from kiroworkers.conversations.terminal.journal import answer_from_journal

#: Seconds by which a file's modification time may be behind the clock.
_MTIME_TOLERANCE = 1.0


@frozen
class JournalFolder:
    """
    Read the journals in `folder`, where the agent writes one file for each session.

    It is not known beforehand which file belongs to a session: it is the one that holds
    the session's prompt.  Each prompt therefore gets a unique mark.

    Attributes:
        folder: The directory of the ``.jsonl`` files.
        limit: How many bytes to read from the end of each file.
        new_mark: Returns a different word each time.
    """

    folder: Path
    limit: int
    new_mark: Callable[[], str]

    def mark_prompt(self, prompt: str) -> str:
        """
        Return `prompt` with a mark that makes it different from every other prompt.
        """
        return f"{prompt}\n(This is question {self.new_mark()}; do not mention that.)"

    def find_answer(self, prompt: str, since: float) -> str | None:
        """
        Return the answer to a marked prompt, as the agent recorded it.

        Args:
            prompt: A prompt that `mark_prompt` returned.
            since: When it was submitted, in seconds since the epoch.  Files that were
                last modified earlier are skipped.

        Returns:
            The answer, or None if no file or more than one file has an answer.
        """
        try:
            recent = [
                entry.path
                for entry in os.scandir(self.folder)
                if entry.name.endswith(".jsonl")
                and entry.is_file()
                and entry.stat().st_mtime >= since - _MTIME_TOLERANCE
            ]
        except OSError:
            return None  # The agent keeps no journal.
        candidates = [answer_from_journal(self._read_lines(path), prompt) for path in recent]
        answers = [answer for answer in candidates if answer is not None]
        return answers[0] if len(answers) == 1 else None

    def _read_lines(self, path: str) -> list[str]:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - self.limit))
            data = file.read(self.limit)
        return data.decode("utf-8", "replace").split("\n")
