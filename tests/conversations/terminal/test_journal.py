"""
Tests for `kiroworkers.conversations.terminal.journal`.
"""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.conversations.terminal.journal import answer_from_journal


def entry(kind: str, *content: Any) -> str:
    """
    Return a line of a journal.
    """
    return json.dumps({"version": "v1", "kind": kind, "data": {"content": list(content)}})


def text(content: str) -> dict[str, str]:
    """
    Return an item of text in a message.
    """
    return {"kind": "text", "data": content}


TOOL = {"kind": "toolUse", "data": {"name": "shell"}}


class AnswerTests(SynchronousTestCase):
    """
    Tests for `answer_from_journal`.
    """

    def test_answer(self) -> None:
        """
        The answer to the last prompt is the last message after it.
        """
        lines = [
            entry("Prompt", text("old")),
            entry("AssistantMessage", text("old answer")),
            entry("Prompt", text("two\nlines")),
            entry("AssistantMessage", text("I look."), TOOL),
            entry("ToolResults", {"kind": "toolResult", "data": text("found")}),
            entry("AssistantMessage", text("It is "), text("this.")),
        ]
        self.assertEqual(answer_from_journal(lines, "two\r\nlines "), "It is this.")

    def test_another_prompt(self) -> None:
        """
        A journal whose last prompt is a different one has no answer; neither has one
        without messages after it.
        """
        lines = [
            entry("Prompt", text("mine")),
            entry("AssistantMessage", text("yes")),
            entry("Prompt", text("another")),
            entry("AssistantMessage", text("no")),
        ]
        self.assertIs(answer_from_journal(lines, "mine"), None)
        self.assertIs(answer_from_journal(lines[:1], "mine"), None)
        self.assertIs(answer_from_journal([], "mine"), None)

    def test_not_the_last_message(self) -> None:
        """
        A message before the use of a tool is not the answer.
        """
        lines = [
            entry("Prompt", text("mine")),
            entry("AssistantMessage", text("I look."), TOOL),
            entry("ToolResults", {"kind": "toolResult", "data": text("found")}),
        ]
        self.assertIs(answer_from_journal(lines, "mine"), None)

    def test_other_shapes(self) -> None:
        """
        Text is found in other shapes, too, and lines that are not entries are skipped.
        """
        lines = [
            "not JSON",
            "[1]",
            '{"kind": "Prompt"}',
            json.dumps({"kind": "Prompt", "data": "mine"}),
            json.dumps({"kind": "AssistantMessage", "data": [{"type": "text", "text": "yes"}]}),
            '{"kind": "AssistantMessage", "data": {"conte',
        ]
        self.assertEqual(answer_from_journal(lines, "mine"), "yes")
