"""
Sessions without processes: a reactor on a `Clock` that spawns programs in
memory, for tests of whatever is built on the pool.

`MemoryKiro` is such a program: the classic interface, drawn by the same line
editor as the offline agent's, which answers by a function of yours or when you
say so.  Nothing happens until the clock is advanced, even by 0::

    >>> reactor = MemoryReactor(lambda: MemoryKiro(lambda prompt: "pong"))

Not imported by the package itself.
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
from twisted.internet.interfaces import IProcessProtocol, IReactorProcess, IReactorTime
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from kiroworkers.offline import classic
from kiroworkers.offline.editor import LineEditor, Signal


class MemoryKiro:
    """
    A classic session.

    Attributes:
        typed: every line that was submitted, commands included.
        mute: never show the first prompt.
        confirms: does `/clear` confirm?
        obeys: does it end at SIGTERM?
        interruptible: does Ctrl-C end a turn?

    Args:
        reply: what to answer to a prompt; None to stay busy until `say`.
    """

    def __init__(self, reply: Callable[[str], str | None] = lambda prompt: prompt) -> None:
        self.typed: list[str] = []
        self.mute = False
        self.confirms = True
        self.obeys = True
        self.interruptible = True
        self.process: MemoryProcess
        self._reply = reply
        self._editor: LineEditor | None = None
        self._submitted: Callable[[str], None] = self._submit

    @property
    def reading(self) -> bool:
        """
        Does it show a prompt?
        """
        return self._editor is not None

    @property
    def answering(self) -> bool:
        """
        Is a turn running?
        """
        return self._editor is None and bool(self.typed)

    def begin(self) -> None:
        """
        The process starts.
        """
        self.print("Model: auto (/model to change)\n\n")
        if not self.mute:
            self.show_prompt()

    def receive(self, data: bytes) -> None:
        """
        Somebody types.
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
            self.typed.append(outcome)
            submitted, self._submitted = self._submitted, self._submit
            submitted(outcome)

    def receive_signal(self, number: int) -> None:
        """
        A signal arrives.
        """
        if number == signal.SIGKILL or (number == signal.SIGTERM and self.obeys):
            self.process.end(signal=number)

    # What a test may make it do.

    def print(self, text: str) -> None:
        """
        Print `text`, as a terminal's output post-processing would.
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
        Ask whether a tool may run; say whether it was allowed or denied.
        """
        self.print(classic.APPROVAL_QUESTION)
        self._submitted = lambda line: self.say("denied" if line == "n" else "allowed")
        self.show_prompt()

    def show_prompt(self, prompt: str = "") -> None:
        """
        Begin to read a line.
        """
        self._editor = LineEditor(prompt or classic.prompt())
        self.process.deliver(self._editor.open())

    def stray(self) -> None:
        """
        Stop reading and begin again, though nothing was typed.
        """
        self.process.deliver(b"\x1b[?2004l\r\n")
        self.show_prompt()

    def _submit(self, line: str) -> None:
        if line == "/quit":
            self.process.end()
            return
        if line == "/clear":
            self.print(classic.CLEAR_QUESTION)
            self._submitted = self._sure
            self.show_prompt(classic.CLEAR_PROMPT)
            return
        self.print(classic.SUBMITTED + next(classic.spinner()))
        answer = self._reply(line)
        if answer is not None:
            self.say(answer)

    def _sure(self, line: str) -> None:
        self.print(classic.CLEAR_DONE if self.confirms else "\nNot now.\n\n")
        self.show_prompt()


class MemoryProcess:
    """
    A running program as its protocol sees it.

    Attributes:
        reactor: where it runs.
        signals: those it was sent, by name without SIG.
    """

    def __init__(
        self, reactor: MemoryReactor, protocol: IProcessProtocol, pid: int, program: MemoryKiro
    ) -> None:
        self.pid: int | None = pid
        self.signals: list[str] = []
        self.disconnected = False
        self.program = program
        self.reactor = reactor
        self._protocol = protocol
        self._exited: Failure | None = None
        program.process = self

    def write(self, data: bytes) -> None:
        """
        Type `data`; the program reads it when the clock is advanced.
        """
        self.reactor.callLater(0, self._receive, data)

    def deliver(self, data: bytes) -> None:
        """
        The program prints `data`; it is read when the clock is advanced.
        """
        if data:
            self.reactor.callLater(0, self._hear, data)

    def end(self, status: int = 0, signal: int | None = None) -> None:
        """
        The program ends.
        """
        if self._exited is None:
            done = status == 0 and signal is None
            self._exited = Failure(
                ProcessDone(None) if done else ProcessTerminated(status or None, signal)
            )
            self.reactor.callLater(0, self._exit)

    def send_signal(self, number: int) -> None:
        """
        Send a signal, as the kernel would.
        """
        if self._exited is not None:
            raise ProcessLookupError
        self.signals.append(signal.Signals(number).name.removeprefix("SIG"))
        self.program.receive_signal(number)

    def signalProcess(self, number: int) -> None:
        """
        Send a signal to this process alone.
        """
        if self._exited is not None:
            raise ProcessExitedAlready
        self.send_signal(number)

    def doRead(self) -> Exception:
        """
        As a PTY's transport: nothing is left to read.
        """
        return ConnectionDone()

    def loseConnection(self) -> None:
        """
        Close the terminal; the protocol then hears of the end.
        """
        self.reactor.callLater(0, self._protocol.processEnded, self._exited)

    def _receive(self, data: bytes) -> None:
        if self._exited is None:
            self.program.receive(data)

    def _hear(self, data: bytes) -> None:
        if self._exited is None:
            self._protocol.childDataReceived(1, data)

    def _exit(self) -> None:
        assert self._exited is not None, "called by `end` only"
        self._protocol.processExited(self._exited)


@implementer(IReactorProcess, IReactorTime)
class MemoryReactor(Clock):
    """
    A clock that spawns the programs that `make` makes, and their process groups
    (as `kiroworkers.process.agent_process.Groups`).

    Attributes:
        programs: every program so far, in the order of their starts.
        refuse: an error to raise instead of spawning.
    """

    def __init__(self, make: Callable[[], MemoryKiro] = MemoryKiro) -> None:
        super().__init__()
        # Far from 0, so that a time is not mistaken for a duration.
        self.rightNow = 1_000_000.0
        self.programs: list[MemoryKiro] = []
        self.refuse: OSError | None = None
        self._make = make
        self._groups: dict[int, MemoryProcess] = {}

    @property
    def running(self) -> set[int]:
        """
        The process groups that were begun and have not ended.
        """
        return set(self._groups)

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
        Start a program in memory.
        """
        if self.refuse is not None:
            raise self.refuse
        if isinstance(usePTY, tuple):
            os.close(usePTY[0])
            os.close(usePTY[1])
        program = self._make()
        process = MemoryProcess(self, processProtocol, 1000 + len(self.programs), program)
        self.programs.append(program)
        assert process.pid is not None, "given above"
        self._groups[process.pid] = process
        processProtocol.makeConnection(process)  # type: ignore[arg-type]
        self.callLater(0, program.begin)
        return process

    def began(self, pgid: int) -> None:
        """
        The group runs: as it was registered when it was spawned.
        """
        assert pgid in self._groups, "began before it was spawned"

    def send(self, pgid: int, number: int) -> None:
        """
        Send a signal to the group.
        """
        self._groups[pgid].send_signal(number)

    def ended(self, pgid: int) -> None:
        """
        The group is gone.
        """
        del self._groups[pgid]
