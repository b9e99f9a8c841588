"""
Tests for `kiroworkers.process.agent_process`, with real processes.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ProcessDone
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from kiroworkers.process.agent_process import AgentProcess, Command, start
from kiroworkers.testing import MemoryReactor
from tests.programs import ROOT, alive, environment, exits

real: Any = reactor


class RecordedProcess:
    """
    A running process, its output and how it ended.

    Attributes:
        errors: Its standard error, where that is separate.
    """

    def __init__(
        self,
        test: TestCase,
        script: str,
        grace: float = 5.0,
        window: tuple[int, int] | None = (40, 1000),
    ) -> None:
        self.output = self.errors = b""
        self.ended: Deferred[str] = Deferred()
        self._awaited: tuple[bytes, Deferred[None]] | None = None
        self.process = AgentProcess(
            real, grace, self._on_output, self._on_stderr, self.ended.callback
        )
        command = Command("/bin/sh", ("-c", script), environment(), ROOT, window)
        start(real, self.process, command)

    def says(self, text: bytes) -> Deferred[None]:
        """
        Fires when `text` has been printed.
        """
        printed: Deferred[None] = Deferred()
        self._awaited = (text, printed)
        self._on_output(b"")
        return printed

    def _on_stderr(self, data: bytes) -> None:
        self.errors += data

    def _on_output(self, data: bytes) -> None:
        self.output += data
        if self._awaited is not None and self._awaited[0] in self.output:
            (_, printed), self._awaited = self._awaited, None
            printed.callback(None)


class AgentProcessTests(TestCase):
    """
    Tests for `AgentProcess` and `start`.
    """

    async def test_collects_lines(self) -> None:
        """
        A terminal passes on whole lines until the program reads keys, and pipes collect none.
        """
        script = "echo lines; read line; stty -icanon; echo keys; read line; "
        program = RecordedProcess(self, script + "stty icanon; echo again; read line")
        for text, collects in [(b"lines", True), (b"keys", False), (b"again", True)]:
            await program.says(text)
            self.assertEqual(program.process.collects_lines(), collects)
            program.process.write(b"\n")
        await program.ended
        self.assertFalse(program.process.collects_lines())
        piped = RecordedProcess(self, "echo lines; read line", window=None)
        await piped.says(b"lines")
        self.assertFalse(piped.process.collects_lines())
        piped.process.write(b"\n")
        await piped.ended

    async def test_terminal(self) -> None:
        """
        A process runs in its folder, on a terminal of the size it was given
        that does not echo, and leads the terminal's foreground group.
        """
        recorded = RecordedProcess(
            self, "pwd; stty size; stty -a; echo $$ $(ps -o pgid=,tpgid= $$) .; cat"
        )
        await recorded.says(b" .")
        pid, group, foreground, _ = recorded.output.splitlines()[-1].split()
        self.assertEqual((group, foreground), (pid, pid))
        recorded.process.terminate()
        await recorded.ended
        self.assertIn(b"-echo ", recorded.output)
        self.assertIn(str(ROOT).encode(), recorded.output)
        self.assertIn(b"40 1000\r\n", recorded.output)

    async def test_interrupt_is_not_ignored(self) -> None:
        """
        A process heeds SIGINT though this one ignores it.
        """
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        self.addCleanup(signal.signal, signal.SIGINT, before)
        recorded = RecordedProcess(self, "exec cat")
        # A shell would handle the signal in its own ways.
        recorded.process.write(b"on\n")
        await recorded.says(b"on")
        recorded.process.write(b"\x03")
        self.assertEqual(await recorded.ended, "killed by SIGINT")

    async def test_ends(self) -> None:
        """
        A process is described by how it ended, and its last output is read.
        """
        for script, description in [
            ("echo bye; exit 0", "exit status 0"),
            ("echo bye; exit 3", "exit status 3"),
            ("echo bye; kill -9 $$", "killed by SIGKILL"),
        ]:
            recorded = RecordedProcess(self, script)
            self.assertEqual(await recorded.ended, description)
            self.assertEqual(recorded.output, b"bye\r\n")

    async def test_stubborn(self) -> None:
        """
        A process that ignores SIGTERM is killed after the grace period.
        """
        recorded = RecordedProcess(
            self, "trap '' TERM HUP; echo on; sleep 60 & wait; wait", grace=0.1
        )
        await recorded.says(b"on")
        recorded.process.terminate()
        self.assertEqual(await recorded.ended, "killed by SIGKILL")

    async def test_children(self) -> None:
        """
        A child that outlives its leader and holds the terminal is killed, and
        does not delay the end.
        """
        recorded = RecordedProcess(self, "trap '' TERM HUP; sleep 60 & echo child $!.; exit 0")
        self.assertEqual(await recorded.ended, "exit status 0")
        child = int(recorded.output.split(b"child ")[1].split(b".")[0])
        await exits(real, child)
        self.assertFalse(alive(child))

    async def test_reused_descriptor(self) -> None:
        """
        A process that ends after its terminal was closed is not read again: its
        descriptor may belong to another connection by then.
        """
        recorded = RecordedProcess(self, "echo on; exec <&- >&- 2>&-; exec sleep 60")
        # A test that ends while the reactor starts, by reaping a process, leaves
        # the next one without a handler of SIGCHLD.
        await recorded.says(b"on")
        transport: Any = recorded.process.transport
        descriptor = transport.fileno()
        # What the reactor does when the terminal says that it is gone.  One that
        # still watched the number would not see what gets it next.
        real.removeReader(transport)
        real.removeWriter(transport)
        transport.connectionLost(Failure(ConnectionDone()))
        reading, writing = os.pipe2(os.O_NONBLOCK)
        os.write(writing, b"a request of a client's")
        if reading != descriptor:
            os.dup2(reading, descriptor)
        recorded.process.terminate()
        await recorded.ended
        self.assertEqual(recorded.output, b"on\r\n")
        self.assertEqual(os.read(reading, 100), b"a request of a client's")
        for number in {reading, writing, descriptor}:
            os.close(number)

    def test_no_process(self) -> None:
        """
        A start that fails leaves no descriptor open.
        """
        reactor = MemoryReactor()
        reactor.refuse = OSError("no more processes")
        before = os.listdir("/proc/self/fd")
        process = AgentProcess(reactor, 5, lambda data: None, lambda data: None, lambda how: None)
        for folder in (Path("/"), Path("/nowhere")):
            with self.assertRaises(OSError):
                start(reactor, process, Command("/bin/sh", (), {}, folder, (40, 80)))
        self.assertEqual(os.listdir("/proc/self/fd"), before)


class PipesTests(TestCase):
    """
    Tests for `AgentProcess` without a terminal.
    """

    def run_script(self, script: str, grace: float = 5.0) -> RecordedProcess:
        return RecordedProcess(self, script, grace, window=None)

    async def test_pipes(self) -> None:
        """
        A process runs in its folder, leads a group of its own and reads what is
        written; its standard error is kept separate, to the last line.
        """
        recorded = self.run_script(
            "pwd; echo $(ps -o pgid= $$) is $$; echo aside >&2; read x; echo $x; echo end >&2"
        )
        await recorded.says(b" is ")
        self.assertIn(str(ROOT).encode(), recorded.output)
        recorded.process.write(b"to and fro\n")
        self.assertEqual(await recorded.ended, "exit status 0")
        _, ids, echo = recorded.output.splitlines()
        group, leader = ids.split(b" is ")
        self.assertEqual((group, echo), (leader, b"to and fro"))
        self.assertEqual(recorded.errors, b"aside\nend\n")

    async def test_broken_pipes(self) -> None:
        """
        A child of the process is ended by a broken pipe, as it would be in a shell.
        """
        recorded = self.run_script("yes | head -n 1; echo done; sleep 60")
        await recorded.says(b"done")
        self.assertEqual(recorded.errors, b"")
        recorded.process.terminate()
        self.assertEqual(await recorded.ended, "killed by SIGTERM")

    async def test_terminate_at_once(self) -> None:
        """
        A process can be terminated before it runs.
        """
        recorded = self.run_script("sleep 60")
        recorded.process.terminate()
        self.assertEqual(await recorded.ended, "killed by SIGTERM")

    async def test_whole_group(self) -> None:
        """
        The children of a process end with it.
        """
        recorded = self.run_script("sleep 60 & echo child $! .; exec sleep 60")
        await recorded.says(b" .")
        child = int(recorded.output.split()[1])
        recorded.process.terminate()
        await recorded.ended
        await exits(real, child)

    async def test_full_pipe_that_is_held(self) -> None:
        """
        A process ends even if its input was not read, and with it a descendant outside of
        its group that holds its pipes.
        """
        recorded = self.run_script("setsid sleep 60 <&0 & echo child $! .; exec sleep 60")
        await recorded.says(b" .")
        child = int(recorded.output.split()[1])
        recorded.process.write(b"x" * 1_000_000)
        recorded.process.terminate()
        self.assertEqual(await recorded.ended, "killed by SIGTERM")
        self.assertFalse(alive(child))

    async def test_pending_events(self) -> None:
        """
        When a program exits, no descriptor is closed before the next turn of the event loop:
        an event that is pending for one would hit the next connection with its number.
        """
        recorded = self.run_script("read x")
        transport: Any = recorded.process.transport
        pipes = [*transport.pipes.values()]
        recorded.process.processExited(Failure(ProcessDone(0)))
        self.assertEqual([pipe.disconnected for pipe in pipes], [0, 0, 0])
        await recorded.ended
        self.assertEqual([pipe.disconnected for pipe in pipes], [1, 1, 1])

    async def test_closes_its_output(self) -> None:
        """
        A process that closes its input or output is terminated.
        """
        for script in ("exec >&-; exec sleep 60", "exec <&-; exec sleep 60"):
            description = await self.run_script(script).ended
            self.assertEqual(description, "closed its pipes; killed by SIGTERM")
