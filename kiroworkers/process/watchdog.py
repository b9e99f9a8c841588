"""
Ends the sessions of a server that died without a word.

A killed server cannot clean up.  A hang-up of the PTY ends most programs then,
but not one that ignores it or hangs.  So the server tells a small program of
ours (`reaper`) over a pipe which process groups are its own; when the pipe
closes, whatever the reason, that program kills the groups that are left.
"""

from __future__ import annotations

import os
import sys

from twisted.internet.interfaces import IReactorProcess
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from kiroworkers.process import watchdog_child


class Watchdog:
    """
    The process groups of this server, as `process.Groups`.  Its program starts
    with the first of them, and again with the next should it ever be lost.
    """

    def __init__(self, reactor: IReactorProcess) -> None:
        self._reactor = reactor
        self._groups: set[int] = set()
        self._pipe: _Pipe | None = None

    def began(self, pgid: int) -> None:
        """
        Kill the group `pgid` when this server dies.
        """
        self._groups.add(pgid)
        if self._pipe is None or not self._pipe.open:
            self._pipe = _Pipe()
            self._reactor.spawnProcess(
                self._pipe,
                sys.executable,
                [sys.executable, "-I", "-S", str(watchdog_child.__file__)],
                env={},
                path="/",
                childFDs={0: "w"},
            )
            for each in self._groups:
                self._pipe.tell(f"+{each}")
        else:
            self._pipe.tell(f"+{pgid}")

    def send(self, pgid: int, number: int) -> None:
        """
        Send the signal `number` to the group `pgid`.
        """
        os.killpg(pgid, number)

    def ended(self, pgid: int) -> None:
        """
        The group `pgid` is gone.
        """
        self._groups.discard(pgid)
        if self._pipe is not None:
            self._pipe.tell(f"-{pgid}")

    def stop(self) -> None:
        """
        Let the program go; it kills what it still watches.
        """
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None


class _Pipe(ProcessProtocol):
    _log = Logger()

    def __init__(self) -> None:
        self.open = True
        self._closing = False

    def tell(self, line: str) -> None:
        if self.open and self.transport is not None:
            self.transport.write(line.encode() + b"\n")

    def close(self) -> None:
        self._closing = True
        if self.open and self.transport is not None:
            self.transport.closeStdin()

    def processEnded(self, reason: Failure) -> None:
        self.open = False
        if not self._closing:
            self._log.warn("the guard ended: {reason}", reason=reason.getErrorMessage())
