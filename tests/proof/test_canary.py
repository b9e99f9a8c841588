"""
Tests for `kiroworkers.proof.canary`.
"""

from __future__ import annotations

import json
import re
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.proof.canary import TEXT, CanaryQuestion
from tests.fakekiro import rendered


class CanaryQuestionTests(SynchronousTestCase):
    """
    Tests for `CanaryQuestion`.
    """

    def setUp(self) -> None:
        self.question = CanaryQuestion("0123456789abcdef")

    def answer(self, **changes: Any) -> str:
        answer = {"word": self.question.word, "text": TEXT, "earlier": [], **changes}
        return f"```json\n{json.dumps(answer, ensure_ascii=False)}\n```"

    def problem(self, text: str) -> str:
        return self.question.problem(text, False, ()) or ""

    def test_prompt(self) -> None:
        """
        The prompt has the word and the text, as one JSON literal, and no other canary's word.
        """
        prompt = self.question.prompt("compact")
        [line] = [line for line in prompt.splitlines() if line.startswith("Request: ")]
        request = json.loads(line.removeprefix("Request: "))
        self.assertEqual(request, {"word": "canary-0123456789abcdef", "text": TEXT})
        self.assertNotEqual(prompt, self.question.prompt("lines"))

    def test_exact(self) -> None:
        """
        An answer with the same text and word has no problem, escaped or not, with words around it.
        """
        self.assertEqual(self.problem(self.answer()), "")
        self.assertEqual(self.problem(f"Here:\n\n{self.answer()}\n\nThat is all."), "")
        escaped = json.dumps({"word": self.question.word, "text": TEXT, "earlier": []})
        self.assertEqual(self.problem(escaped), "")

    def test_every_part_counts(self) -> None:
        """
        Leaving out any part of the text is a problem.
        """
        for part in TEXT.split():
            problem = self.problem(self.answer(text=TEXT.replace(part, "", 1)))
            self.assertIn("it altered the text: ", problem, part)

    def test_rendered(self) -> None:
        """
        A terminal that renders Markdown is caught.
        """
        text = re.sub("\x1b\\[[0-9;]*m", "", rendered(self.answer()))
        self.assertNotEqual(self.problem(text), "")
        styled = self.question.problem(self.answer(), False, (40,))
        self.assertIn("cannot be used", styled or "")

    def test_other_word(self) -> None:
        """
        The answer to another request is a problem.
        """
        self.assertIn("altered", self.problem(self.answer(word="canary-EXAMPLE")))

    def test_leak(self) -> None:
        """
        An earlier canary's word anywhere in the reply is a leak; one's own is none.
        """
        leak = "it knows canary-fedcba9876543210, a word of an earlier canary"
        self.assertEqual(self.problem(self.answer(earlier=["canary-fedcba9876543210"])), leak)
        self.assertEqual(self.problem(f"canary-fedcba9876543210\n{self.answer()}"), leak)
        self.assertEqual(self.problem(self.answer(earlier=[self.question.word])), "")
        self.assertEqual(self.problem(self.answer(earlier=["canary-yellow"])), "")

    def test_echo(self) -> None:
        """
        The echo of the prompt is not an answer.
        """
        self.assertIn("cannot be used", self.problem(self.question.prompt("compact")))
        self.assertIn("cannot be used", self.problem("I am sorry."))
