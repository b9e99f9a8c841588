"""
Tests for `kiroworkers.proof.checks.long_prompts`.
"""

from __future__ import annotations

import json
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.proof.checks.check import Finding
from kiroworkers.proof.checks.long_prompts import SIZES, USUAL_SIZE, long_prompt, long_text
from kiroworkers.proof.report import Level, Outcome
from tests.proof.memory import AgentFunction, Turn, error, fake_proof


class LongPromptTests(SynchronousTestCase):
    """
    Tests for `long_prompt`, with agents that are functions.
    """

    def find(self, agent: AgentFunction, size: int = USUAL_SIZE) -> Finding:
        """
        Return what the check finds.
        """
        proof = fake_proof(agent, Path(self.mktemp()).absolute())
        return self.successResultOf(Deferred.fromCoroutine(long_prompt(proof, size)))

    def test_text(self) -> None:
        """
        The text has the wanted length, between its marks.
        """
        for size in SIZES:
            text = long_text(size)
            self.assertEqual(len(text), size)
            self.assertTrue(text.startswith("The text begins here. Sentence 1 "))
            self.assertTrue(text.endswith(" The text ends here."))

    def test_whole(self) -> None:
        """
        A prompt that the model gets whole, and whose answer arrives, is right.
        """
        finding = self.find(lambda turn: turn.ask_model().text)
        self.assertEqual(finding.outcome, Outcome.PASSED, finding)

    def test_altered(self) -> None:
        """
        A prompt that the agent alters is lossy, and the evidence shows where.
        """

        def agent(turn: Turn) -> str:
            return turn.ask_model(text=json.dumps(turn.body).replace("Sentence 9 ", "")).text

        finding = self.find(agent)
        self.assertEqual(finding.outcome, Outcome.FAILED)
        self.assertIn("different from character ", finding.evidence)

    def test_replaced(self) -> None:
        """
        A prompt in whose place the model gets a few words is lossy.
        """

        def agent(turn: Turn) -> str:
            return turn.ask_model(text=f"{turn.body['case']} [Pasted text]").text

        self.assertIn("its marks were missing", self.find(agent).evidence)

    def test_not_sent(self) -> None:
        """
        An answer without a request to the model proves nothing, and is a failure.
        """

        def agent(turn: Turn) -> str:
            body = {"copyOf": turn.body["case"], "copy": "x"}
            return f"```json\n{json.dumps(body)}\n```"

        self.assertIn("the model did not get it", self.find(agent).evidence)

    def test_altered_answer(self) -> None:
        """
        The answer must arrive as well.
        """

        def agent(turn: Turn) -> str:
            return turn.ask_model().text.replace("SHA", "sha")

        self.assertIn("but not its answer", self.find(agent).evidence)

    def test_refused(self) -> None:
        """
        A refusal is a failure only if ordinary tasks have prompts of that size.
        """
        for code, size, outcome in (
            ("prompt_too_long", SIZES[0], Outcome.FAILED),
            ("prompt_too_long", SIZES[1], Outcome.SKIPPED),
            ("context_full", SIZES[2], Outcome.SKIPPED),
            ("timed_out", SIZES[2], Outcome.FAILED),
        ):
            finding = self.find(lambda turn, code=code: error(500, code), size)  # type: ignore[misc]
            self.assertEqual(finding.outcome, outcome, (code, size))
            self.assertIn(code, finding.evidence)
            self.assertIn(finding.level, (None, Level.LOSSY))
