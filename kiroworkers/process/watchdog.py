"""
End the sessions of a server that was killed.

A killed server cannot clean up.  The PTY's hang-up then ends most programs, but not
one that ignores SIGHUP or hangs.  The server therefore starts a small helper program
(`watchdog_child`) and tells it over a pipe which process groups it owns.  When the
pipe closes, for whatever reason, the helper kills the groups that are left.
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
    Keep track of this server's process groups, and have them killed if it dies.

    Implements `agent_process.ProcessGroups`.  The helper program is started when the first
    group is registered.  If it is ever lost, it is started again for the next group.
    """

    def __init__(self, reactor: IReactorProcess) -> None:
        self._reactor = reactor
        self._groups: set[int] = set()
        self._pipe: _Pipe | None = None

    def register(self, pgid: int) -> None:
        """
        Have the process group `pgid` killed if this server dies.
        """
        self._groups.add(pgid)
        if self._pipe is None or not self._pipe.is_open:
            self._pipe = _Pipe()
            self._reactor.spawnProcess(
                self._pipe,
                sys.executable,
                [sys.executable, "-I", "-S", str(watchdog_child.__file__)],
                env={},
                path="/",
                childFDs={0: "w"},
            )
            for group in self._groups:
                self._pipe.send_line(f"+{group}")
        else:
            self._pipe.send_line(f"+{pgid}")

    def send_signal(self, pgid: int, number: int) -> None:
        """
        Send the signal `number` to every process of the group `pgid`.

        Raises:
            ProcessLookupError: If the group has no processes.
        """
        os.killpg(pgid, number)

    def unregister(self, pgid: int) -> None:
        """
        Forget the process group `pgid`, which is gone.
        """
        self._groups.discard(pgid)
        if self._pipe is not None:
            self._pipe.send_line(f"-{pgid}")

    def stop(self) -> None:
        """
        Close the pipe, so that the helper kills the remaining groups and exits.
        """
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None


class _Pipe(ProcessProtocol):
    _log = Logger()

    def __init__(self) -> None:
        self.is_open = True
        self._closing = False

    def send_line(self, line: str) -> None:
        if self.is_open and self.transport is not None:
            self.transport.write(line.encode() + b"\n")

    def close(self) -> None:
        self._closing = True
        if self.is_open and self.transport is not None:
            self.transport.closeStdin()

    def processEnded(self, reason: Failure) -> None:
        self.is_open = False
        if not self._closing:
            self._log.warn(
                "the watchdog process ended unexpectedly: {reason}",
                reason=reason.getErrorMessage(),
            )
