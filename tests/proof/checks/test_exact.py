"""
Tests for `kiroworkers.proof.checks.exact`.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from kiroworkers.proof.case import Case
from kiroworkers.proof.checks.check import Finding
from kiroworkers.proof.checks.exact import careless, exact
from kiroworkers.proof.hard_strings import CARELESS, HARD_STRINGS
from kiroworkers.proof.proof import Proof, ProofOptions
from kiroworkers.proof.report import Level, Outcome
from tests.proof.memory import ProofTestCase

REFUSAL = (502, {"code": "unreadable", "error": "It was rendered"})


class ExactTests(ProofTestCase):
    """
    Tests for the checks.
    """

    def find(self, check: Any, proof: Proof) -> Finding:
        """
        Return what `check` finds.
        """
        finding: Finding = self.successResultOf(Deferred.fromCoroutine(check(proof)))
        return finding

    def test_equal(self) -> None:
        """
        Each hard string is asked for once.
        """
        finding = self.find(exact, self.new_proof())
        self.assertIs(finding.outcome, Outcome.PASSED)
        self.assertEqual(len(self.server.calls), len(HARD_STRINGS))

    def test_repaired(self) -> None:
        """
        An answer that was right only after a repair or a retry is right, and the evidence says so.
        """
        self.server.headers = lambda case: (
            {"x-kiroworkers-attempts": "1", "x-kiroworkers-repairs": "1"}
            if "**" in case.text
            else {"x-kiroworkers-attempts": "1"}
        )
        finding = self.find(exact, self.new_proof())
        self.assertEqual(finding.details["repaired"], ["bold", "rule"])
        self.assertIn("67 of 67 texts are equal, 2 after another turn (bold", finding.evidence)

    def test_altered(self) -> None:
        """
        An agent that eats Markdown is lossy, and the classes that it alters are named.
        """

        def render(case: Case) -> tuple[int, Any]:
            return 200, {**case.answer, "copy": case.text.replace("**", "")}

        self.server.answer = render
        finding = self.find(exact, self.new_proof())
        self.assertEqual((finding.outcome, finding.level), (Outcome.FAILED, Level.LOSSY))
        self.assertEqual(finding.details["classes"], ["bold", "rule"])
        self.assertIn("2 of 67 texts are not equal; bold: expected", finding.evidence)

    def test_leak(self) -> None:
        """
        An answer with the text of another case is worse than lossy.
        """
        first: list[Case] = []

        def mix_up(case: Case) -> tuple[int, Any]:
            first.append(case)
            return 200, first[0].answer

        self.server.answer = mix_up
        self.assertIs(self.find(exact, self.new_proof()).level, Level.LEAKS)

    def test_spend(self) -> None:
        """
        With the agent's own service only so many texts are asked for; without turns, none.
        """
        finding = self.find(exact, self.new_proof("service", ProofOptions(spend=8)))
        self.assertEqual((finding.outcome, finding.details["answered"]), (Outcome.PASSED, 5))
        self.assertIn("5 of 67", finding.evidence)
        finding = self.find(exact, self.new_proof("service"))
        self.assertIs(finding.outcome, Outcome.SKIPPED)

    def test_careless_refused(self) -> None:
        """
        An answer of a careless model may be refused, which the evidence says.
        """
        self.server.answer = lambda case: REFUSAL if "**" in case.text else (200, case.answer)
        finding = self.find(careless, self.new_proof())
        self.assertIs(finding.outcome, Outcome.PASSED)
        self.assertIn(f"12 of {len(CARELESS)} texts are equal, 1 refused (bold)", finding.evidence)

    def test_careless_altered(self) -> None:
        """
        It must not be altered.
        """
        self.server.answer = lambda case: (200, {**case.answer, "copy": ""})
        self.assertIs(self.find(careless, self.new_proof()).level, Level.LOSSY)

    def test_refused(self) -> None:
        """
        An answer of a model that did as it was asked must not be refused either.
        """
        self.server.answer = lambda case: REFUSAL if "**" in case.text else (200, case.answer)
        self.assertIs(self.find(exact, self.new_proof()).level, Level.LOSSY)
