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
from kiroworkers.proof.report import Level, Outcome
from kiroworkers.proof.run import ProofOptions, ProofRun
from tests.proof.memory import ProofTestCase

REFUSAL = (502, {"code": "unreadable", "error": "It was rendered"})


class ExactTests(ProofTestCase):
    """
    Tests for the checks.
    """

    def find(self, check: Any, proof: ProofRun) -> Finding:
        """
        Return what `check` finds.
        """
        finding: Finding = self.successResultOf(Deferred.fromCoroutine(check(proof)))
        return finding

    def test_equal(self) -> None:
        """
        Every hard string is asked for, several of them in one text.
        """
        proof = self.new_proof()
        finding = self.find(exact, proof)
        self.assertIs(finding.outcome, Outcome.PASSED)
        self.assertIn("67 of 67 texts are equal", finding.evidence)
        self.assertLess(len(self.server.calls), 30)
        texts = [case.text for case in proof.cases]
        for text in HARD_STRINGS.values():
            self.assertTrue(any(text in each for each in texts), text)

    def test_no_loop(self) -> None:
        """
        No long word repeats itself for more than a line: agents stop a model that runs in a loop.
        """
        word = HARD_STRINGS["long word 1100"].partition(" ")[0]
        pieces = [word[place : place + 20] for place in range(len(word) - 19)]
        self.assertEqual(len(set(pieces)), len(pieces))

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
        self.assertEqual(finding.details["repaired"], ["Markdown in lines", "Markdown in blocks"])
        self.assertIn("67 of 67 texts are equal, 2 after another turn (Mark", finding.evidence)

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

    def test_altered_together(self) -> None:
        """
        Texts that are altered only together fail under the name of their group.
        """
        self.server.answer = lambda case: (
            200,
            {
                **case.answer,
                "copy": case.text.replace("**", "") if len(case.text) > 200 else case.text,
            },
        )
        finding = self.find(exact, self.new_proof())
        self.assertIs(finding.outcome, Outcome.FAILED)
        self.assertEqual(finding.details["classes"], ["Markdown in lines", "Markdown in blocks"])

    def test_leak_in_a_group(self) -> None:
        """
        A leak that only the text of a group has shown stays a leak.
        """
        self.server.answer = lambda case: (
            200,
            {**case.answer, "copy": "case-" + "0" * 16 if len(case.text) > 200 else "wrong"},
        )
        self.assertIs(self.find(exact, self.new_proof()).level, Level.LEAKS)

    def test_not_asked(self) -> None:
        """
        An agent that copies by itself, without its model, proves nothing.
        """
        self.server.asks = False
        for check in (exact, careless):
            finding = self.find(check, self.new_proof())
            self.assertIs(finding.level, Level.LOSSY)
            self.assertIn("its model was not asked", finding.evidence)

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
        self.assertIs(finding.outcome, Outcome.PASSED)
        self.assertEqual(len(self.server.calls), 5)
        self.assertLess(finding.details["answered"], len(HARD_STRINGS))
        finding = self.find(exact, self.new_proof("service"))
        self.assertIs(finding.outcome, Outcome.SKIPPED)

    def test_careless_together(self) -> None:
        """
        What belongs together is in one text of a careless model, too.
        """
        proof = self.new_proof()
        finding = self.find(careless, proof)
        self.assertIn(f"{len(CARELESS)} of {len(CARELESS)} texts are equal", finding.evidence)
        self.assertLess(len(self.server.calls), len(CARELESS) - 5)
        for name in CARELESS:
            self.assertTrue(any(HARD_STRINGS[name] in case.text for case in proof.cases), name)

    def test_careless_refused(self) -> None:
        """
        An answer of a careless model may be refused, which the evidence says.
        """
        self.server.answer = lambda case: REFUSAL if "**" in case.text else (200, case.answer)
        finding = self.find(careless, self.new_proof())
        self.assertIs(finding.outcome, Outcome.PASSED)
        self.assertIn(f"12 of {len(CARELESS)} texts are equal, 1 refused (bold)", finding.evidence)

    def test_careless_crashed(self) -> None:
        """
        An agent that ends, or is too late, has refused nothing.
        """
        for code, name in ((502, "session_lost"), (502, "agent_error"), (504, "timed_out")):
            self.server.answer = lambda case, code=code, name=name: (  # type: ignore[misc]
                code,
                {"code": name, "error": "It ended"},
            )
            finding = self.find(careless, self.new_proof())
            self.assertEqual((finding.outcome, finding.level), (Outcome.FAILED, Level.LOSSY))

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
