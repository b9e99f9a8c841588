"""
Tests for `kiroworkers.process.supervisor`, with real trees of processes.
"""

from __future__ import annotations

import errno
import os
import resource
import signal
import sys
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from kiroworkers.process import agent_process
from kiroworkers.process.agent_process import AgentProcess, Command, start
from kiroworkers.process.supervisor import descendants
from tests.programs import ROOT, Program, environment
from tests.trees import HELPERS, LITTER, Holders

real: Any = reactor


class Tree(Holders):
    """
    Run an agent, and follow its processes.

    Attributes:
        output: What it has printed.
        ended: Fires with a description of how the agent ended.
    """

    def __init__(self, test: TestCase) -> None:
        super().__init__(test)
        self.output = b""
        self.ended: Deferred[str] = Deferred()

    def run(
        self, text: str, grace: float = 5.0, window: tuple[int, int] | None = (40, 100)
    ) -> AgentProcess:
        """
        Run the Python program `text` as an agent.
        """
        process = AgentProcess(real, grace, self._on_output, self._on_output, self.ended.callback)
        arguments = ("-c", self.script(text))
        start(real, process, Command(sys.executable, arguments, environment(), ROOT, window))
        return process

    def run_below_server(self, text: str, window: tuple[int, int] | None = (40, 100)) -> Program:
        """
        Run the Python program `text` as an agent of another process, and return that process.
        """
        arguments = ("-c", self.script(text))
        command = Command(sys.executable, arguments, environment(), ROOT, window)
        server = Program()
        server.start(real, ["-c", _SERVER.format(command=command)], environment(), ROOT)
        return server

    def _on_output(self, data: bytes) -> None:
        self.output += data


_ALL = ("agent", *HELPERS)


