"""
Tests for `tests.fork_server`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from tests.fork_server import ForkServer
from tests.programs import ROOT, Program, alive, environment, exits, folder_outside
from tests.servers import fork_server

real: Any = reactor

#: Prints what a program finds when it starts.
_INSPECT = """
import gc, json, os, resource, signal, sys, tempfile, threading, time

def stream(file):
    return [
        file.fileno(), file.mode, file.encoding, file.errors, file.isatty(), file.seekable(),
        file.line_buffering, file.write_through, type(file.buffer).__name__,
    ]

print(json.dumps({
    "arguments": [sys.argv, sys.orig_argv],
    "path": sys.path,
    "environment": sorted(os.environ.items()),
    "inherited": sorted(map(os.fsdecode, os.environb)),
    "folder": os.getcwd(),
    "flags": [*sys.flags],
    "main": [__name__, globals().get("__file__"), "twisted.internet.reactor" in sys.modules],
    "descriptors": [n for n in range(999) if os.path.exists(f"/proc/self/fd/{n}")],
    "streams": [stream(file) for file in (sys.stdin, sys.stdout, sys.stderr)],
    "signals": {n: str(signal.getsignal(n)).split(" at ")[0] for n in signal.valid_signals()},
    "mask": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
    "group": [os.getpgrp(), os.getsid(0), os.umask(0)],
    "limits": [resource.getrlimit(getattr(resource, n)) for n in dir(resource) if "LIMIT_" in n],
    "threads": threading.active_count(),
    "temporary": tempfile.tempdir,
    "zone": time.tzname,
    "collector": gc.isenabled(),
    "input": sys.stdin.read(),
}))
"""


#: Starts a program, and waits.
_ORPHAN = """
import pathlib, signal
from tests.servers import Program, environment, fork_server, real
program = Program()
command = ["-c", "import signal; signal.pause()"]
fork_server().start(real, program, command, environment(), pathlib.Path("/"))
print("pids", fork_server().pid, program.pid, flush=True)
signal.pause()
"""

#: Starts a program with a fork server that cannot fork, and again with one that can.
_NO_PROCESS = '''
import os, pathlib
from tests import fork_server
from tests.servers import Program, environment, real

failing = """
import errno, os
fork = os.fork
def fail():
    os.fork = fork
    raise BlockingIOError(errno.EAGAIN, "")
os.fork = fail
"""
fork_server._PROGRAM = failing + fork_server._PROGRAM
server = fork_server.ForkServer(environment())
arguments = real, Program(), ["-c", "pass"], environment(), pathlib.Path("/")
before = len(os.listdir("/proc/self/fd"))
try:
    server.start(*arguments)
except OSError as error:
    print(error.strerror)
print("descriptors", len(os.listdir("/proc/self/fd")) - before)
server.start(*arguments)
print("started", flush=True)
'''


class ForkServerTests(TestCase):
    """
    Tests for processes that a fork server starts.
    """

    def setUp(self) -> None:
        self.folder = folder_outside(self)

    def fork(self, code: str) -> Program:
        """
        Start a program by a fork.
        """
        program = Program()
        fork_server().start(real, program, ["-c", code], environment(), self.folder)
        return program

    async def test_like_python(self) -> None:
        """
        A program finds what it finds when Python starts by itself.
        """
        (self.folder / "inspecting.py").write_text(_INSPECT)
        env = environment(A="\udcff", PATH="/bin")
        for start in (["-c", _INSPECT], ["-m", "inspecting"]):
            usual, forked = Program(), Program()
            command = [*start, "--flag", "ü"]
            usual.start(real, command, env, self.folder)
            fork_server().start(real, forked, command, env, self.folder)
            for program in (usual, forked):
                program.type("typed")
                program.transport.closeStdin()  # type: ignore[union-attr]
                self.assertEqual(await program.ended, 0, program.output)
            self.assertEqual(json.loads(forked.output), json.loads(usual.output))

    async def test_end(self) -> None:
        """
        Its end is reported as it was: the exit status, a signal, or an exception.
        """
        for code, status, output in [
            ("print('end')", 0, "end\n"),
            ("raise SystemExit(7)", 7, ""),
            ("import atexit; atexit.register(print, 'last'); raise SystemExit('why')", 1, "why\n"),
            ("1 / 0", 1, "ZeroDivisionError"),
            ("import os; os._exit(9)", 9, ""),
            ("import os; os.kill(os.getpid(), 9)", -9, ""),
        ]:
            program = self.fork(code)
            self.assertEqual(await program.ended, status, code)
            self.assertIn(output, program.output)

    async def test_signal(self) -> None:
        """
        Signals reach it.
        """
        program = self.fork("import signal; print('ready', flush=True); signal.pause()")
        await program.says("ready")
        self.assertEqual(await program.signal("TERM"), -signal.SIGTERM)

    async def test_random(self) -> None:
        """
        No two draw the same random numbers.
        """
        programs = [self.fork("import random; print(random.random())") for _ in range(2)]
        for program in programs:
            await program.ended
        self.assertNotEqual(programs[0].output, programs[1].output)

    def test_matches(self) -> None:
        """
        The interpreter must be the same, and so must the variables that it reads at its start.
        """
        env, command = environment(), ["-c", "pass"]
        self.assertTrue(fork_server().matches(command, {**env, "PATH": "/bin", "HOME": "/"}))
        for name in ("PYTHONPATH", "PYTHONHASHSEED", "TZ", "LD_PRELOAD", "LC_ALL"):
            self.assertFalse(fork_server().matches(command, {**env, name: "1"}), name)
        self.assertFalse(fork_server().matches(["-I", "program.py"], env))
        self.patch(sys, "executable", "/bin/python")
        self.assertFalse(fork_server().matches(command, env))

    async def test_killed(self) -> None:
        """
        If the fork server is killed, its programs are killed, and no others start.
        """
        server = ForkServer(environment())
        program, second = Program(), Program()
        command = ["-c", "import signal; print('ready', flush=True); signal.pause()"]
        server.start(real, program, command, environment(), self.folder)
        await program.says("ready")
        os.kill(server.pid, signal.SIGKILL)
        os.waitpid(server.pid, 0)
        gone = exits(real, program.pid)
        self.assertEqual(await program.ended, 255)
        await gone
        with self.assertRaises(RuntimeError):
            server.start(real, second, command, environment(), self.folder)

    async def test_test_process_is_killed(self) -> None:
        """
        The fork server and its programs end with the test process, however that ends.
        """
        program = Program()
        program.start(real, ["-c", _ORPHAN], environment(), ROOT)
        found = await program.says(r"pids (\d+) (\d+)")
        pids = [int(pid) for pid in found.groups()]
        ends = [exits(real, pid) for pid in pids]
        await program.signal("KILL")
        for ended in ends:
            await ended
        self.assertEqual([pid for pid in pids if alive(pid)], [])

    async def test_no_process(self) -> None:
        """
        If the system starts no more processes, the fork server says so, and goes on.
        """
        program = Program()
        program.start(real, ["-c", _NO_PROCESS], environment(), ROOT)
        self.assertEqual(await program.ended, 0, program.output)
        self.assertIn("Resource temporarily unavailable\n", program.output)
        self.assertIn("descriptors 0\n", program.output)
        self.assertIn("started\n", program.output)

    def test_request_too_long(self) -> None:
        """
        A request that the socket cannot carry is an error, and leaves no descriptor open.
        """
        fork_server()
        before = len(os.listdir("/proc/self/fd"))
        with self.assertRaisesRegex(OSError, "too long"):
            self.fork("#" * 10_000_000)
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)
