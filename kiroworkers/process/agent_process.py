"""
Run one program, on its own PTY or with pipes, and end it with its whole process group.
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

#: Seconds that a program may run on after it closed its standard input or output.
_CLOSED_PIPE_TIMEOUT = 1.0

#: How many times each descriptor of an exited program is read for its last output.
_MAX_FINAL_READS = 8

_STDIN = 0
_STDOUT = 1
_STDERR = 2


@frozen
class Command:
    """
    Represent a program to run.

    Attributes:
        executable: Path of the program.
        arguments: Its arguments, without the program's own name.
        environment: Its whole environment.
        folder: Its working directory.
        window: Rows and columns of its terminal; None to run it with pipes instead.
    """

    executable: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    folder: Path
    window: tuple[int, int] | None


class ProcessGroups(Protocol):
    """
    Keep track of the process groups that this server started.
    """

    def register(self, pgid: int) -> None:
        """
        Record that the process group `pgid` was started.
        """

    def send_signal(self, pgid: int, number: int) -> None:
        """
        Send the signal `number` to every process of the group `pgid`.

        Raises:
            ProcessLookupError: If the group has no processes.
        """

    def unregister(self, pgid: int) -> None:
        """
        Record that the leader of the group `pgid` is gone and the rest has been killed.
        """


class AgentProcess(ProcessProtocol):
    """
    Run one program and signal its whole process group.

    The program leads a process group of its own: Twisted starts a new session for a
    child on a PTY, and `setsid_exec` does so for one with pipes.

    Args:
        clock: Schedules the SIGKILL that follows an ignored SIGTERM.
        groups: Registers and signals the program's process group.
        grace: Seconds from SIGTERM to SIGKILL.
        on_output: Called with each chunk of output.
        on_stderr: Called with each chunk of standard error.  On a PTY standard error
            is part of the output.
        on_exit: Called once, when the process is gone, with a description of how it
            ended, such as "exit status 1" or "killed by SIGTERM".

    Attributes:
        pid: Process id, which is also the process group's; None while no process runs.
    """

    def __init__(
        self,
        clock: IReactorTime,
        groups: ProcessGroups,
        grace: float,
        on_output: Callable[[bytes], None],
        on_stderr: Callable[[bytes], None],
        on_exit: Callable[[str], None],
    ) -> None:
        self._clock = clock
        self._groups = groups
        self._grace = grace
        self._on_output = on_output
        self._on_stderr = on_stderr
        self._on_exit = on_exit
        self._kill_timer: IDelayedCall | None = None
        self._closed_pipe_timer: IDelayedCall | None = None
        self._closed_its_pipes = False
        self.pid: int | None = None

    def connectionMade(self) -> None:
        """
        Register the new process group.
        """
        assert self.transport is not None
        pid = self.transport.pid
        assert pid is not None, "a process that was spawned has an id"
        self.pid = pid
        self._groups.register(pid)

    def write(self, data: bytes) -> None:
        """
        Write `data` to the program's terminal or standard input.
        """
        assert self.transport is not None
        self.transport.write(data)

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """
        Pass output on, separating standard error where the program has pipes.
        """
        if childFD == _STDERR:
            self._on_stderr(data)
        else:
            self._on_output(data)

    def childConnectionLost(self, childFD: int) -> None:
        """
        Terminate a program that closes its input or output but does not exit.
        """
        # Usually the program is exiting.  If it lives on, it can no longer be used.
        if childFD != _STDERR and self._closed_pipe_timer is None:
            self._closed_pipe_timer = self._clock.callLater(
                _CLOSED_PIPE_TIMEOUT, self._terminate_after_close
            )

    def _terminate_after_close(self) -> None:
        if self.pid is not None:
            self._closed_its_pipes = True
            self.terminate()

    def terminate(self) -> None:
        """
        End the whole process group: send SIGTERM now, and SIGKILL after the grace period.
        """
        if self._kill_timer is None and self.pid is not None:
            self._send_signal(signal.SIGTERM)
            self._kill_timer = self._clock.callLater(self._grace, self._send_signal, signal.SIGKILL)

    def processExited(self, reason: Failure) -> None:
        """
        Kill the rest of the group and read the last output.
        """
        # Whatever is left of the group would hold the PTY or the pipes, and Twisted
        # would wait for it.  Nothing of a session may outlive its leader.
        self._send_signal(signal.SIGKILL)
        transport: Any = self.transport
        pipes = getattr(transport, "pipes", None)
        # A PTY's transport is itself the descriptor.
        outputs = (
            [transport]
            if pipes is None
            else [pipes[fd] for fd in (_STDOUT, _STDERR) if fd in pipes]
        )
        for descriptor in outputs:
            # The last output may still be unread.  `doRead` returns None as long as
            # there was more.  Never read a disconnected descriptor: its number may
            # already belong to another connection.
            for _ in range(_MAX_FINAL_READS):
                if descriptor.disconnected or descriptor.doRead() is not None:
                    break
        if pipes is not None and _STDIN in pipes:
            # Nobody reads it any more; it would otherwise stay open until it is flushed.
            pipes[_STDIN].connectionLost(Failure(ConnectionDone()))
        transport.loseConnection()

    def processEnded(self, reason: Failure) -> None:
        """
        Unregister the group and report how the program ended.
        """
        for timer in (self._kill_timer, self._closed_pipe_timer):
            if timer is not None and timer.active():
                timer.cancel()
        if self.pid is not None:
            self._groups.unregister(self.pid)
            self.pid = None
        description = _describe_exit(reason)
        self._on_exit(f"closed its pipes; {description}" if self._closed_its_pipes else description)

    def _send_signal(self, number: int) -> None:
        if self.pid is None:
            return
        try:
            self._groups.send_signal(self.pid, number)
        except ProcessLookupError:
            # The group is gone or not there yet: signal this one process.
            with suppress(ProcessExitedAlready):
                transport: Any = self.transport
                transport.signalProcess(number)
        except PermissionError:
            pass  # On macOS: only zombies are left.


def _describe_exit(reason: Failure) -> str:
    error = reason.value
    if isinstance(error, ProcessDone):
        return "exit status 0"
    number = getattr(error, "signal", None)
    if number is not None:
        return f"killed by {signal.Signals(number).name}"
    return f"exit status {getattr(error, 'exitCode', None)}"


def start(reactor: IReactorProcess, process: AgentProcess, command: Command) -> None:
    """
    Run `command` as `process`, on a new PTY with echo off or with pipes.

    Raises:
        OSError: If the working directory does not exist, or if no PTY, pipe or process
            can be created.
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
            # The interface declares a bool; its documentation also allows this tuple.
            usePTY=(master, slave, os.ttyname(slave)),  # type: ignore[arg-type]
        )
    except BaseException:
        os.close(master)
        os.close(slave)
        raise
