"""
The stand-in of Kiro with a stopwatch: when a turn is over, the moment (of the
monotonic clock, in ns) is added to the file that ``BENCH_LOG`` names, just
before the next prompt is drawn.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping

from tests.fakekiro import FakeKiro, main


class Stopwatch(FakeKiro):
    """
    Says when its turns are over.
    """

    def __init__(self, faults: Mapping[str, str], log: str | None) -> None:
        super().__init__(faults, log)
        self._over = False
        self._moments = os.open(os.environ["BENCH_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def turn(self, text: str) -> None:
        super().turn(text)
        self._over = True

    def prompt(self) -> str:
        if self._over:
            self._over = False
            os.write(self._moments, f"{time.monotonic_ns()}\n".encode())
        return super().prompt()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], Stopwatch))
