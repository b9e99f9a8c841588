"""
Run the stand-ins with a stopwatch for both ends of a turn.

When a turn begins, and just before its end is reported, the event and the time (nanoseconds on
the monotonic clock) are appended to the file that ``BENCH_LOG`` names.  The arguments are
those of ``kiro-cli``; ``generic`` stands for an agent that speaks ACP and nothing more.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from typing import Any

from tests import fakekiro
from tests.fakeacp import FakeAcp
from tests.fakekiro import FakeKiro, faults_in
from tests.kiro_acp import launcher
from tests.kiro_acp.v2 import EngineV2
from tests.kiro_acp.v3 import EngineV3

_LOG = os.open(os.environ["BENCH_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def _stamp(event: str) -> None:
    os.write(_LOG, f"{event} {time.monotonic_ns()}\n".encode())


class _Turns(FakeAcp):
    """
    Record when a turn over ACP begins, and when its response is sent.
    """

    def _begin_turn(self, session: str, text: str, faults: Mapping[str, str]) -> None:
        _stamp("begin")
        super()._begin_turn(session, text, faults)

    def _end_turn(
        self, id: Any, session: str, result: Mapping[str, Any], faults: Mapping[str, str]
    ) -> None:
        _stamp("end")
        super()._end_turn(id, session, result, faults)


class _V2(_Turns, EngineV2):
    pass


class _V3(_Turns, EngineV3):
    pass


class _Terminal(FakeKiro):
    """
    Record when a turn on a terminal begins, and when the next prompt is drawn.
    """

    _over = False

    def turn(self, text: str) -> None:
        """
        Serve a turn.
        """
        _stamp("begin")
        super().turn(text)
        self._over = True

    def prompt(self) -> str:
        """
        Return the prompt; record the end of a turn first.
        """
        if self._over:
            self._over = False
            _stamp("end")
        return super().prompt()


def main(arguments: list[str]) -> int:
    """
    Run the stand-in that the arguments select, and return the exit status.
    """
    match arguments:
        case ["generic"]:
            return _Turns(faults_in(os.environ.get("FAKEKIRO", ""))).run()
        case ["acp", *_]:
            return launcher.main(arguments, {"v2": _V2, "v3": _V3})
    return fakekiro.main(arguments, _Terminal)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
