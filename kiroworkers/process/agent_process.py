"""
One program, on a PTY of its own or with pipes: its bytes, its process group, its
end.
"""

from __future__ import annotations

import errno
import fcntl
import os
import pty
import signal
import struct
import sys
import termios
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from attrs import frozen
from twisted.internet.error import ConnectionDone, ProcessDone, ProcessExitedAlready
from twisted.internet.interfaces import IDelayedCall, IReactorProcess, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from kiroworkers.process import setsid_exec

#: Seconds from the end of a pipe to the end of the program, where the two belong
#: together.
_CLOSED_PATIENCE = 1.0

#: How many pieces are still read from a program that has ended.
_LAST_READS = 8

_STANDARD_INPUT = 0
_STANDARD_ERROR = 2
_OUTPUTS = (1, _STANDARD_ERROR)


@frozen
class Command:
    """
    What to run, where, in which environment, and on how large a terminal (rows and
    columns); without one it has pipes.
    """

    executable: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    folder: Path
    window: tuple[int, int] | None


class ProcessGroups(Protocol):
    """
    The process groups that are ours.
    """

    def began(self, pgid: int) -> None:
        """
        The group `pgid` runs.
        """

    def send(self, pgid: int, number: int) -> None:
        """
        Send the signal `number` to every process of the group.

        Raises:
            ProcessLookupError: when there is none left.
        """

    def ended(self, pgid: int) -> None:
        """
        The group's leader is gone, and what it left was killed.
        """


class AgentProcess(ProcessProtocol):
    """
    A program.  It leads a process group of its own (twisted gives a PTY's child
    its own session, `lead` one that has pipes), and signals go to all of that
    group.

    Args:
        heard: called with each piece of output.
        on_stderr: called with each piece of standard error, where that is not
            the same.
        ended: called once, when the process is gone, with how it ended.
        grace: seconds from SIGTERM to SIGKILL.
    """

    def __init__(
        self,
        clock: IReactorTime,
        groups: ProcessGroups,
        grace: float,
        heard: Callable[[bytes], None],
        on_stderr: Callable[[bytes], None],
        ended: Callable[[str], None],
    ) -> None:
        self._clock = clock
        self._groups = groups
        self._grace = grace
        self._heard = heard
        self._overheard = on_stderr
        self._ended = ended
        self._kill: IDelayedCall | None = None
        self._closed: IDelayedCall | None = None
        self._deaf = False
        self.pid: int | None = None

    def connectionMade(self) -> None:
        assert self.transport is not None
        pid = self.transport.pid
        assert pid is not None, "a process that was made has an id"
        self.pid = pid
        self._groups.began(pid)

    def write(self, data: bytes) -> None:
        """
        Type `data`.
        """
        assert self.transport is not None
        self.transport.write(data)

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        if childFD == _STANDARD_ERROR:
            self._overheard(data)
        else:
            self._heard(data)

    def childConnectionLost(self, childFD: int) -> None:
        # Most often it is ending.  One that lives on can not be talked to.
        if childFD != _STANDARD_ERROR and self._closed is None:
            self._closed = self._clock.callLater(_CLOSED_PATIENCE, self._give_up)

    def _give_up(self) -> None:
        if self.pid is not None:
            self._deaf = True
            self.hang_up()

    def hang_up(self) -> None:
        """
        End the whole group: SIGTERM now, SIGKILL after the grace.
        """
        if self._kill is None and self.pid is not None:
            self._send(signal.SIGTERM)
            self._kill = self._clock.callLater(self._grace, self._send, signal.SIGKILL)

    def processExited(self, reason: Failure) -> None:
        # What is left of the group would hold the PTY or the pipes, and twisted
        # would wait for it; nothing of a session outlives its leader.
        self._send(signal.SIGKILL)
        transport: Any = self.transport
        pipes = getattr(transport, "pipes", None)
        # A PTY's transport is the descriptor itself.
        readers = [transport] if pipes is None else [pipes[fd] for fd in _OUTPUTS if fd in pipes]
        for descriptor in readers:
            # What it said last may still be unread.  A descriptor answers None as
            # long as there was more.  Once it is disconnected its number may be
            # another connection's.
            for _ in range(_LAST_READS):
                if descriptor.disconnected or descriptor.doRead() is not None:
                    break
        if pipes is not None and _STANDARD_INPUT in pipes:
            # Nobody reads it any more; otherwise it would close when it is written.
            pipes[_STANDARD_INPUT].connectionLost(Failure(ConnectionDone()))
        transport.loseConnection()

    def processEnded(self, reason: Failure) -> None:
        for alarm in (self._kill, self._closed):
            if alarm is not None and alarm.active():
                alarm.cancel()
        if self.pid is not None:
            self._groups.ended(self.pid)
            self.pid = None
        how = _how(reason)
        self._ended(f"it closed its pipes, and was {how}" if self._deaf else how)

    def _send(self, number: int) -> None:
        if self.pid is None:
            return
        try:
            self._groups.send(self.pid, number)
        except ProcessLookupError:
            # There is no group, or not yet: then there is this one process.
            with suppress(ProcessExitedAlready):
                transport: Any = self.transport
                transport.signalProcess(number)
        except PermissionError:
            pass  # (macOS) only zombies are left


def _how(reason: Failure) -> str:
    error = reason.value
    if isinstance(error, ProcessDone):
        return "exit status 0"
    number = getattr(error, "signal", None)
    if number is not None:
        return f"killed by {signal.Signals(number).name}"
    return f"exit status {getattr(error, 'exitCode', None)}"


def start(reactor: IReactorProcess, process: AgentProcess, command: Command) -> None:
    """
    Run `command` as `process`: on a new PTY of its size, with echo off, or with
    pipes.

    Raises:
        OSError: when no PTY, no pipe or no process can be had.
    """
    if not os.access(command.folder, os.X_OK):
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), str(command.folder))
    if command.window is None:
        reactor.spawnProcess(
            process,
            sys.executable,
            (
                *(sys.executable, "-I", "-S", str(setsid_exec.__file__)),
                *(command.executable, *command.arguments),
            ),
            env=dict(command.environment),
            path=str(command.folder),
        )
    else:
        _start_on_pty(reactor, process, command, command.window)


def _start_on_pty(
    reactor: IReactorProcess, process: AgentProcess, command: Command, window: tuple[int, int]
) -> None:
    master, slave = pty.openpty()
    try:
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", *window, 0, 0))
        modes = termios.tcgetattr(slave)
        modes[3] &= ~termios.ECHO
        termios.tcsetattr(slave, termios.TCSANOW, modes)
        reactor.spawnProcess(
            process,
            command.executable,
            (command.executable, *command.arguments),
            env=dict(command.environment),
            path=str(command.folder),
            # The interface says bool, its documentation also this tuple.
            usePTY=(master, slave, os.ttyname(slave)),  # type: ignore[arg-type]
        )
    except BaseException:
        os.close(master)
        os.close(slave)
        raise
