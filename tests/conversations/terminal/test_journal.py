"""
Tests for `kiroworkers.conversations.terminal.journal`.
"""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.conversations.terminal.journal import answer_in


def entry(kind: str, *content: Any) -> str:
    """
    A line of a journal.
    """
    return json.dumps({"version": "v1", "kind": kind, "data": {"content": list(content)}})


def text(said: str) -> dict[str, str]:
    return {"kind": "text", "data": said}


TOOL = {"kind": "toolUse", "data": {"name": "shell"}}


class AnswerTests(SynchronousTestCase):
    """
    Tests for `answer_in`.
    """

    def test_answer(self) -> None:
        """
        The answer to the last prompt is what was said last.
        """
        lines = [
            entry("Prompt", text("old")),
            entry("AssistantMessage", text("old answer")),
            entry("Prompt", text("two\nlines")),
            entry("AssistantMessage", text("I look."), TOOL),
            entry("ToolResults", {"kind": "toolResult", "data": text("found")}),
            entry("AssistantMessage", text("It is "), text("this.")),
        ]
        self.assertEqual(answer_in(lines, "two\r\nlines "), "It is this.")

    def test_another_prompt(self) -> None:
        """
        A journal whose last prompt is another has no answer, nor has one in which
        nothing was said yet.
        """
        lines = [
            entry("Prompt", text("mine")),
            entry("AssistantMessage", text("yes")),
            entry("Prompt", text("another")),
            entry("AssistantMessage", text("no")),
        ]
        self.assertIs(answer_in(lines, "mine"), None)
        self.assertIs(answer_in(lines[:1], "mine"), None)
        self.assertIs(answer_in([], "mine"), None)

    def test_not_the_last_message(self) -> None:
        """
        What was said before a tool is used is no answer yet.
        """
        lines = [
            entry("Prompt", text("mine")),
            entry("AssistantMessage", text("I look."), TOOL),
            entry("ToolResults", {"kind": "toolResult", "data": text("found")}),
        ]
        self.assertIs(answer_in(lines, "mine"), None)

    def test_other_shapes(self) -> None:
        """
        Text is found in other shapes, too, and what is no entry is passed by.
        """
        lines = [
            "not JSON",
            "[1]",
            '{"kind": "Prompt"}',
            json.dumps({"kind": "Prompt", "data": "mine"}),
            json.dumps({"kind": "AssistantMessage", "data": [{"type": "text", "text": "yes"}]}),
            '{"kind": "AssistantMessage", "data": {"conte',
        ]
        self.assertEqual(answer_in(lines, "mine"), "yes")
