"""
Tests for `kiroworkers.session.journal`.
"""

from __future__ import annotations

import os
from itertools import count
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.session.journal import JournalFolder
from tests.conversations.terminal.test_journal import entry, text


class JournalFolderTests(SynchronousTestCase):
    """
    Tests for `JournalFolder`.
    """

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        marks = map(str, count(1))
        self.journal = JournalFolder(self.folder, limit=1000, new_mark=lambda: next(marks))

    def write(self, name: str, prompt: str, answer: str, time: float = 100.0) -> None:
        lines = [entry("Prompt", text(prompt)), entry("AssistantMessage", text(answer))]
        path = self.folder / name
        path.write_text("\n".join(lines) + "\n")
        os.utime(path, (time, time))

    def test_session_of_the_prompt(self) -> None:
        """
        The answer comes from the file that holds the prompt.
        """
        self.write("a.jsonl", "mine", "yes")
        self.write("b.jsonl", "another", "no")
        self.write("c.json", "mine", "no journal")
        self.assertEqual(self.journal.find_answer("mine", since=100.5), "yes")

    def test_two_sessions(self) -> None:
        """
        If the journals of two sessions hold the prompt, neither is used.
        """
        self.write("a.jsonl", "mine", "yes")
        self.write("b.jsonl", "mine", "no")
        self.assertIs(self.journal.find_answer("mine", since=100.0), None)

    def test_not_a_file(self) -> None:
        """
        A directory or a broken link with the name of a journal is skipped.
        """
        (self.folder / "folder.jsonl").mkdir()
        (self.folder / "link.jsonl").symlink_to("nowhere")
        self.write("a.jsonl", "mine", "yes")
        self.assertEqual(self.journal.find_answer("mine", since=100.0), "yes")

    def test_old_file(self) -> None:
        """
        A file that was last modified before the prompt is skipped.
        """
        self.write("a.jsonl", "mine", "old", time=90.0)
        self.assertIs(self.journal.find_answer("mine", since=100.0), None)

    def test_long_file(self) -> None:
        """
        Only the end of a long file is read.
        """
        self.write("a.jsonl", "x" * 2000, "old")
        with (self.folder / "a.jsonl").open("a") as file:
            file.write(entry("Prompt", text("mine")) + "\n")
            file.write(entry("AssistantMessage", text("yes")) + "\n")
        self.assertEqual(self.journal.find_answer("mine", since=100.0), "yes")

    def test_no_folder(self) -> None:
        """
        Without a journal there is no answer.
        """
        journal = JournalFolder(self.folder / "none", 1000, str)
        self.assertIs(journal.find_answer("mine", 0.0), None)

    def test_marks(self) -> None:
        """
        Two prompts with the same words get different marks, so that neither is
        mistaken for the other.
        """
        first, second = self.journal.mark_prompt("same"), self.journal.mark_prompt("same")
        self.write("a.jsonl", first, "of the first")
        self.assertEqual(self.journal.find_answer(first, since=100.0), "of the first")
        self.assertIs(self.journal.find_answer(second, since=100.0), None)
