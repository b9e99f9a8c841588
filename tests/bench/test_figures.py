"""
Tests for `bench.figures`.
"""

from __future__ import annotations

import os
import time

from twisted.trial.unittest import SynchronousTestCase

from bench.figures import cpu, percentile, resident


class FigureTests(SynchronousTestCase):
    """
    Tests for the statistics of samples and the kernel's counts.
    """

    def test_percentile(self) -> None:
        """
        A percentile is one of the samples, even if they are few.
        """
        self.assertEqual(percentile([5.0, 1.0, 3.0], 50), 3.0)
        self.assertAlmostEqual(percentile([float(number) for number in range(101)], 99), 99.0)

    def test_cpu(self) -> None:
        """
        The CPU time of a process is that of all its threads, in seconds.
        """
        before, used = cpu(os.getpid()), time.process_time()
        while time.process_time() - used < 0.1:
            pass
        self.assertGreater(cpu(os.getpid()) - before, 0.05)

    def test_resident(self) -> None:
        """
        Memory that was written to is resident, byte for byte.
        """
        before = resident(os.getpid())
        held = bytearray(b"x" * (64 << 20))
        self.assertGreater(resident(os.getpid()) - before, len(held) * 0.9)
