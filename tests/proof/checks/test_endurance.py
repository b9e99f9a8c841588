"""
Tests for `kiroworkers.proof.checks.endurance`.
"""

from __future__ import annotations

from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.proof.checks.check import CheckFailed
from kiroworkers.proof.checks.endurance import (
    Sample,
    growth,
    memory_early_and_late,
    sizes,
    turnaround,
)
from kiroworkers.proof.report import Outcome
from tests.proof.memory import error, fake_proof


class MemoryTests(SynchronousTestCase):
    """
    Tests for `memory_early_and_late`.
    """

    def test_growing(self) -> None:
        """
        The medians of the first and of the last third are compared, without the first sample.
        """
        samples = [
            Sample(turns, {1: size, 2: size + 2}) for turns, size in enumerate([10, 100, 200, 300])
        ]
        self.assertEqual(memory_early_and_late(samples), (101, 301))

    def test_replaced_sessions(self) -> None:
        """
        Samples in which no session had a process do not count.
        """
        samples = [Sample(0, {}), Sample(1, {7: 50}), Sample(2, {})]
        self.assertEqual(memory_early_and_late(samples), (50, 50))
        self.assertEqual(memory_early_and_late([Sample(0, {})]), (0, 0))


class FileTests(SynchronousTestCase):
    """
    Tests for the growth of files.
    """

    def test_growth(self) -> None:
        """
        New and longer files have grown; files that are shorter or gone have not.
        """
        before = {"longer": 10, "same": 10, "shorter": 10, "gone": 10}
        after = {"longer": 15, "same": 10, "shorter": 5, "new": 3}
        self.assertEqual(growth(before, after), {"longer": 5, "new": 3})

    def test_sizes(self) -> None:
        """
        All files below the folders are measured; links count as themselves.
        """
        root = Path(self.mktemp()).absolute()
        (root / "home" / "inner").mkdir(parents=True)
        (root / "home" / "inner" / "file").write_text("12345")
        (root / "home" / "link").symlink_to("/dev/zero")
        measured = sizes(root, [root / "home", root / "nowhere"])
        self.assertEqual(measured["home/inner/file"], 5)
        self.assertEqual(set(measured), {"home/inner/file", "home/link"})


class TurnaroundTests(SynchronousTestCase):
    """
    Tests for `turnaround`.
    """

    def test_measured(self) -> None:
        """
        The median of the turns is reported.
        """
        proof = fake_proof(lambda turn: turn.ask_model().text, Path(self.mktemp()).absolute())
        finding = self.successResultOf(Deferred.fromCoroutine(turnaround(proof)))
        self.assertEqual(finding.outcome, Outcome.PASSED)
        self.assertEqual(finding.details["median"], 0.1)

    def test_wrong_answer(self) -> None:
        """
        A wrong answer ends the check.
        """
        proof = fake_proof(lambda turn: error(502, "unreadable"), Path(self.mktemp()).absolute())
        running = Deferred.fromCoroutine(turnaround(proof))
        self.failureResultOf(running, CheckFailed)