class TreeTests(TestCase):
    """
    Tests for the end of everything that an agent started.
    """

    async def test_terminate(self) -> None:
        """
        Processes that left the agent's group and session, or their parent, end with it, even
        if they ignore SIGTERM; on a terminal as well as with pipes.
        """
        for window in ((40, 100), None):
            tree = Tree(self)
            process = tree.run(LITTER + "helper('agent')", 0.2, window)
            await tree.holds(*_ALL)
            process.terminate()
            self.assertEqual(await tree.ended, "killed by SIGTERM")
            await tree.emptied

    async def test_ends_by_itself(self) -> None:
        """
        They end as well when the agent ends by itself, whose exit status is reported.
        """
        tree = Tree(self)
        text = LITTER + "hold('agent'); sys.stdin.readline(); print('bye', flush=True); os._exit(3)"
        process = tree.run(text, 0.2, None)
        await tree.holds(*_ALL)
        process.write(b"\n")
        self.assertIn(await tree.ended, ("exit status 3", "closed its pipes; exit status 3"))
        await tree.emptied
        self.assertEqual(tree.output, b"bye\n")

    async def test_saves(self) -> None:
        """
        An agent below a thin parent that ends at SIGTERM has the grace period to itself.
        """
        tree = Tree(self)
        process = tree.run(
            "def save(*_):\n"
            "    time.sleep(0.5)\n"
            "    os.write(descriptor, b'saved ')\n"
            "    os._exit(0)\n"
            "def agent():\n"
            "    global descriptor\n"
            "    descriptor = hold('agent')\n"
            "    signal.signal(signal.SIGTERM, save)\n"
            "    os.write(descriptor, b'ready ')\n"
            "    forever()\n"
            "fork(agent)\n"
            "forever()\n",
            grace=20,
        )
        await tree.holds("agent", "ready")
        process.terminate()
        self.assertEqual(await tree.ended, "killed by SIGTERM")
        await tree.emptied
        self.assertIn(b"saved", tree.text)

    async def test_stopped(self) -> None:
        """
        An agent that is stopped (SIGSTOP) is resumed, so that it can end at SIGTERM.
        """
        tree = Tree(self)
        process = tree.run("hold('agent'); os.kill(os.getpid(), signal.SIGSTOP)", grace=20)
        await tree.holds("agent")
        process.terminate()
        self.assertEqual(await tree.ended, "killed by SIGTERM")

    async def test_keeps_forking(self) -> None:
        """
        Processes that replace themselves all the time cannot escape.
        """
        tree = Tree(self)
        process = tree.run(
            "def replace():\n"
            "    ignore('TERM')\n"
            "    while fork(lambda: os.setsid()) and os.fork():\n"
            "        os._exit(0)\n"
            "    replace()\n"
            "hold('agent')\n"
            "for _ in range(3):\n"
            "    fork(replace)\n"
            "forever()\n",
            grace=0.1,
        )
        await tree.holds("agent")
        process.terminate()
        await tree.ended
        await tree.emptied

    async def test_server_is_killed(self) -> None:
        """
        When the server is killed, everything ends within the grace period.
        """
        tree = Tree(self)
        server = tree.run_below_server(LITTER + "helper('agent')")
        await tree.holds(*_ALL)
        await server.signal("KILL")
        await tree.emptied

    async def test_server_is_killed_meanwhile(self) -> None:
        """
        Everything ends as well if the supervisor is stopped (SIGSTOP) when the server is killed;
        with pipes, no end of a terminal resumes it.
        """
        for window in ((40, 100), None):
            tree = Tree(self)
            server = tree.run_below_server(LITTER + "helper('agent')", window)
            await tree.holds(*_ALL)
            os.kill(descendants(server.pid)[0], signal.SIGSTOP)
            await server.signal("KILL")
            await tree.emptied

    async def test_resumed(self) -> None:
        """
        A supervisor that is stopped and resumed while its server runs leaves the agent alone.
        """
        tree = Tree(self)
        process = tree.run("hold('agent'); sys.stdin.readline(); os._exit(3)", window=None)
        await tree.holds("agent")
        assert process.pid is not None
        os.kill(process.pid, signal.SIGSTOP)
        os.kill(process.pid, signal.SIGCONT)
        process.write(b"\n")
        self.assertIn(await tree.ended, ("exit status 3", "closed its pipes; exit status 3"))

    async def test_supervisor_is_killed(self) -> None:
        """
        An agent does not outlive its supervisor.
        """
        tree = Tree(self)
        process = tree.run("helper('agent', 'TERM', 'HUP')")
        await tree.holds("agent")
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        self.assertEqual(await tree.ended, "killed by SIGKILL")
        await tree.emptied

    async def test_supervisor_is_stopped(self) -> None:
        """
        If the supervisor is stopped (SIGSTOP), what it cannot end is killed with it.
        """
        self.patch(agent_process, "_SUPERVISOR_TIMEOUT", 0.0)
        tree = Tree(self)
        process = tree.run(LITTER + "helper('agent', 'TERM')", 0.1)
        await tree.holds(*_ALL)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGSTOP)
        process.terminate()
        self.assertEqual(await tree.ended, "killed by SIGKILL")
        await tree.emptied

    async def test_unnamed_signal(self) -> None:
        """
        An agent that is killed by a signal without a name is reported by the number.
        """
        tree = Tree(self)
        tree.run("os.kill(os.getpid(), signal.SIGRTMIN + 2)")
        self.assertEqual(await tree.ended, f"killed by signal {signal.SIGRTMIN + 2}")

    async def test_signals(self) -> None:
        """
        An agent that is killed by a signal is reported as killed by it, and signals of a
        terminal do not end the supervisor.
        """
        for name in ("SIGINT", "SIGHUP", "SIGQUIT", "SIGSEGV", "SIGKILL", "SIGUSR1"):
            tree = Tree(self)
            process = tree.run("signal.signal(2, signal.SIG_DFL); helper('agent')")
            await tree.holds("agent")
            assert process.pid is not None
            os.kill(process.pid, signal.SIGINT)
            os.kill(process.pid, signal.SIGHUP)
            [agent] = descendants(process.pid)
            os.kill(agent, getattr(signal, name))
            self.assertEqual(await tree.ended, f"killed by {name}")


#: A server in miniature that runs one agent.
_SERVER = """
from pathlib import PosixPath
from twisted.internet import reactor
from kiroworkers.process.agent_process import AgentProcess, Command, start

ignore = lambda *_: None
reactor.callWhenRunning(
    lambda: start(reactor, AgentProcess(reactor, 0.2, ignore, ignore, ignore), {command!r})
)
reactor.run()
"""

