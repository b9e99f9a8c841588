"""
Tests for `kiroworkers.doctor.limits`.
"""

from __future__ import annotations

import errno
import os

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.doctor.finding import Outcome
from kiroworkers.doctor.limits import (
    cgroup_limit,
    check_memory,
    check_open_files,
    check_processes,
    check_terminals,
)
from tests.programs import folder_outside

_GIB = 1024**3


class LimitsTests(SynchronousTestCase):
    """
    Tests for the checks of the operating system's limits.
    """

    def test_open_files(self) -> None:
        """
        Too few descriptors for the sessions are a failure, too few for the connections a
        warning that says which number would do.
        """
        for soft, hard, outcome, part in [
            (100_000, 100_000, Outcome.OK, "1088 needed"),
            (-1, -1, Outcome.OK, "unlimited"),
            (1024, 4096, Outcome.WARNING, "LimitNOFILE=1088"),
            (1024, 4096, Outcome.WARNING, "lower --max-connections to 936"),
            (1024, 1024, Outcome.WARNING, "the hard limit is 1024"),
            (64, 4096, Outcome.FAILURE, "the sessions alone need 88"),
        ]:
            finding = check_open_files(soft, hard, connections=1000, sessions=3, infinity=-1)
            self.assertIs(finding.outcome, outcome, finding)
            self.assertIn(part, f"{finding.detail} {finding.advice}")

    def test_processes(self) -> None:
        """
        The user's processes that run already count, unless the user is root.
        """
        for soft, running, uid, outcome in [
            (1000, 10, 1000, Outcome.OK),
            (100, 90, 1000, Outcome.WARNING),
            (100, 200, 1000, Outcome.WARNING),
            (100, 200, 0, Outcome.OK),
            (-1, 10**6, 1000, Outcome.OK),
        ]:
            finding = check_processes(soft, running, 2, uid, infinity=-1)
            self.assertIs(finding.outcome, outcome, finding)
        self.assertIn("0 are free", check_processes(100, 200, 2, 1000).detail)

    def test_memory(self) -> None:
        """
        There must be memory for idle sessions now, and for the largest ones altogether.
        """
        for available, total, outcome in [
            (6 * _GIB, 8 * _GIB, Outcome.OK),
            (_GIB // 2, 8 * _GIB, Outcome.WARNING),
            (3 * _GIB, 4 * _GIB, Outcome.WARNING),
        ]:
            finding = check_memory(available, total, 3, 2 * _GIB)
            self.assertIs(finding.outcome, outcome, finding)

    def test_cgroup_limit(self) -> None:
        """
        The limit of a container is a number of bytes; without one there is no limit.
        """
        folder = folder_outside(self)
        self.assertIsNone(cgroup_limit(folder))
        for text, limit in [("max\n", None), ("1048576\n", 1048576)]:
            (folder / "memory.max").write_text(text)
            self.assertEqual(cgroup_limit(folder), limit)

    def test_terminals(self) -> None:
        """
        A pseudo-terminal must be free, and as many as there may be sessions.
        """

        def none_left() -> tuple[int, int]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        folder = folder_outside(self)
        finding = check_terminals(3, folder=folder)
        self.assertEqual(finding.detail, "a pseudo-terminal can be opened")
        for limit, used, outcome in [(4096, 12, Outcome.OK), (16, 14, Outcome.WARNING)]:
            (folder / "max").write_text(f"{limit}\n")
            (folder / "nr").write_text(f"{used}\n")
            self.assertIs(check_terminals(3, folder=folder).outcome, outcome)
        finding = check_terminals(3, none_left, folder)
        self.assertIs(finding.outcome, Outcome.FAILURE)
        self.assertIn("kernel.pty.max", finding.advice)

    def test_terminal_is_closed(self) -> None:
        """
        The pseudo-terminal that was opened is closed again.
        """
        opened: list[int] = []

        def openpty() -> tuple[int, int]:
            opened.extend(os.openpty())
            return opened[0], opened[1]

        check_terminals(1, openpty)
        for descriptor in opened:
            self.assertRaises(OSError, os.fstat, descriptor)
