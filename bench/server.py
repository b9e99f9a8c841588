"""
A server to measure: started by twistd in a folder of its own, with the
stopwatch agent as Kiro, and a client that keeps its connection.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fcntl import F_SETPIPE_SZ, fcntl
from http.client import HTTPConnection
from pathlib import Path
from threading import Event, Thread
from typing import Any, Protocol

from attrs import frozen

from tests.programs import environment, install_fake_kiro

#: Bytes that the kernel keeps of a log, and seconds in which no server logs as much.
_PIPE = 1 << 20
_DRAINED_EVERY = 0.25

#: A server with these renews no session while it is measured.
UNRENEWED = ("--max-requests", "1000000")


class Started(Protocol):
    """
    Where a server is started, and in which environment.
    """

    @property
    def folder(self) -> Path:
        """
        Its current folder.
        """

    @property
    def environment(self) -> dict[str, str]:
        """
        In which its agent is on PATH.
        """


@frozen
class Agent:
    """
    How to start the stopwatch agent, and where it logs.

    Attributes:
        environment: in which `kiro-cli` is that agent.
    """

    folder: Path
    environment: dict[str, str]

    @property
    def log(self) -> Path:
        """
        When turns were over.
        """
        return Path(self.environment["BENCH_LOG"])

    def turns(self) -> list[int]:
        """
        When each turn so far was over, in ns of the monotonic clock.
        """
        return [int(each) for each in self.log.read_text().split()] if self.log.exists() else []


@contextmanager
def agent(**variables: str) -> Iterator[Agent]:
    """
    An agent with a folder, which is deleted afterwards, and these variables.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = environment(
            PATH=install_fake_kiro(folder / "bin", "bench.agent"),
            BENCH_LOG=str(folder / "turns"),
            KIROWORKERS_PASS_ENV=",".join(("BENCH_LOG", *variables)),
            **variables,
        )
        yield Agent(folder, found)


@frozen
class Server:
    """
    A server that runs.
    """

    port: int
    pid: int


@contextmanager
def serving(agent: Started, workers: int, *more: str) -> Iterator[Server]:
    """
    A server with these options whose `workers` are ready; it is stopped afterwards.
    """
    twistd = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()"]
    options = ["-n", "--pidfile=", "kiroworkers", "--port", "0", "--workers", str(workers), *more]
    with _running(agent, [*twistd, *options]) as server:
        assert server.stdout is not None
        said = ""
        while said.count(": ready") < workers:
            line = server.stdout.readline()
            if not line:
                raise RuntimeError(f"the server ended: {said}")
            said += line
        found = re.search(r"listening on .*port=(\d+)", said)
        assert found is not None, said
        with _drained(server.stdout.fileno()):
            yield Server(int(found[1]), server.pid)


@contextmanager
def _drained(log: int) -> Iterator[None]:
    """
    Read what a server logs, a lot at a time: one that waits for each line is woken by
    each, on a core that is needed.
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
def rival(agent: Started, module: str, *arguments: str) -> Iterator[Server]:
    """
    Another server, which prints its port; it is stopped afterwards.
    """
    with _running(agent, [sys.executable, "-m", module, *arguments]) as server:
        assert server.stdout is not None
        said = server.stdout.readline()
        if not said.strip().isdigit():
            raise RuntimeError(f"the server ended: {said}{server.stdout.read()}")
        yield Server(int(said), server.pid)


@contextmanager
def _running(agent: Started, command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """
    A program, in the agent's environment; it is terminated afterwards.
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
    A connection that is kept.
    """
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        yield connection
    finally:
        connection.close()


def post(connection: HTTPConnection, idea: str) -> bytes:
    """
    The answer for `idea`, to its last byte, unread.
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
    The story for `idea`.
    """
    return json.loads(post(connection, idea))
