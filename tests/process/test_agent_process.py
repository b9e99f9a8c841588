"""
Tests for `kiroworkers.process.agent_process` and `watchdog`, with real processes.
"""

from __future__ import annotations

import os
import signal
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from kiroworkers.process.agent_process import AgentProcess, Command, start
from kiroworkers.process.watchdog import Watchdog
from kiroworkers.process.watchdog_child import left_in
from kiroworkers.testing import MemoryReactor
from tests.programs import ROOT, alive, environment, exits

real: Any = reactor


class Listening:
    """
    A process, what it said and how it ended.

    Attributes:
        errors: what it said to standard error, where that is not the same.
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
        watchdog = Watchdog(real)
        test.addCleanup(watchdog.stop)
        self.process = AgentProcess(
            real, watchdog, grace, self._hear, self._overhear, self.ended.callback
        )
        command = Command("/bin/sh", ("-c", script), environment(), ROOT, window)
        start(real, self.process, command)

    def says(self, text: bytes) -> Deferred[None]:
        """
        Fires when `text` has been printed.
        """
        said: Deferred[None] = Deferred()
        self._awaited = (text, said)
        self._hear(b"")
        return said

    def _overhear(self, data: bytes) -> None:
        self.errors += data

    def _hear(self, data: bytes) -> None:
        self.output += data
        if self._awaited is not None and self._awaited[0] in self.output:
            (_, said), self._awaited = self._awaited, None
            said.callback(None)


class AgentProcessTests(TestCase):
    """
    Tests for `AgentProcess` and `start`.
    """

    timeout = 30

    async def test_terminal(self) -> None:
        """
        A process runs in its folder, on a terminal of the size it was given
        that does not echo, and leads a group of its own.
        """
        listening = Listening(self, "pwd; stty size; stty -a; ps -o pid=,pgid= $$; cat")
        await listening.says(b"-echo ")
        pid = listening.process.pid
        assert pid is not None
        self.assertEqual(os.getpgid(pid), pid)
        listening.process.hang_up()
        await listening.ended
        self.assertIn(str(ROOT).encode(), listening.output)
        self.assertIn(b"40 1000\r\n", listening.output)

    async def test_interrupt_is_not_ignored(self) -> None:
        """
        A process heeds SIGINT though this one ignores it.
        """
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        self.addCleanup(signal.signal, signal.SIGINT, before)
        listening = Listening(self, "exec cat")
        # A shell would handle the signal in its own ways.
        listening.process.write(b"on\n")
        await listening.says(b"on")
        listening.process.write(b"\x03")
        self.assertEqual(await listening.ended, "killed by SIGINT")

    async def test_ends(self) -> None:
        """
        How a process ended is told in words, with its last output.
        """
        for script, how in [
            ("echo bye; exit 0", "exit status 0"),
            ("echo bye; exit 3", "exit status 3"),
            ("echo bye; kill -9 $$", "killed by SIGKILL"),
        ]:
            listening = Listening(self, script)
            self.assertEqual(await listening.ended, how)
            self.assertEqual(listening.output, b"bye\r\n")

    async def test_stubborn(self) -> None:
        """
        A process that ignores SIGTERM is killed after the grace.
        """
        listening = Listening(self, "trap '' TERM HUP; echo on; sleep 60 & wait; wait", grace=0.1)
        await listening.says(b"on")
        listening.process.hang_up()
        self.assertEqual(await listening.ended, "killed by SIGKILL")

    async def test_children(self) -> None:
        """
        A child that outlives its leader and holds the terminal is killed, and
        does not delay the end.
        """
        listening = Listening(self, "trap '' TERM HUP; sleep 60 & echo child $!.; exit 0")
        self.assertEqual(await listening.ended, "exit status 0")
        child = int(listening.output.split(b"child ")[1].split(b".")[0])
        await exits(real, child)
        self.assertFalse(alive(child))

    async def test_descriptor_of_another(self) -> None:
        """
        A process that ends after its terminal did is not read once more: its
        descriptor may be somebody else's by then.
        """
        listening = Listening(self, "echo on; exec <&- >&- 2>&-; exec sleep 60")
        # A test that ends while the reactor starts, by reaping a process, leaves
        # the next one without a handler of SIGCHLD.
        await listening.says(b"on")
        transport: Any = listening.process.transport
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
        listening.process.hang_up()
        await listening.ended
        self.assertEqual(listening.output, b"on\r\n")
        self.assertEqual(os.read(reading, 100), b"a request of a client's")
        for each in {reading, writing, descriptor}:
            os.close(each)

    def test_no_process(self) -> None:
        """
        A start that fails leaves no descriptor open.
        """
        reactor = MemoryReactor()
        reactor.refuse = OSError("no more processes")
        before = os.listdir("/proc/self/fd")
        process = AgentProcess(
            reactor, reactor, 5, lambda data: None, lambda data: None, lambda how: None
        )
        for folder in (Path("/"), Path("/nowhere")):
            with self.assertRaises(OSError):
                start(reactor, process, Command("/bin/sh", (), {}, folder, (40, 80)))
        self.assertEqual(os.listdir("/proc/self/fd"), before)


class PipesTests(TestCase):
    """
    Tests for `AgentProcess` without a terminal.
    """

    timeout = 30

    def listening(self, script: str, grace: float = 5.0) -> Listening:
        return Listening(self, script, grace, window=None)

    async def test_pipes(self) -> None:
        """
        A process runs in its folder, leads a group of its own, reads what is
        written, and what it says to standard error is told apart, to the last.
        """
        listening = self.listening(
            "pwd; ps -o pgid= $$; echo aside >&2; read x; echo $x; echo end >&2"
        )
        await listening.says(f"{listening.process.pid}\n".encode())
        self.assertIn(str(ROOT).encode(), listening.output)
        listening.process.write(b"to and fro\n")
        self.assertEqual(await listening.ended, "exit status 0")
        self.assertIn(b"to and fro", listening.output)
        self.assertEqual(listening.errors, b"aside\nend\n")

    async def test_broken_pipes(self) -> None:
        """
        Its children end by a broken pipe, as they would anywhere.
        """
        listening = self.listening("yes | head -n 1; echo done; sleep 60")
        await listening.says(b"done")
        self.assertEqual(listening.errors, b"")
        listening.process.hang_up()
        self.assertEqual(await listening.ended, "killed by SIGTERM")

    async def test_hang_up_at_once(self) -> None:
        """
        It can be ended before it leads its group.
        """
        listening = self.listening("sleep 60", grace=0.5)
        listening.process.hang_up()
        # Between its fork and its exec a SIGTERM is Python's, which may be lost, or make
        # the child give up: then SIGKILL follows, or nothing is left to be done.
        self.assertIn(
            await listening.ended, ("killed by SIGTERM", "killed by SIGKILL", "exit status 1")
        )

    async def test_whole_group(self) -> None:
        """
        Its children end with it.
        """
        listening = self.listening("sleep 60 & echo child $! .; exec sleep 60")
        await listening.says(b" .")
        child = int(listening.output.split()[1])
        listening.process.hang_up()
        await listening.ended
        await exits(real, child)

    async def test_full_pipe_that_is_held(self) -> None:
        """
        What was not read, and a descendant outside of its group that holds the pipes,
        do not keep it from ending.
        """
        listening = self.listening("setsid sleep 60 <&0 & echo child $! .; exec sleep 60")
        await listening.says(b" .")
        child = int(listening.output.split()[1])
        listening.process.write(b"x" * 1_000_000)
        listening.process.hang_up()
        self.assertEqual(await listening.ended, "killed by SIGTERM")
        os.kill(child, signal.SIGKILL)

    async def test_closes_its_output(self) -> None:
        """
        One that cannot be talked to any more is ended.
        """
        for script in ("exec >&-; exec sleep 60", "exec <&-; exec sleep 60"):
            how = await self.listening(script).ended
            self.assertEqual(how, "it closed its pipes, and was killed by SIGTERM")


class ReaperTests(SynchronousTestCase):
    """
    Tests for `reaper.left_in`.
    """

    def test_left(self) -> None:
        """
        The groups that began and did not end are left.
        """
        self.assertEqual(left_in(BytesIO(b"+12\n+13\n-12\n+14\n-13\n+12\n")), {12, 14})


class GuardTests(TestCase):
    """
    Tests for `Watchdog`.
    """

    timeout = 30

    async def test_pipe_closes(self) -> None:
        """
        When the server's end of the pipe closes, what began and did not end is
        killed, and nothing else.
        """
        ours, other = (self.sleeper() for _ in range(2))
        watchdog = Watchdog(real)
        watchdog.began(ours)
        watchdog.began(other)
        watchdog.ended(other)
        watchdog.stop()
        await exits(real, ours)
        self.assertTrue(alive(other))

    async def test_guard_lost(self) -> None:
        """
        A guard whose program was lost starts another, which knows all groups.
        """
        first, second = (self.sleeper() for _ in range(2))
        watchdog = Watchdog(real)
        watchdog.began(first)
        pipe = watchdog._pipe
        assert pipe is not None and pipe.transport is not None
        lost: Deferred[None] = Deferred()
        ended = pipe.processEnded

        def note(reason: Any) -> None:
            ended(reason)
            lost.callback(None)

        self.patch(pipe, "processEnded", note)
        pipe.transport.signalProcess("KILL")
        await lost
        watchdog.began(second)
        watchdog.stop()
        await exits(real, first)
        await exits(real, second)

    def sleeper(self) -> int:
        """
        A process that leads a group of its own.
        """
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-c", "import signal; signal.pause()"],
            {},
            setsid=True,
        )
        self.addCleanup(self.reap, pid)
        return pid

    def reap(self, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
