"""
Run the stand-in for Kiro, and write down each prompt: when, on which server, and about what.

The file that ``CLUSTER_TURNS`` names gets a line when a prompt arrives and one when it was
answered; `bench.cluster.turns` reads it.  ``CLUSTER_SERVER`` is the name of the server.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Mapping

from tests.fakekiro import FakeKiro, main

_IDEA = re.compile(r'"idea": ?"idea ([\w-]+)')


class WritingKiro(FakeKiro):
    """
    Write down when each turn begins and ends.
    """

    def __init__(self, faults: Mapping[str, str], log: str | None) -> None:
        super().__init__(faults, log)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        self._turns = os.open(os.environ["CLUSTER_TURNS"], flags, 0o600)
        self._server = os.environ["CLUSTER_SERVER"]
        self._idea = ""

    def turn(self, text: str) -> None:
        """
        Serve a turn.
        """
        match = _IDEA.search(text)
        self._idea = match[1] if match is not None else "?"
        self._note("asked")
        super().turn(text)
        self._note("answered")

    def _note(self, event: str) -> None:
        line = f"{event} {time.monotonic_ns()} {self._server} {os.getpid()} {self._idea}\n"
        os.write(self._turns, line.encode())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], WritingKiro))
