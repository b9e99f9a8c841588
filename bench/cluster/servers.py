"""
Run servers of a cluster, each of which can be killed, stopped and replaced.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from attrs import define, field

from bench.chaos.http import Connection
from bench.chaos.processes import marked
from bench.chaos.world import free_port
from tests.cost_cases import request

#: Seconds until a server must be ready, and until it must have ended after SIGTERM.
_START_TIMEOUT = 90
_STOP_TIMEOUT = 90

_PAUSE = 0.05

#: Run twistd with a server of this version.
_PROGRAM = (
    "import kiroworkers; kiroworkers.__version__ = {version!r}; "
    "from twisted.scripts.twistd import run; run()"
)


@define
class Server:
    """
    Hold a server that can be started again on the same port, with the same files.

    Attributes:
        name: Its name.
        folder: Its folder, in which everything of it is.
        options: Its options, besides those for its port and state.
        environment: The environment, in which the agent is on PATH.
        port: Its port.
        generation: How often it was started; its version says so.
    """

    name: str
    folder: Path
    options: Sequence[str]
    environment: Mapping[str, str]
    port: int = field(factory=free_port)
    generation: int = 0
    _process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """
        Return the process id of the server.
        """
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """
        Return what it has logged, over all starts.
        """
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def mark(self) -> str:
        """
        Return what the environment of the server and of its sessions has.
        """
        return f"CLUSTER_MARK={self.folder}"

    def start(self) -> None:
        """
        Start the server; `await_ready` waits for it.
        """
        self.folder.mkdir(exist_ok=True)
        self.generation += 1
        name, _, value = self.mark.partition("=")
        program = _PROGRAM.format(version=f"99.{self.generation}")
        command = [sys.executable, "-c", program, "-n", "--pidfile=", "kiroworkers"]
        command += [
            "--port",
            str(self.port),
            "--state-dir",
            str(self.folder / "state"),
            *self.options,
        ]
        # The child has its own descriptor of the log.
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                env={**self.environment, "CLUSTER_SERVER": self.name, name: value},
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def await_ready(self) -> None:
        """
        Wait until a worker of the server is ready.

        Raises:
            RuntimeError: It ends or hangs.
        """
        assert self._process is not None
        until = time.monotonic() + _START_TIMEOUT
        while time.monotonic() < until and self._process.poll() is None:
            if self.status("/ready") == 200:
                return
            time.sleep(_PAUSE)
        raise RuntimeError(f"{self.name} is not ready: {self.log[-2000:]}")

    def status(self, path: str) -> int:
        """
        Return the status of the response to a GET; 0 if there is none.
        """
        with suppress(OSError, ValueError), Connection(self.port) as connection:
            connection.send(request("GET", path))
            return connection.receive().status
        return 0

    def signal(self, number: int) -> None:
        """
        Send it a signal.
        """
        os.kill(self.pid, number)

    def kill(self) -> None:
        """
        Kill the server, and nothing else.
        """
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def wait(self) -> int:
        """
        Wait until the server has ended after SIGTERM, and return its exit status.
        """
        assert self._process is not None
        try:
            return self._process.wait(_STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGABRT)
            return self._process.wait()

    def left(self) -> set[int]:
        """
        Return the processes that the servers have started and that run.
        """
        return marked(self.mark)

    def close(self) -> None:
        """
        Kill what is left.
        """
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        for pid in self.left():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
