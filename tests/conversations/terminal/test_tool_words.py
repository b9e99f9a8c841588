"""
Tests for `kiroworkers.conversations.terminal.tool_words`.
"""

from __future__ import annotations

import re

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.conversations import ToolUsed, load_dialect
from kiroworkers.conversations.dialects.dialect import ToolWords
from kiroworkers.conversations.terminal.tool_words import ToolReader

WORDS = ToolWords(re.compile(r"^tool (?P<title>(?P<execute>run)?.*)"), re.compile(r"^\$ (.*)"))


class ToolReaderTests(SynchronousTestCase):
    """
    Tests for `ToolReader`.
    """

    def test_several(self) -> None:
        """
        Each announced tool is used when the model goes on, except those that were denied or
        never decided.
        """
        reader = ToolReader(WORDS)
        for line, answer in [("tool a", None), ("tool b", True), ("tool run c", False)]:
            reader.read(line + "\n")
            if answer is not None:
                reader.ask(line)
            if answer:
                reader.allow()
        reader.read("tool d\n")
        self.assertTrue(reader.seen)
        self.assertEqual(
            reader.used(),
            [
                ToolUsed("a", "other", asked=False),
                ToolUsed("b", "other", asked=True),
                ToolUsed("d", "other", asked=False),
            ],
        )
        self.assertEqual((reader.used(), reader.seen), ([], False))

    def test_unannounced(self) -> None:
        """
        A question for a tool that was not announced counts as its announcement.
        """
        reader = ToolReader(WORDS)
        self.assertEqual(reader.ask("$ date\nAllow?"), "$ date")
        reader.allow()
        self.assertEqual(reader.used(), [ToolUsed("$ date", "other", asked=True)])

    def test_bounded(self) -> None:
        """
        However many tools are announced, a limited number is kept, with short titles.
        """
        reader = ToolReader(WORDS)
        for _ in range(1000):
            reader.read("tool run " + "x" * 10_000 + "\n")
        used = reader.used()
        self.assertEqual(len(used), 100)
        self.assertTrue(all(len(tool.title) <= 300 for tool in used))
        self.assertEqual(used[0].access, "execute")

    def test_unknown_words(self) -> None:
        """
        Nothing is recognized for an agent whose words are not known.
        """
        reader = ToolReader(ToolWords())
        reader.read("tool run\n")
        self.assertEqual((reader.reads, reader.used(), reader.ask("x")), (False, [], ""))

    def test_commands(self) -> None:
        """
        The command of a question is found in each form that Kiro and Amazon Q print.
        """
        reader = ToolReader(load_dialect("kiro-classic").tools)
        shell = " ● I will run the following shell command: \n"
        for text, command in [
            (
                f"🛠️  Using tool: execute_bash\n ⋮ \n{shell}ls;\ndate\n\nAllow",
                "execute_bash: ls; date",
            ),
            ("🛠️  Using tool: fs_read (trusted)\n ⋮ \n ● Reading x\n", "fs_read: Reading x"),
            (
                "I will run the following command: date (using tool: shell)\nAllow",
                "I will run the following command: date (using tool: shell)",
            ),
            ("nothing", ""),
        ]:
            self.assertEqual(reader.command_in(text), command)
