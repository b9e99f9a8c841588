"""
One program on a PTY of its own: its bytes, its process group, its end.
"""

from __future__ import annotations

import errno
import fcntl
import os
import pty
import signal
import struct
import termios
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from attrs import frozen
from twisted.internet.error import ProcessDone
from twisted.internet.interfaces import IDelayedCall, IReactorProcess, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

#: How many pieces are still read from a program that has ended.
_LAST_READS = 8


@frozen
class Command:
    """
    What to run, where, in which environment, and on how large a terminal.
    """

    executable: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    folder: Path
    rows: int
    columns: int


class Groups(Protocol):
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

        @raise ProcessLookupError: when there is none left.
        """

    def ended(self, pgid: int) -> None:
        """
        The group's leader is gone, and what it left was killed.
        """


class TerminalProcess(ProcessProtocol):
    """
    A program on a PTY.  It leads a process group of its own (twisted gives a
    PTY's child its own session), and signals go to all of that group.

    @param heard: called with each piece of output.
    @param ended: called once, when the process is gone, with how it ended.
    @param grace: seconds from SIGTERM to SIGKILL.
    """

    def __init__(
        self,
        clock: IReactorTime,
        groups: Groups,
        grace: float,
        heard: Callable[[bytes], None],
        ended: Callable[[str], None],
    ) -> None:
        self._clock = clock
        self._groups = groups
        self._grace = grace
        self._heard = heard
        self._ended = ended
        self._kill: IDelayedCall | None = None
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
        self._heard(data)

    def hang_up(self) -> None:
        """
        End the whole group: SIGTERM now, SIGKILL after the grace.
        """
        if self._kill is None and self.pid is not None:
            self._send(signal.SIGTERM)
            self._kill = self._clock.callLater(self._grace, self._send, signal.SIGKILL)

    def processExited(self, reason: Failure) -> None:
        # What is left of the group would hold the PTY, and twisted would wait
        # for it; nothing of a session outlives its leader.
        self._send(signal.SIGKILL)
        # What it said last may still be unread.  A PTY's transport is the
        # descriptor itself; it answers None as long as there was more.  Once it
        # is disconnected its number may be another connection's.
        terminal: Any = self.transport
        for _ in range(_LAST_READS):
            if terminal.disconnected or terminal.doRead() is not None:
                break
        terminal.loseConnection()

    def processEnded(self, reason: Failure) -> None:
        if self._kill is not None and self._kill.active():
            self._kill.cancel()
        if self.pid is not None:
            self._groups.ended(self.pid)
            self.pid = None
        self._ended(_how(reason))

    def _send(self, number: int) -> None:
        if self.pid is not None:
            # The group may be gone, or (macOS) be only zombies.
            with suppress(ProcessLookupError, PermissionError):
                self._groups.send(self.pid, number)


def _how(reason: Failure) -> str:
    error = reason.value
    if isinstance(error, ProcessDone):
        return "exit status 0"
    number = getattr(error, "signal", None)
    if number is not None:
        return f"killed by {signal.Signals(number).name}"
    return f"exit status {getattr(error, 'exitCode', None)}"


def start(reactor: IReactorProcess, process: TerminalProcess, command: Command) -> None:
    """
    Run `command` as `process` on a new PTY of its size, with echo off.

    @raise OSError: when no PTY or no process can be had.
    """
    if not os.access(command.folder, os.X_OK):
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), str(command.folder))
    master, slave = pty.openpty()
    try:
        fcntl.ioctl(
            slave, termios.TIOCSWINSZ, struct.pack("HHHH", command.rows, command.columns, 0, 0)
        )
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
