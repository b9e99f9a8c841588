"""
Asking the agent's own command whether somebody is logged in.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IDelayedCall, IReactorProcess, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

#: Seconds the command may take.
_PATIENCE = 20.0


def check_login(
    reactor: Any, command: Sequence[str], environment: Mapping[str, str]
) -> Deferred[bool]:
    """
    Run `command`; fires with whether it exited with 0.  Cancelling it, or too
    long a silence, kills it and means no.

    Raises:
        OSError: when it cannot be started.
    """
    check = _Check(reactor)
    spawner: IReactorProcess = reactor
    # What it prints is not wanted, and a child that it leaves must not be waited for.
    nothing = os.open(os.devnull, os.O_RDWR)
    try:
        spawner.spawnProcess(
            check,
            command[0],
            list(command),
            env=dict(environment),
            childFDs=dict.fromkeys((0, 1, 2), nothing),
        )
    finally:
        os.close(nothing)
    return check.result


class _Check(ProcessProtocol):
    def __init__(self, clock: IReactorTime) -> None:
        self.result: Deferred[bool] = Deferred(lambda _: self._kill())
        self._clock = clock
        self._alarm: IDelayedCall | None = None

    def connectionMade(self) -> None:
        self._alarm = self._clock.callLater(_PATIENCE, self._kill)

    def processExited(self, reason: Failure) -> None:
        if self._alarm is not None and self._alarm.active():
            self._alarm.cancel()
        if not self.result.called:
            self.result.callback(getattr(reason.value, "exitCode", None) == 0)

    def _kill(self) -> None:
        assert self.transport is not None
        with suppress(ProcessExitedAlready):
            self.transport.signalProcess("KILL")
