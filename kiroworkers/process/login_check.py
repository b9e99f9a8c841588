"""
Run the agent's own command that reports whether a user is logged in.

A program that is started while nobody is logged in may open a browser, or wait for a login
for good.  Therefore `LoginGate` lets a session start only once the command has been asked.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ProcessDone, ProcessExitedAlready
from twisted.internet.interfaces import IDelayedCall, IReactorProcess, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from kiroworkers.process.supervisor import descendants

_log = Logger()

#: Seconds after which the command is killed.
_TIMEOUT = 20.0

#: How much of the command's output is read, in bytes.
_MAX_OUTPUT = 4096


class NotLoggedIn(Exception):
    """
    Raised when a session must not start because nobody is logged in to its agent.
    """


class LoginGate:
    """
    Let sessions start, except while nobody is logged in to their agent.

    The agent is asked before the first session, and again after `doubt`.

    Args:
        ask: Asks the agent.  Its Deferred fires with True or False, or with None if it is
            unknown whether somebody is logged in.
    """

    def __init__(self, ask: Callable[[], Deferred[bool | None]]) -> None:
        self._ask = ask
        self._open = False
        self._asking: Deferred[None] | None = None
        self._waiting: list[Deferred[None]] = []

    def doubt(self) -> None:
        """
        Ask again before the next session, because one never became ready.
        """
        self._open = False

    def check(self) -> Deferred[bool]:
        """
        Ask the agent, and let sessions start if somebody is known to be logged in.
        """

        def checked(logged_in: bool | None) -> bool:
            if logged_in:
                self._open = True
            return logged_in is True

        return self._ask().addCallback(checked)

    def wait(self) -> Deferred[None] | None:
        """
        Return None if a session may start at once, or else a Deferred that fires when it may.

        It fails with `NotLoggedIn` if nobody is logged in.
        """
        if self._open:
            return None
        waiting: Deferred[None] = Deferred(self._abandon)
        self._waiting.append(waiting)
        if len(self._waiting) == 1:
            asking = self._ask().addErrback(lambda _: None)
            self._asking = asking.addCallback(self._answered)
        return waiting

    def _abandon(self, waiting: Deferred[None]) -> None:
        self._waiting.remove(waiting)
        if not self._waiting and self._asking is not None:
            self._asking.cancel()

    def _answered(self, logged_in: bool | None) -> None:
        self._asking = None
        if not self._waiting:
            return  # All waiting sessions were abandoned.
        # If it is unknown, the session starts, and shows what is wrong.
        self._open = logged_in is not False
        waiting, self._waiting = self._waiting, []
        for deferred in waiting:
            if self._open:
                deferred.callback(None)
            else:
                deferred.errback(NotLoggedIn())


def check_login(
    reactor: Any,
    command: Sequence[str],
    environment: Mapping[str, str],
    logged_out: re.Pattern[str] | None = None,
) -> Deferred[bool | None]:
    """
    Run `command` and return a Deferred that fires with whether somebody is logged in.

    It fires with True if the command exits with status 0, and with False if it exits with
    another status and says that nobody is logged in.  In all other cases, such as a broken
    program, it fires with None.  The command is killed after 20 seconds, and when the Deferred
    is cancelled.

    Args:
        reactor: Runs the command.
        command: The program and its arguments.
        environment: Its environment.
        logged_out: The pattern for what it prints if nobody is logged in.
    """
    # A file and not a pipe: nothing has to wait for a child that the command leaves behind.
    output: int | None = None
    try:
        output = os.memfd_create("login")
        check = _LoginCheck(reactor, output, logged_out)
        spawner: IReactorProcess = reactor
        with open(os.devnull, "rb") as nothing:
            spawner.spawnProcess(
                check,
                command[0],
                list(command),
                env=dict(environment),
                childFDs={0: nothing.fileno(), 1: output, 2: output},
            )
    except OSError as error:
        if output is not None:
            os.close(output)
        _log.warn(
            "cannot check the login with {command}: {error}", command=" ".join(command), error=error
        )
        return succeed(None)
    return check.result


class _LoginCheck(ProcessProtocol):
    def __init__(
        self, clock: IReactorTime, output: int, logged_out: re.Pattern[str] | None
    ) -> None:
        self.result: Deferred[bool | None] = Deferred(lambda _: self._kill())
        self._clock = clock
        self._output = output
        self._logged_out = logged_out
        self._timer: IDelayedCall | None = None
        self._killed = False

    def connectionMade(self) -> None:
        self._timer = self._clock.callLater(_TIMEOUT, self._kill)

    def processExited(self, reason: Failure) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        text = os.pread(self._output, _MAX_OUTPUT, 0).decode("utf-8", "replace")
        os.close(self._output)
        if self.result.called:
            return
        if self._killed:
            self.result.callback(None)
        elif reason.check(ProcessDone):
            self.result.callback(True)
        else:
            says_so = self._logged_out is not None and self._logged_out.search(text)
            self.result.callback(False if says_so else None)

    def _kill(self) -> None:
        self._killed = True
        transport: Any = self.transport
        # If only a launcher got a signal, the program that it has started would go on.
        for pid in descendants(transport.pid) if transport.pid else ():
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        with suppress(ProcessExitedAlready):
            transport.signalProcess("KILL")
