"""
The stand-in of Kiro with a stopwatch: when a turn is over, the moment (of the
monotonic clock, in ns) is added to the file that ``BENCH_LOG`` names, just
before the next prompt is drawn.
"""

from __future__ import annotations

import os
import sys
import time

from tests.fakekiro import FakeKiro, main


class Stopwatch(FakeKiro):
    """
    Says when its turns are over.
    """

    _over = False

    def turn(self, text: str) -> None:
        super().turn(text)
        self._over = True

    def prompt(self) -> str:
        if self._over:
            self._over = False
            log = os.open(os.environ["BENCH_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.write(log, f"{time.monotonic_ns()}\n".encode())
            os.close(log)
        return super().prompt()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], Stopwatch))
