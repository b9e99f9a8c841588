"""
Run one program, on its own PTY or with pipes, and end it with everything that it started.

The program runs below a small program of ours, `supervisor`, which ends last.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import struct
import sys
import termios
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from attrs import frozen
from twisted.internet.error import ConnectionDone, ProcessDone, ProcessExitedAlready
from twisted.internet.interfaces import IDelayedCall, IReactorProcess, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from kiroworkers.process import supervisor

#: Seconds that a program may run on after it closed its standard input or output.
_CLOSED_PIPE_TIMEOUT = 1.0

#: Seconds beyond the grace period after which a supervisor that has not ended is killed.
_SUPERVISOR_TIMEOUT = 15.0

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


class AgentProcess(ProcessProtocol):
    """
    Run one program and its supervisor, and end both.

    Args:
        clock: Schedules what follows if the program closes its pipes.
        grace: Seconds from SIGTERM to SIGKILL, for the program and all that it started.
        on_output: Called with each chunk of output.
        on_stderr: Called with each chunk of standard error.  On a PTY standard error
            is part of the output.
        on_exit: Called once, when the program and all that it started are gone, with a
            description of how it ended, such as "exit status 1" or "killed by SIGTERM".

    Attributes:
        grace: Seconds from SIGTERM to SIGKILL.
        pid: Process id of the supervisor, below which all processes of the program are;
            None while no process runs.
    """

    def __init__(
        self,
        clock: IReactorTime,
        grace: float,
        on_output: Callable[[bytes], None],
        on_stderr: Callable[[bytes], None],
        on_exit: Callable[[str], None],
    ) -> None:
        self._clock = clock
        self.grace = grace
        self._on_output = on_output
        self._on_stderr = on_stderr
        self._on_exit = on_exit
        self._kill_timer: IDelayedCall | None = None
        self._closed_pipe_timer: IDelayedCall | None = None
        self._closed_its_pipes = False
        self.pid: int | None = None

    def connectionMade(self) -> None:
        """
        Note the id of the new process.
        """
        assert self.transport is not None
        self.pid = self.transport.pid

    def write(self, data: bytes) -> None:
        """
        Write `data` to the program's terminal or standard input.
        """
        assert self.transport is not None
        self.transport.write(data)

    def collects_lines(self) -> bool:
        """
        Return whether the terminal passes on whole lines, so that no line editor is reading.

        False for a program without a terminal, or if this is not known.
        """
        try:
            modes = termios.tcgetattr(getattr(self.transport, "fd", -1))
        except (termios.error, TypeError, ValueError):
            return False
        return bool(modes[3] & termios.ICANON)

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
        End all processes: send SIGTERM now, and SIGKILL after the grace period.
        """
        if self._kill_timer is None and self.pid is not None:
            self._send_signal(signal.SIGTERM)
            # The supervisor does the rest, unless somebody has stopped it.
            self._kill_timer = self._clock.callLater(self.grace + _SUPERVISOR_TIMEOUT, self._kill)

    def processExited(self, reason: Failure) -> None:
        """
        Read the last output.
        """
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
            # Not closed at once: an event may be pending for it, which would then hit the
            # next connection that gets its number.
            self._clock.callLater(0, _close, pipes[_STDIN])
        transport.loseConnection()

    def processEnded(self, reason: Failure) -> None:
        """
        Report how the program ended.
        """
        for timer in (self._kill_timer, self._closed_pipe_timer):
            if timer is not None and timer.active():
                timer.cancel()
        self.pid = None
        description = _describe_exit(reason)
        self._on_exit(f"closed its pipes; {description}" if self._closed_its_pipes else description)

    def _kill(self) -> None:
        """
        Kill the supervisor, after what is below it: that would live on.
        """
        assert self.pid is not None, "the timer runs only while the process does"
        for pid in supervisor.descendants(self.pid):
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        self._send_signal(signal.SIGKILL)

    def _send_signal(self, number: int) -> None:
        assert self.transport is not None
        with suppress(ProcessExitedAlready):
            self.transport.signalProcess(number)


def _close(descriptor: Any) -> None:
    if not descriptor.disconnected:
        descriptor.connectionLost(Failure(ConnectionDone()))


def _describe_exit(reason: Failure) -> str:
    error = reason.value
    if isinstance(error, ProcessDone):
        return "exit status 0"
    number = getattr(error, "signal", None)
    if number is not None:
        # Most real-time signals have no name.
        known = number in signal.Signals.__members__.values()
        return f"killed by {signal.Signals(number).name if known else f'signal {number}'}"
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
    arguments = (
        *(sys.executable, "-I", "-S", str(supervisor.__file__)),
        *(str(process.grace), str(os.getpid())),
        *(command.executable, *command.arguments),
    )
    if command.window is None:
        _spawn(reactor, process, command, arguments, False)
    else:
        _start_on_pty(reactor, process, command, arguments, command.window)


def _start_on_pty(
    reactor: IReactorProcess,
    process: AgentProcess,
    command: Command,
    arguments: Sequence[str],
    window: tuple[int, int],
) -> None:
    master, slave = os.openpty()  # Unlike `pty.openpty`, it says what is wrong.
    try:
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", *window, 0, 0))
        modes = termios.tcgetattr(slave)
        modes[3] &= ~termios.ECHO
        termios.tcsetattr(slave, termios.TCSANOW, modes)
        _spawn(reactor, process, command, arguments, (master, slave, os.ttyname(slave)))
    except BaseException:
        os.close(master)
        os.close(slave)
        raise


def _spawn(
    reactor: IReactorProcess,
    process: AgentProcess,
    command: Command,
    arguments: Sequence[str],
    # The interface declares a bool; its documentation also allows this tuple.
    terminal: Any,
) -> None:
    # The new process inherits it, so that a SIGTERM waits until the supervisor can react.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        reactor.spawnProcess(
            process,
            sys.executable,
            arguments,
            env=dict(command.environment),
            path=str(command.folder),
            usePTY=terminal,
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
