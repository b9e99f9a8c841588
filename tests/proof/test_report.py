"""
Tests for `kiroworkers.proof.report`: what a level demands.
"""

from __future__ import annotations

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.proof.checks.catalogue import ALL_CHECKS
from kiroworkers.proof.report import (
    ESSENTIAL,
    MEMORY_CHECK,
    TOOL_CHECKS,
    CheckResult,
    Level,
    Outcome,
    Report,
)

NAMES = (*ESSENTIAL, *TOOL_CHECKS, MEMORY_CHECK)
PASSED = {name: CheckResult(name, Outcome.PASSED, "", Level.LOSSY) for name in NAMES}


def report(*changed: CheckResult, without: str = "") -> Report:
    """
    Return a report of all essential checks but one, with some results changed.
    """
    results = {**PASSED, **{result.name: result for result in changed}}
    results.pop(without, None)
    checks = tuple(results.values())
    return Report("llm", "llm", "llm 0.36", "1.0", "loopback", "2026-11-29", "Linux", checks)


def skipped(name: str, *offered: str) -> CheckResult:
    """
    Return a skipped check of an agent that offers its model some tools.
    """
    return CheckResult(name, Outcome.SKIPPED, "", Level.UNSAFE, {"offered": [*offered]})


class LevelTests(SynchronousTestCase):
    """
    Tests for `Report.level` and `Report.missing`.
    """

    def test_names(self) -> None:
        """
        Every essential check exists.
        """
        self.assertEqual(set(NAMES) - {check.name for check in ALL_CHECKS}, set())

    def test_exact(self) -> None:
        """
        A version is exact if every essential check has succeeded.
        """
        self.assertIs(report().level, Level.EXACT)

    def test_missing(self) -> None:
        """
        Without one of them, or if one was skipped, nothing is proven.
        """
        for name in (*ESSENTIAL, MEMORY_CHECK):
            partial = report(without=name)
            self.assertEqual((partial.level, partial.missing), (None, (name,)))
        for name in ESSENTIAL:
            self.assertIsNone(report(skipped(name)).level, name)

    def test_memory(self) -> None:
        """
        An agent without a memory may skip the check of it.
        """
        self.assertIs(report(skipped(MEMORY_CHECK)).level, Level.EXACT)

    def test_tools(self) -> None:
        """
        An agent may have only one kind of tool, or none; one whose tools are all unknown may run
        any command.
        """
        command, write = TOOL_CHECKS
        self.assertIs(report(skipped(write, "bash")).level, Level.EXACT)
        self.assertIs(report(skipped(command), skipped(write)).level, Level.EXACT)
        unknown = report(skipped(command, "launch"), skipped(write, "launch"))
        self.assertEqual((unknown.level, unknown.missing), (None, TOOL_CHECKS))

    def test_failed(self) -> None:
        """
        A failure counts, whatever else was checked, unless the check only measures.
        """
        leak = CheckResult("clear", Outcome.FAILED, "", Level.LEAKS)
        loss = CheckResult("exact", Outcome.FAILED, "", Level.LOSSY)
        slow = CheckResult("endurance", Outcome.FAILED, "")
        self.assertIs(report(leak, loss).level, Level.LEAKS)
        self.assertIs(report(slow).level, Level.EXACT)
        self.assertIs(evolve(report(), checks=(loss,)).level, Level.LOSSY)
