"""
Start a server to measure, and keep a connection to it.

Twistd starts the server in a folder of its own, with the stopwatch agent as Kiro.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from fcntl import F_SETPIPE_SZ, fcntl
from http.client import HTTPConnection
from pathlib import Path
from threading import Event, Thread
from typing import Any, Protocol

from attrs import frozen

from tests.programs import environment, install_fake_kiro

#: Size of the pipe of a server's log, in bytes, and the seconds between reads of it, in which
#: no server logs as much.
_PIPE = 1 << 20
_DRAINED_EVERY = 0.25

#: Options with which a server replaces no session while it is measured.
UNRENEWED = ("--max-requests", "1000000")

_TWISTD = (sys.executable, "-c", "from twisted.scripts.twistd import run; run()")


class Started(Protocol):
    """
    Say where a server is started, and in which environment.
    """

    @property
    def folder(self) -> Path:
        """
        Return the server's current folder.
        """

    @property
    def environment(self) -> dict[str, str]:
        """
        Return the environment, in which the agent is on PATH.
        """


@frozen
class Agent:
    """
    Describe how to start the stopwatch agent.

    Attributes:
        folder: The agent's current folder.
        environment: The environment in which `kiro-cli` is that agent.
    """

    folder: Path
    environment: dict[str, str]

    @property
    def log(self) -> Path:
        """
        Return the file of the ends of turns.
        """
        return Path(self.environment["BENCH_LOG"])

    def turns(self) -> list[int]:
        """
        Return the end of each turn so far, in nanoseconds on the monotonic clock.
        """
        return [int(line) for line in self.log.read_text().split()] if self.log.exists() else []


@contextmanager
def agent(module: str = "bench.agent", **variables: str) -> Iterator[Agent]:
    """
    Prepare an agent with a temporary folder and these environment variables.

    Args:
        module: The Python module of the agent.
        **variables: The variables.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        agent_environment = environment(
            PATH=install_fake_kiro(folder / "bin", module),
            BENCH_LOG=str(folder / "turns"),
            KIROWORKERS_PASS_ENV=",".join(("BENCH_LOG", *variables)),
            **variables,
        )
        yield Agent(folder, agent_environment)


@frozen
class Server:
    """
    Describe a running server.
    """

    port: int
    pid: int


@contextmanager
def serving(
    agent: Started, workers: int, *more: str, twistd: Sequence[str] = _TWISTD
) -> Iterator[Server]:
    """
    Run a server with these options and all `workers` ready; stop it afterwards.

    Args:
        agent: The agent.
        workers: The number of workers.
        *more: More options of the server.
        twistd: The command that stands for ``twistd``.
    """
    options = ["-n", "--pidfile=", "kiroworkers", "--port", "0", "--workers", str(workers), *more]
    with _running(agent, [*twistd, *options]) as server:
        assert server.stdout is not None
        output = ""
        while output.count(": ready") < workers:
            line = server.stdout.readline()
            if not line:
                raise RuntimeError(f"the server ended: {output}")
            output += line
        match = re.search(r"listening on .*port=(\d+)", output)
        assert match is not None, output
        with _drained(server.stdout.fileno()):
            yield Server(int(match[1]), server.pid)


@contextmanager
def _drained(log: int) -> Iterator[None]:
    """
    Read what a server logs, many lines at a time.

    A reader that waits for each line would be woken by each, on a core that is needed.
    """
    over = Event()
    fcntl(log, F_SETPIPE_SZ, _PIPE)
    os.set_blocking(log, False)

    def drain() -> None:
        while not over.wait(_DRAINED_EVERY):
            with suppress(BlockingIOError):
                while os.read(log, _PIPE):
                    pass

    reader = Thread(target=drain)
    reader.start()
    try:
        yield
    finally:
        over.set()
        reader.join()


@contextmanager
def other_server(agent: Started, module: str, *arguments: str) -> Iterator[Server]:
    """
    Run another server, which prints its port; stop it afterwards.
    """
    with _running(agent, [sys.executable, "-m", module, *arguments]) as server:
        assert server.stdout is not None
        line = server.stdout.readline()
        if not line.strip().isdigit():
            raise RuntimeError(f"the server ended: {line}{server.stdout.read()}")
        yield Server(int(line), server.pid)


@contextmanager
def _running(agent: Started, command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """
    Run a program in the agent's environment; terminate it afterwards.
    """
    with subprocess.Popen(
        command,
        env=agent.environment,
        cwd=agent.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as server:
        try:
            yield server
        finally:
            server.terminate()
            server.wait(timeout=60)


@contextmanager
def client(port: int) -> Iterator[HTTPConnection]:
    """
    Open a persistent connection.
    """
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        yield connection
    finally:
        connection.close()


def post(connection: HTTPConnection, idea: str) -> bytes:
    """
    Request a story for `idea` and return the body of the response.
    """
    body = json.dumps({"idea": idea})
    connection.request("POST", "/kiro/generate-story", body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    answer = response.read()
    if response.status != 200:
        raise RuntimeError(f"{response.status}: {answer!r}")
    return answer


def story(connection: HTTPConnection, idea: str) -> Any:
    """
    Request a story for `idea` and return it.
    """
    return json.loads(post(connection, idea))
