"""
Find a session's answers in the journals that its agent writes to a directory.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from attrs import frozen
from twisted.internet.defer import Deferred

from kiroworkers.conversations.terminal.journal import answer_from_journal

#: The maximum number of files to read.  The session's own is among those that were modified
#: last, unless more sessions than this have written since the answer.
_MAX_FILES = 20


class Journal(Protocol):
    """
    Read the answers that an agent records in a file of its own.
    """

    def mark_prompt(self, prompt: str) -> str:
        """
        Return `prompt` with a mark that makes it different from every other prompt.
        """

    def find_answer(self, prompt: str) -> Deferred[str | None]:
        """
        Return the recorded answer to a marked prompt.

        Args:
            prompt: A prompt that `mark_prompt` returned.

        Returns:
            A Deferred that fires with the answer, or with None if the journal has none or
            more than one candidate.
        """


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
        in_thread: Calls a function where it may wait for the disk.
    """

    folder: Path
    limit: int
    new_mark: Callable[[], str]
    in_thread: Callable[[Callable[[], str | None]], Deferred[str | None]]

    def mark_prompt(self, prompt: str) -> str:
        """
        Return `prompt` with a mark that makes it different from every other prompt.
        """
        return f"{prompt}\n(This is question {self.new_mark()}; do not mention that.)"

    def find_answer(self, prompt: str) -> Deferred[str | None]:
        """
        Return the answer to a marked prompt, as the agent recorded it.

        Args:
            prompt: A prompt that `mark_prompt` returned.

        Returns:
            A Deferred that fires with the answer, or with None if no file or more than one
            file has one.
        """
        return self.in_thread(lambda: self._read_answer(prompt))

    def _read_answer(self, prompt: str) -> str | None:
        candidates = [
            answer_from_journal(self._read_lines(path), prompt) for path in self._recent_files()
        ]
        answers = [answer for answer in candidates if answer is not None]
        return answers[0] if len(answers) == 1 else None

    def _recent_files(self) -> list[str]:
        """
        Return the paths of the journals that were modified last.
        """
        try:
            files = [
                (entry.stat().st_mtime, entry.path)
                for entry in os.scandir(self.folder)
                if entry.name.endswith(".jsonl") and entry.is_file()
            ]
        except OSError:
            return []  # The agent keeps no journal.
        return [path for _, path in sorted(files, reverse=True)[:_MAX_FILES]]

    def _read_lines(self, path: str) -> list[str]:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - self.limit))
            data = file.read(self.limit)
        return data.decode("utf-8", "replace").split("\n")
