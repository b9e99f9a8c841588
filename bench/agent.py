"""
Run the stand-in for Kiro with a stopwatch.

At the end of each turn, just before the next prompt is drawn, the time (nanoseconds
on the monotonic clock) is appended to the file that ``BENCH_LOG`` names.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping

from tests.fakekiro import FakeKiro, main


class Stopwatch(FakeKiro):
    """
    Record when each turn ends.
    """

    def __init__(self, faults: Mapping[str, str], log: str | None) -> None:
        super().__init__(faults, log)
        self._over = False
        self._moments = os.open(os.environ["BENCH_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def turn(self, text: str) -> None:
        """
        Serve a turn, and remember that it ended.
        """
        super().turn(text)
        self._over = True

    def prompt(self) -> str:
        """
        Return the prompt; record the end of a turn first.
        """
        if self._over:
            self._over = False
            os.write(self._moments, f"{time.monotonic_ns()}\n".encode())
        return super().prompt()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], Stopwatch))
