"""
Run the agent's own command that reports whether a user is logged in.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IDelayedCall, IReactorProcess, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

_log = Logger()

#: Seconds after which the command is killed.
_TIMEOUT = 20.0


def check_login(
    reactor: Any, command: Sequence[str], environment: Mapping[str, str]
) -> Deferred[bool]:
    """
    Run `command` and return a Deferred that fires with whether it exited with status 0.

    The command is killed, and the result is False, after 20 seconds.  Cancelling the
    Deferred kills it too.  The result is False as well if the command cannot be started.
    """
    check = _LoginCheck(reactor)
    spawner: IReactorProcess = reactor
    # Its output is not needed, and with /dev/null nothing waits for a child it leaves.
    try:
        devnull = os.open(os.devnull, os.O_RDWR)
    except OSError as error:
        return _not_started(command, error)
    try:
        spawner.spawnProcess(
            check,
            command[0],
            list(command),
            env=dict(environment),
            childFDs=dict.fromkeys((0, 1, 2), devnull),
        )
    except OSError as error:
        return _not_started(command, error)
    finally:
        os.close(devnull)
    return check.result


def _not_started(command: Sequence[str], error: OSError) -> Deferred[bool]:
    _log.warn(
        "cannot check the login with {command}: {error}", command=" ".join(command), error=error
    )
    return succeed(False)


class _LoginCheck(ProcessProtocol):
    def __init__(self, clock: IReactorTime) -> None:
        self.result: Deferred[bool] = Deferred(lambda _: self._kill())
        self._clock = clock
        self._timer: IDelayedCall | None = None

    def connectionMade(self) -> None:
        self._timer = self._clock.callLater(_TIMEOUT, self._kill)

    def processExited(self, reason: Failure) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if not self.result.called:
            self.result.callback(getattr(reason.value, "exitCode", None) == 0)

    def _kill(self) -> None:
        assert self.transport is not None
        with suppress(ProcessExitedAlready):
            self.transport.signalProcess("KILL")
