"""
Run sessions without processes: test doubles for programs that use a pool.

`MemoryReactor` is a `Clock` that spawns programs in memory.  `MemoryKiro` is such a
program: Kiro's classic interface, drawn by the offline agent's line editor.  It answers
with a function of yours, or when the test calls `say`.  Nothing happens until the clock
is advanced, even if only by 0::

    >>> reactor = MemoryReactor(lambda: MemoryKiro(lambda prompt: "pong"))

The package itself does not import this module.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet.error import (
    ConnectionDone,
    ProcessDone,
    ProcessExitedAlready,
    ProcessTerminated,
)
from twisted.internet.interfaces import (
    IDelayedCall,
    IProcessProtocol,
    IReactorProcess,
    IReactorTime,
)
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from kiroworkers.classic import drawing as classic
from kiroworkers.classic.editor import LineEditor, Signal

#: The process id of the first program; later ones count up from it.
_FIRST_PID = 1000


class MemoryKiro:
    """
    Act as Kiro's classic interface in memory.

    Args:
        reply: Returns the answer to a prompt, or None to stay busy until `say`.

    Attributes:
        typed: Every line that was submitted, commands included.
        process: The process that runs this program.
        mute: Whether to never show the first prompt.
        confirms_clear: Whether to confirm `/clear`.
        obeys_sigterm: Whether to exit at SIGTERM.
        interruptible: Whether Ctrl-C ends a turn.
    """

    def __init__(self, reply: Callable[[str], str | None] = lambda prompt: prompt) -> None:
        self.typed: list[str] = []
        self.mute = False
        self.confirms_clear = True
        self.obeys_sigterm = True
        self.interruptible = True
        self.process: MemoryProcess
        self._reply = reply
        self._editor: LineEditor | None = None
        self._on_submit: Callable[[str], None] = self._handle_line

    @property
    def at_prompt(self) -> bool:
        """
        Return whether a prompt is shown.
        """
        return self._editor is not None

    @property
    def answering(self) -> bool:
        """
        Return whether a turn is running.
        """
        return self._editor is None and bool(self.typed)

    def begin(self) -> None:
        """
        Print the first output; `MemoryReactor` calls it when the process starts.
        """
        self.print("Model: auto (/model to change)\n\n")
        if not self.mute:
            self.show_prompt()

    def receive(self, data: bytes) -> None:
        """
        Read `data` from the terminal.
        """
        if self._editor is None:
            if b"\x03" in data and self.interruptible:
                self.print(classic.CANCELLED)
                self.show_prompt()
            return
        drawn, outcome = self._editor.feed(data)
        self.process.deliver(drawn)
        if outcome is None:
            return
        self._editor = None
        if isinstance(outcome, Signal):
            self.print(classic.EXIT_HINT)
            self.show_prompt()
        else:
            # A blank at the beginning only keeps a line out of the history.
            line = outcome.removeprefix(" ")
            self.typed.append(line)
            on_submit, self._on_submit = self._on_submit, self._handle_line
            on_submit(line)

    def receive_signal(self, number: int) -> None:
        """
        Receive a signal, and exit if it is SIGKILL or a SIGTERM that the program obeys.
        """
        if number == signal.SIGKILL or (number == signal.SIGTERM and self.obeys_sigterm):
            self.process.end(signal=number)

    # Called by tests.

    def print(self, text: str) -> None:
        """
        Print `text`, with newlines translated as a terminal does.
        """
        self.process.deliver(text.replace("\n", "\r\n").encode())

    def say(self, text: str) -> None:
        """
        Answer the running turn with `text`.
        """
        self.print(classic.SPINNER_GONE + classic.answer(text) + classic.footer(1, 0.05))
        self.show_prompt()

    def ask_approval(self) -> None:
        """
        Ask whether a tool may run, then answer the turn with "allowed" or "denied".
        """
        self.print(classic.APPROVAL_QUESTION)
        self._on_submit = lambda line: self.say("denied" if line == "n" else "allowed")
        self.show_prompt()

    def show_prompt(self, prompt: str = "") -> None:
        """
        Show a prompt, the usual one by default, and begin to read a line.
        """
        self._editor = LineEditor(prompt or classic.prompt())
        self.process.deliver(self._editor.open())

    def lose_prompt(self) -> None:
        """
        Stop reading, as if the prompt were lost, and show it again.
        """
        self.process.deliver(b"\x1b[?2004l\r\n")
        self.show_prompt()

    def _handle_line(self, line: str) -> None:
        if line == "/quit":
            self.process.end()
            return
        if line == "/clear":
            self.print(classic.CLEAR_QUESTION)
            self._on_submit = self._finish_clear
            self.show_prompt(classic.CLEAR_PROMPT)
            return
        self.print(classic.SUBMITTED + next(classic.spinner()))
        answer = self._reply(line)
        if answer is not None:
            self.say(answer)

    def _finish_clear(self, line: str) -> None:
        self.print(classic.CLEAR_DONE if self.confirms_clear else "\nNot now.\n\n")
        self.show_prompt()


class MemoryProcess:
    """
    Represent a running program and its supervisor, as the transport of its process protocol.

    Attributes:
        pid: Process id.
        signals: The signals that it was sent, by name without SIG.
        disconnected: Whether the terminal is closed; always False here.
        exited: How it ended; None while it runs.
        program: The program that runs.
        reactor: The reactor that it runs in.
    """

    def __init__(
        self,
        reactor: MemoryReactor,
        protocol: IProcessProtocol,
        pid: int,
        program: MemoryKiro,
        grace: float,
    ) -> None:
        self.pid = pid
        self.signals: list[str] = []
        self.disconnected = False
        self.program = program
        self.reactor = reactor
        self._protocol = protocol
        self._grace = grace
        self._kill_timer: IDelayedCall | None = None
        self.exited: Failure | None = None
        program.process = self

    def write(self, data: bytes) -> None:
        """
        Type `data`; the program reads it when the clock is advanced.
        """
        self.reactor.callLater(0, self._receive, data)

    def deliver(self, data: bytes) -> None:
        """
        Print `data` from the program; the protocol reads it when the clock is advanced.
        """
        if data:
            self.reactor.callLater(0, self._deliver, data)

    def end(self, status: int = 0, signal: int | None = None) -> None:
        """
        End the program with an exit status or by a signal.
        """
        if self.exited is None:
            if self._kill_timer is not None and self._kill_timer.active():
                self._kill_timer.cancel()
            succeeded = status == 0 and signal is None
            self.exited = Failure(
                ProcessDone(None) if succeeded else ProcessTerminated(status or None, signal)
            )
            self.reactor.callLater(0, self._exit)

    def send_signal(self, number: int) -> None:
        """
        Send a signal, as the kernel would.

        Raises:
            ProcessLookupError: If the program has ended.
        """
        if self.exited is not None:
            raise ProcessLookupError
        self.signals.append(signal.Signals(number).name.removeprefix("SIG"))
        self.program.receive_signal(number)

    def signalProcess(self, number: int) -> None:
        """
        Send a signal to the supervisor, which kills a program that outlives its SIGTERM.

        Raises:
            ProcessExitedAlready: If the program has ended.
        """
        if self.exited is not None:
            raise ProcessExitedAlready
        if number == signal.SIGTERM and self._kill_timer is None:
            self._kill_timer = self.reactor.callLater(self._grace, self.send_signal, signal.SIGKILL)
        self.send_signal(number)

    def doRead(self) -> Exception:
        """
        Report that there is nothing left to read, as a PTY's transport does.
        """
        return ConnectionDone()

    def loseConnection(self) -> None:
        """
        Close the terminal, after which the protocol learns that the process ended.
        """
        self.reactor.callLater(0, self.reactor.end_process, self, self._protocol)

    def _receive(self, data: bytes) -> None:
        if self.exited is None:
            self.program.receive(data)

    def _deliver(self, data: bytes) -> None:
        if self.exited is None:
            self._protocol.childDataReceived(1, data)

    def _exit(self) -> None:
        assert self.exited is not None, "only `end` schedules this"
        self._protocol.processExited(self.exited)


@implementer(IReactorProcess, IReactorTime)
class MemoryReactor(Clock):
    """
    Spawn programs in memory, on a clock that the test advances.

    Args:
        make: Returns a new program for each process.

    Attributes:
        programs: Every program so far, in the order in which they were started.
        refuse: An error to raise instead of spawning; None to spawn.
    """

    def __init__(self, make: Callable[[], MemoryKiro] = MemoryKiro) -> None:
        super().__init__()
        # Far from 0, so that a point in time cannot pass for a duration.
        self.rightNow = 1_000_000.0
        self.programs: list[MemoryKiro] = []
        self.refuse: OSError | None = None
        self._make = make
        self._processes: dict[int, MemoryProcess] = {}

    @property
    def running(self) -> set[int]:
        """
        Return the ids of the programs that were started and whose end was not reported.
        """
        return set(self._processes)

    def spawnProcess(
        self,
        processProtocol: IProcessProtocol,
        executable: bytes | str,
        args: Sequence[bytes | str] = (),
        env: Mapping[Any, Any] | None = None,
        path: bytes | str | None = None,
        uid: int | None = None,
        gid: int | None = None,
        usePTY: Any = False,
        childFDs: Mapping[int, int | str] | None = None,
    ) -> Any:
        """
        Start a program in memory and return its `MemoryProcess`.

        Raises:
            OSError: If the test set `refuse`.
        """
        if self.refuse is not None:
            raise self.refuse
        if isinstance(usePTY, tuple):
            os.close(usePTY[0])
            os.close(usePTY[1])
        program = self._make()
        pid = _FIRST_PID + len(self.programs)
        # The real supervisor gets it as an argument.
        grace: float = getattr(processProtocol, "grace", 0.0)
        process = MemoryProcess(self, processProtocol, pid, program, grace)
        self.programs.append(program)
        self._processes[pid] = process
        processProtocol.makeConnection(process)  # type: ignore[arg-type]
        self.callLater(0, program.begin)
        return process

    def send_signal(self, pid: int, number: int) -> None:
        """
        Send the signal `number` to the program `pid`.
        """
        self._processes[pid].send_signal(number)

    def end_process(self, process: MemoryProcess, protocol: IProcessProtocol) -> None:
        """
        Forget `process`, and tell its protocol how it ended.
        """
        del self._processes[process.pid]
        assert process.exited is not None, "only `MemoryProcess.end` leads here"
        protocol.processEnded(process.exited)
