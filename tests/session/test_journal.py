"""
Tests for `kiroworkers.session.journal`.
"""

from __future__ import annotations

import os
from itertools import count
from pathlib import Path

from twisted.internet.defer import maybeDeferred
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
        self.journal = JournalFolder(self.folder, 1000, lambda: next(marks), maybeDeferred)

    def write(self, name: str, prompt: str, answer: str, time: float = 100.0) -> None:
        lines = [entry("Prompt", text(prompt)), entry("AssistantMessage", text(answer))]
        path = self.folder / name
        path.write_text("\n".join(lines) + "\n")
        os.utime(path, (time, time))

    def answer_to(self, prompt: str) -> str | None:
        return self.successResultOf(self.journal.find_answer(prompt))

    def test_session_of_the_prompt(self) -> None:
        """
        The answer comes from the file that holds the prompt.
        """
        self.write("a.jsonl", "mine", "yes")
        self.write("b.jsonl", "another", "no")
        self.write("c.json", "mine", "no journal")
        self.assertEqual(self.answer_to("mine"), "yes")

    def test_two_sessions(self) -> None:
        """
        If the journals of two sessions hold the prompt, neither is used.
        """
        self.write("a.jsonl", "mine", "yes")
        self.write("b.jsonl", "mine", "no")
        self.assertIs(self.answer_to("mine"), None)

    def test_not_a_file(self) -> None:
        """
        A directory or a broken link with the name of a journal is skipped.
        """
        (self.folder / "folder.jsonl").mkdir()
        (self.folder / "link.jsonl").symlink_to("nowhere")
        self.write("a.jsonl", "mine", "yes")
        self.assertEqual(self.answer_to("mine"), "yes")

    def test_old_file(self) -> None:
        """
        Only the files that were modified last are read.
        """
        self.write("old.jsonl", "mine", "old", time=90.0)
        self.assertEqual(self.answer_to("mine"), "old")
        for number in range(20):
            self.write(f"{number}.jsonl", "another", "no")
        self.assertIs(self.answer_to("mine"), None)

    def test_long_file(self) -> None:
        """
        Only the end of a long file is read.
        """
        self.write("a.jsonl", "x" * 2000, "old")
        with (self.folder / "a.jsonl").open("a") as file:
            file.write(entry("Prompt", text("mine")) + "\n")
            file.write(entry("AssistantMessage", text("yes")) + "\n")
        self.assertEqual(self.answer_to("mine"), "yes")

    def test_no_folder(self) -> None:
        """
        Without a journal there is no answer.
        """
        journal = JournalFolder(self.folder / "none", 1000, str, maybeDeferred)
        self.assertIs(self.successResultOf(journal.find_answer("mine")), None)

    def test_marks(self) -> None:
        """
        Two prompts with the same words get different marks, so that neither is
        mistaken for the other.
        """
        first, second = self.journal.mark_prompt("same"), self.journal.mark_prompt("same")
        self.write("a.jsonl", first, "of the first")
        self.assertEqual(self.answer_to(first), "of the first")
        self.assertIs(self.answer_to(second), None)
