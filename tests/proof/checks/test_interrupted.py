"""
Tests for `kiroworkers.proof.checks.interrupted`.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from kiroworkers.proof.checks.check import CheckFailed, Finding
from kiroworkers.proof.checks.interrupted import cancel, timeout
from kiroworkers.proof.report import Level, Outcome
from tests.proof.memory import ProofTestCase


class InterruptedTests(ProofTestCase):
    """
    Tests for `cancel` and `timeout`.
    """

    def find(self, check: Any) -> Deferred[Finding]:
        """
        Start `check`.
        """
        return Deferred.fromCoroutine(check(self.new_proof()))

    def failed(self, finding: Deferred[Finding]) -> Finding:
        """
        Return the finding with which a check has ended.
        """
        failure = self.failureResultOf(finding, CheckFailed)
        assert isinstance(failure.value, CheckFailed)
        self.assertIs(failure.value.finding.outcome, Outcome.FAILED)
        return failure.value.finding

    def test_cancel(self) -> None:
        """
        An agent that leaves the model when its client hangs up, and goes on, passes.
        """
        finding = self.find(cancel)
        self.assertNoResult(finding)
        self.clock.advance(0.1)
        result = self.successResultOf(finding)
        self.assertIs(result.outcome, Outcome.PASSED)
        self.assertIn("left the model after 0.10 s", result.evidence)

    def test_stubborn(self) -> None:
        """
        One that goes on with the model fails.
        """
        self.server.stubborn = True
        for check in (cancel, timeout):
            finding = self.find(check)
            self.clock.pump([1] * 60)
            self.assertIn("still waited for the model", self.failed(finding).evidence)

    def test_leak_after(self) -> None:
        """
        A turn that was interrupted must not be known to the next one.
        """
        finding = self.find(cancel)
        self.server.history = [next(iter(self.model.requests)).case_id or ""]
        self.clock.advance(0.1)
        self.assertIs(self.successResultOf(finding).level, Level.LEAKS)

    def test_wrong_after(self) -> None:
        """
        The answers after it must be right.
        """
        finding = self.find(cancel)
        self.server.answer = lambda case: (200, {"copyOf": case.id, "copy": ""})
        self.clock.advance(0.1)
        self.assertIs(self.failed(finding).level, Level.LOSSY)

    def test_timeout(self) -> None:
        """
        The client gets 504 at the deadline, which is a few usual turns after the request.
        """
        finding = self.find(timeout)
        self.clock.advance(3.9)
        self.assertNoResult(finding)
        self.clock.pump([0.1, 0.1])
        self.assertIn("504 after 4.0 s", self.successResultOf(finding).evidence)

    def test_other_response(self) -> None:
        """
        Another response than 504 at the deadline fails.
        """
        self.server.late_code = 502
        finding = self.find(timeout)
        self.clock.pump([4, 0.1])
        self.assertIn("expected 504 after 4 s, received 502", self.failed(finding).evidence)

    def test_busy_machine(self) -> None:
        """
        A deadline that passes before the agent asks its model grows, and is tried again.
        """
        self.server.deaf = iter([False, True, True])
        finding = self.find(timeout)
        self.clock.advance(35.9)
        self.assertNoResult(finding)
        self.clock.pump([0.1, 0.1])
        self.assertIn("504 after 36.0 s", self.successResultOf(finding).evidence)

    def test_never_asks(self) -> None:
        """
        An agent that never asks its model fails.
        """
        for check, deaf in ((cancel, [True]), (timeout, [False, True, True, True])):
            self.server.deaf = iter(deaf)
            finding = self.failed(self.find(check))
            self.assertIn("504 before the agent asked its model", finding.evidence)
