"""
Tests for `kiroworkers.proof.program_log`.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.proof.program_log import ProgramEnded, ProgramLog


class ProgramLogTests(SynchronousTestCase):
    """
    Tests for `ProgramLog`.
    """

    def setUp(self) -> None:
        self.log = ProgramLog()

    def test_cut_anywhere(self) -> None:
        """
        Lines are complete wherever the output is cut, also within a character.
        """
        for byte in "größer\nready\nre".encode():
            self.log.feed(bytes([byte]))
        self.assertEqual(self.log.tail(5), ["größer", "ready"])
        self.assertEqual(self.log.count, 2)

    def test_waits(self) -> None:
        """
        A line is found whether it came before or after the wait, but not before the mark.
        """
        self.log.feed(b"worker1: ready\n")
        self.assertEqual(self.successResultOf(self.log.wait("worker1: (ready)", 0))[1], "ready")
        waiting = self.log.wait("worker1: ready", self.log.count)
        self.assertNoResult(waiting)
        self.log.feed(b"worker1: ready\n")
        self.successResultOf(waiting)

    def test_end(self) -> None:
        """
        A wait fails when the program ends; one that was cancelled is forgotten.
        """
        waiting, cancelled = self.log.wait("ready", 0), self.log.wait("ready", 0)
        cancelled.cancel()
        self.failureResultOf(cancelled, CancelledError)
        self.log.end("exit status 78")
        self.assertIn("78", str(self.failureResultOf(waiting, ProgramEnded).value))

    def test_cancels_another(self) -> None:
        """
        A wait that fires or fails may cancel another, on the same line or at the end.
        """
        one, two = self.log.wait("ready", 0), self.log.wait("ready", 0)
        one.addCallback(lambda _: two.cancel())
        self.log.feed(b"ready\n")
        self.successResultOf(one)
        self.failureResultOf(two, CancelledError)
        three, four = self.log.wait("gone", 0), self.log.wait("gone", 0)
        three.addErrback(lambda _: four.cancel())
        self.log.end("exit status 78")
        self.successResultOf(three)
        self.failureResultOf(four, CancelledError)

    def test_bounded(self) -> None:
        """
        Only the last lines are kept, and marks still name the same lines.
        """
        self.log.feed(b"".join(b"line %d\n" % number for number in range(12_000)))
        self.assertEqual(self.log.since(11_998), ["line 11998", "line 11999"])
        self.assertEqual(len(self.log.since(0)), 5000)