#: Prints what a program can see of how it was started.
_FACTS = """
import os, signal, sys
ignored = [s.name for s in signal.valid_signals()
           if isinstance(s, signal.Signals) and signal.getsignal(s) == signal.SIG_IGN]
print(sorted(os.listdir("/proc/self/fd")), ignored,
      sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())))
print(open("/proc/self/environ").read().split(chr(0)))
print(os.getcwd(), sys.argv, os.isatty(0), oct(os.umask(0)))
"""


class StartTests(TestCase):
    """
    Tests for how an agent is started.
    """

    def run_program(
        self, env: dict[str, str], window: tuple[int, int] | None, *command: str
    ) -> tuple[AgentProcess, list[bytes], Deferred[str]]:
        output: list[bytes] = []
        ended: Deferred[str] = Deferred()
        process = AgentProcess(real, 5, output.append, output.append, ended.callback)
        start(real, process, Command(command[0], command[1:], env, ROOT, window))
        return process, output, ended

    async def test_nothing_is_visible(self) -> None:
        """
        An agent has no other descriptors, variables and ignored or blocked signals than
        those it was given; the locale C, where Python sets LC_CTYPE, is no exception.
        """
        env = {"A": "1", "LANG": "C", "EMPTY": "", "LINES": "a\nb=c"}
        for window in ((40, 1000), None):
            _, output, ended = self.run_program(
                env, window, sys.executable, "-X", "utf8", "-c", _FACTS, "x", ""
            )
            self.assertEqual(await ended, "exit status 0")
            first, variables, rest = b"".join(output).decode().splitlines()
            # The fourth descriptor is that of the listing.  Python ignores two signals.
            self.assertEqual(first, "['0', '1', '2', '3'] ['SIGPIPE', 'SIGXFSZ'] []")
            self.assertEqual(variables, str([*(f"{k}={v}" for k, v in env.items()), ""]))
            mask = oct(os.umask(0o22))
            os.umask(int(mask, 8))
            terminal = window is not None
            self.assertEqual(rest, f"{ROOT} ['-c', 'x', ''] {terminal} {mask}")

    async def test_cannot_run(self) -> None:
        """
        A program that cannot be run is reported as a shell would, with the reason.
        """
        for window in ((40, 1000), None):
            _, output, ended = self.run_program({}, window, "/nowhere/kiro", "chat")
            self.assertEqual(await ended, "exit status 127")
            self.assertEqual(
                b"".join(output).splitlines(), [b"/nowhere/kiro: No such file or directory"]
            )

    async def test_descriptors(self) -> None:
        """
        After 50 sessions this process has the same descriptors, and the same children as before.
        """

        async def run_one(number: int) -> None:
            window = (40, 100) if number % 2 else None
            process, _, ended = self.run_program({}, window, "/bin/cat")
            process.terminate()
            await ended

        await run_one(0)
        before = os.listdir("/proc/self/fd"), descendants(os.getpid())
        for number in range(50):
            await run_one(number)
        self.assertEqual((os.listdir("/proc/self/fd"), descendants(os.getpid())), before)

    def test_nothing_left(self) -> None:
        """
        A start that fails for want of processes or descriptors leaves no descriptor open.
        """

        def fork() -> int:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

        before = os.listdir("/proc/self/fd")
        with self.assertRaises(BlockingIOError):
            self.patch(os, "fork", fork)
            self.run_program({}, (40, 100), "/bin/cat")
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        for spare in range(6):
            for window in ((40, 100), None):
                resource.setrlimit(resource.RLIMIT_NOFILE, (len(before) - 1 + spare, limits[1]))
                with self.assertRaises(OSError):
                    self.run_program({}, window, "/bin/cat")
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
                self.assertEqual(os.listdir("/proc/self/fd"), before)

    async def test_supervisor_cannot_fork(self) -> None:
        """
        A supervisor that can start no process says so, as the last output of the session.
        """
        program = Program()
        program.start(real, ["-c", _CANNOT_FORK], environment(), ROOT)
        self.assertEqual(await program.ended, 1)
        self.assertEqual(program.output, "/bin/kiro: Resource temporarily unavailable\n")


#: A supervisor whose fork fails.
_CANNOT_FORK = """
import errno, os
from kiroworkers.process import supervisor

def fork():
    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

os.fork = fork
supervisor.main(1, os.getppid(), ["/bin/kiro"])
"""
