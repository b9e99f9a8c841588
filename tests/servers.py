"""
The base class of the tests that start servers with twistd.
"""

from __future__ import annotations

import functools
import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import treq
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.trial.unittest import TestCase

from kiroworkers.telemetry.loop_monitor import CPU_LIMIT
from tests import LONG
from tests.fork_server import ForkServer
from tests.programs import (
    FAULTS,
    Program,
    TypedLines,
    environment,
    folder_outside,
    install_fake_kiro,
)

real: Any = reactor

TWISTD = ["-c", "from twisted.scripts.twistd import run; run()"]

#: The headers of a request that is to reach its deadline.  Others keep the server's own, which is
#: long enough for a busy machine.
SOON = {"X-Request-Timeout": "0.5"}

#: How many times the CPU time a callback may use while coverage counts each line.
COVERAGE_FACTOR = 4 if "COVERAGE_PROCESS_START" in os.environ else 1

#: How many times the CPU time a callback may use while several processes wait for each processor:
#: they share its caches and, on a virtual machine, what the hypervisor takes.
_CROWDED_FACTOR = 2

#: How much more CPU time a callback may use that was interrupted for as long as it ran.
_INTERRUPTED_FACTOR = 1.5


@functools.cache
def fork_server() -> ForkServer:
    """
    Return the fork server of this process.
    """
    return ForkServer(environment())


def start_python(
    protocol: ProcessProtocol, command: list[str], env: dict[str, str], folder: Path
) -> None:
    """
    Run Python with `command` in `folder`, by a fork unless that could make a difference.
    """
    may_fork = not (LONG or "COVERAGE_PROCESS_START" in os.environ)
    if may_fork and fork_server().matches(command, env):
        fork_server().start(real, protocol, command, env, folder)
    else:
        arguments = [sys.executable, *command]
        real.spawnProcess(protocol, sys.executable, arguments, env=env, path=str(folder))


def start_similar_python(
    protocol: ProcessProtocol, command: list[str], env: Mapping[str, str], folder: Path
) -> None:
    """
    Do the same, but let the interpreter have its own variables from this process.
    """
    own = {name: value for name, value in environment().items() if name.startswith("PYTHON")}
    start_python(protocol, command, {**own, **env}, folder)


def slow_callbacks(output: str) -> list[str]:
    """
    Return the lines of a server's log that report a callback above the limit of CPU time.

    A callback that other processes interrupted finds the processor's caches cold each time it
    goes on, and may use more CPU time.
    """
    crowded = os.getloadavg()[0] > 2 * (os.cpu_count() or 1)
    allowed = CPU_LIMIT * COVERAGE_FACTOR * (_CROWDED_FACTOR if crowded else 1)
    slow = []
    for line in output.splitlines():
        match = re.search(r"event loop: (\d+) ms of CPU in \S+ \((\d+) ms", line)
        if match is not None:
            cpu, wall = int(match[1]), int(match[2])
            factor = _INTERRUPTED_FACTOR if wall > 2 * cpu else 1
            if cpu > 1000 * allowed * factor:
                slow.append(line)
    return slow


def stalls(output: str) -> list[str]:
    """
    Return the lines of a server's log that report a callback that waited for something.
    """
    return [line for line in output.splitlines() if "event loop: waited" in line]


class ServerTestCase(TestCase):
    """
    Start servers in a temporary folder, and stop them after the test.

    A test fails if a callback of its server used more CPU time than `LoopMonitor` allows.

    Attributes:
        folder: The folder, which is the servers' working directory.
        path: The PATH of the servers, on which the stand-in for Kiro comes first.
        typed: The lines that their sessions submit to the stand-ins.
        server: The server that was started last.
        base: Its URL, without a path.
    """

    #: Whether servers may start by a fork, which takes much less CPU time.  Tests of what
    #: `tests.fork_server` describes as different set it to False.
    forked = True

    #: The arguments that make Python run a server in the foreground.
    foreground: tuple[str, ...] = (*TWISTD, "-n", "--pidfile=", "kiroworkers")

    def setUp(self) -> None:
        self.folder = folder_outside(self)
        self.path = install_fake_kiro(self.folder / "bin")
        self.typed = TypedLines(real, self.folder / "typed")
        self.addCleanup(self.typed.close)

    def run_twistd(self, *options: str, background: bool = False, **env: Any) -> Program:
        """
        Run twistd with the stand-in for Kiro.

        Args:
            *options: The server's flags.
            background: Whether twistd daemonizes.
            **env: Variables to add to its environment.
        """
        program = Program()
        start = (*TWISTD, "kiroworkers") if background else self.foreground
        command = [*start, *options]
        usual = {
            "FAKEKIRO_LOG": str(self.typed.path),
            "KIROWORKERS_PASS_ENV": FAULTS,
            "XDG_STATE_HOME": str(self.folder / "home-state"),
        }
        variables = environment(PATH=self.path, **{**usual, **env})
        if self.forked and not background:
            start_python(program, command, variables, self.folder)
        else:
            program.start(real, command, variables, self.folder)
        self.addCleanup(self._check_callbacks, program)
        return program

    def _check_callbacks(self, program: Program) -> None:
        """
        Fail if a callback of the server kept all its clients waiting.
        """
        for line in stalls(program.output):
            print(line)
        self.assertEqual(slow_callbacks(program.output), [], "a callback took too long")

    async def start(self, *options: str, workers: int = 2, **env: Any) -> Program:
        """
        Start a server, wait until all its workers are ready, and return it.

        The test stops it in the end.
        """
        usual = ("--port", "0", "--workers", str(workers), "--graceful-timeout", "0.1")
        options = (*usual, *options)
        self.server = self.run_twistd(*options, **env)
        self.addCleanup(self.stop)
        port = await self.server.says(r"listening on .*port=(\d+)")
        self.base = f"http://127.0.0.1:{port[1]}"
        for number in range(1, workers + 1):
            await self.server.says(f"worker{number}: ready")
        return self.server

    async def stop(self) -> None:
        if not self.server.ended.called:
            self.server.signal("TERM")
        await self.server.ended

    async def ask(self, task: str, body: Any, **kwargs: Any) -> tuple[Any, Any]:
        """
        Send `body` to `task`; return the response and its decoded JSON body.
        """
        return await self.fetch("POST", f"/kiro/{task}", json=body, **kwargs)

    def story(self, idea: str, **kwargs: Any) -> Deferred[tuple[Any, Any]]:
        """
        Request a story; return a Deferred of the response and its decoded JSON body.
        """
        return Deferred.fromCoroutine(self.ask("generate-story", {"idea": idea}, **kwargs))

    async def fetch(self, method: str, path: str, **kwargs: Any) -> tuple[Any, Any]:
        response = await treq.request(method, self.base + path, persistent=False, **kwargs)
        return response, json.loads(await response.content())

    async def health(self) -> Any:
        _, body = await self.fetch("GET", "/health")
        return body

    async def pids(self) -> list[int]:
        workers = (await self.health())["workers"]
        return [worker["pid"] for worker in workers.values()]

    def header(self, response: Any, name: str) -> str:
        value: str = response.headers.getRawHeaders(name)[0]
        return value
