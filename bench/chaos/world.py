"""
Run the server, and what surrounds it: its disk, its clock and its log.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any

from attrs import define, field

from bench.chaos.http import Connection, Response
from bench.chaos.plan import CLIENTS
from bench.chaos.processes import marked
from tests.cost_cases import request
from tests.programs import environment, install_fake_kiro
from tests.stepped_clock import SteppedClock

#: The name of the token that may do everything.
OPERATOR = "operator"

#: The secret with which callbacks are signed.
SECRET = "a secret of chaos"

#: The size of the disk of the jobs, if it can be a file system of its own.
_DISK_SIZE = "24m"

#: Seconds until a server that does not answer hangs, for which its workers may start, and
#: until it must have ended.  A busy machine needs more than a minute until the first answer.
_HANG_TIMEOUT = 300
_START_TIMEOUT = 60
_STOP_TIMEOUT = 60

#: Seconds that the server gives a client to send a request.
RECEIVE_TIMEOUT = 3

#: Callbacks that use less CPU time than this many seconds are not reported.
_REPORT_LIMIT = 0.01

#: Run twistd with a server that reports other callbacks than usual.
_PROGRAM = (
    f"from kiroworkers.telemetry import loop_monitor; loop_monitor.CPU_LIMIT = {_REPORT_LIMIT}; "
    "from twisted.scripts.twistd import run; run()"
)

_LINE = re.compile(r'"(?P<host>[^"]*)" - (?P<user>\S+) \[.*" "chaos/(?P<name>[^"]+)"')
_SLOW = re.compile(r"event loop: (\d+) ms of CPU in (\S+)")


@define
class World:
    """
    Hold a server that can be killed and started again.

    Attributes:
        folder: Its folder, in which everything is.
        port: Its port.
        options: Its options.
        clock: Its wall clock.
        up: Set while it accepts requests.
        mounted: Whether its jobs have a file system of their own.
        generation: How many servers were started before this one.
    """

    folder: Path
    options: Sequence[str]
    clock: SteppedClock
    mounted: bool = False
    port: int = field(factory=lambda: free_port())
    up: Event = field(factory=Event)
    generation: int = -1
    _process: subprocess.Popen[bytes] | None = None
    _reader: Thread | None = None

    @property
    def state(self) -> Path:
        """
        Return the folder that is the server's --state-dir.
        """
        return self.folder / "state"

    @property
    def log(self) -> Path:
        """
        Return the file that has the log.
        """
        return self.folder / "log"

    @property
    def pid(self) -> int:
        """
        Return the process id of the server.
        """
        assert self._process is not None
        return self._process.pid

    def mark(self, generation: int) -> str:
        """
        Return what the environment of a server and its sessions has.
        """
        return f"CHAOS_MARK={self.folder.name}-{generation}"

    def start(self) -> None:
        """
        Start the server, and wait until it answers and its workers had time to become idle.

        The caller then sets `up`.

        Raises:
            RuntimeError: If it ends or hangs.
        """
        self.generation += 1
        name, _, value = self.mark(self.generation).partition("=")
        variables = environment(
            PATH=install_fake_kiro(self.folder / "bin", "bench.chaos.agent"),
            CHAOS_FOLDER=str(self.folder),
            KIROWORKERS_PASS_ENV="CHAOS_*",
        )
        variables.update({name: value, **self.clock.environment})
        # Callbacks have a limit of CPU time, and measuring coverage multiplies what they use.
        untraced = {key: text for key, text in variables.items() if "COVERAGE" not in key}
        command = [sys.executable, "-c", _PROGRAM]
        options = [*("-n", "--pidfile=", "kiroworkers", "--port", str(self.port)), *self.options]
        self._process = subprocess.Popen(
            [*command, *options],
            env=untraced,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._reader = Thread(target=self._read_log, args=(self._process,))
        self._reader.start()
        if not self.await_health(lambda health: True, _HANG_TIMEOUT):
            raise RuntimeError(f"the server did not answer for {_HANG_TIMEOUT} seconds")
        self.await_health(_all_idle, _START_TIMEOUT)

    def _read_log(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        with self.log.open("ab") as log:
            while data := os.read(process.stdout.fileno(), 1 << 16):
                log.write(data)

    def kill(self) -> None:
        """
        Kill the server, and nothing else.
        """
        assert self._process is not None
        self.up.clear()
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        """
        Stop the server, and return its exit status.
        """
        assert self._process is not None and self._reader is not None
        self.up.clear()
        self._process.terminate()
        try:
            status = self._process.wait(_STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGABRT)
            status = self._process.wait()
        self._reader.join()
        return status

    def close(self) -> None:
        """
        Kill what is left of the servers and sessions, and give the clock and the disk back.
        """
        if self._process is not None and self._process.poll() is None:
            self.kill()
        for generation in range(self.generation + 1):
            for pid in marked(self.mark(generation)):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        if self._reader is not None:
            self._reader.join()
        self.clock.close()
        if self.mounted:
            subprocess.run(["umount", "-l", str(self.state)], check=False)

    def signal(self, number: int) -> None:
        """
        Send a signal to the server.
        """
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def get(self, path: str) -> Response:
        """
        Return the response to a GET of the operator.
        """
        with Connection(self.port) as connection:
            connection.send(request("GET", path, headers=authorization(OPERATOR)))
            return connection.receive()

    def health(self) -> Any:
        """
        Return the body of /health; None while the server does not answer.
        """
        try:
            return self.get("/health").json()
        except (OSError, ValueError):
            return None

    def await_health(self, fits: Any, timeout: float) -> bool:
        """
        Wait until /health is what `fits` accepts, and return whether it was in time.
        """
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            assert self._process is not None
            if self._process.poll() is not None:
                raise RuntimeError(f"the server ended: {self.log.read_text()[-2000:]}")
            health = self.health()
            if health is not None and fits(health):
                return True
            time.sleep(0.1)
        return False

    def workers(self) -> dict[str, Any]:
        """
        Return the workers by their names; none while the server does not answer.
        """
        health = self.health()
        return {} if health is None else dict(health["workers"])


def authorization(client: str) -> Mapping[str, str]:
    """
    Return the header that has the token of `client`.
    """
    return {"Authorization": f"Bearer {token(client)}"}


def token(client: str) -> str:
    """
    Return the token of `client`.
    """
    return f"token-of-{client}-0123456789"


def secrets(folder: Path) -> Sequence[str]:
    """
    Write the files of the tokens and of the callbacks' secret, and return a server's options.
    """
    tokens, secret = folder / "tokens", folder / "secret"
    lines = [f"{client} ask {token(client)}" for client in CLIENTS]
    tokens.write_text("\n".join([*lines, f"{OPERATOR} ask,watch,operate {token(OPERATOR)}"]) + "\n")
    secret.write_text(SECRET)
    for file in (tokens, secret):
        file.chmod(0o600)
    return (
        *("--token-file", str(tokens), "--callback-secret-file", str(secret)),
        *("--callback-hosts", "127.0.0.1"),
    )


@contextmanager
def world(folder: Path, options: Sequence[str]) -> Iterator[World]:
    """
    Prepare a world in `folder`; end everything in it afterwards.

    Args:
        folder: An empty folder.
        options: The options of the server, besides those for its files.
    """
    made = World(
        folder,
        (*options, *secrets(folder), "--state-dir", str(folder / "state")),
        SteppedClock(folder),
    )
    made.state.mkdir(mode=0o700)
    made.mounted = _mount(made.state)
    try:
        yield made
    finally:
        made.close()


def enter_namespace(module: str, arguments: Sequence[str]) -> None:
    """
    Run this program again where it may mount file systems, if the kernel allows that.
    """
    if "CHAOS_NAMESPACE" in os.environ:
        return
    os.environ["CHAOS_NAMESPACE"] = ""
    for flags in ("-m", "-rm"):
        with suppress(OSError):
            if subprocess.run(["unshare", flags, "true"], stderr=subprocess.DEVNULL).returncode:
                continue
            os.environ["CHAOS_NAMESPACE"] = flags
            os.execvp("unshare", ["unshare", flags, sys.executable, "-m", module, *arguments])


def _mount(folder: Path) -> bool:
    """
    Mount a small file system at `folder`, and return whether that was allowed.
    """
    if not os.environ.get("CHAOS_NAMESPACE"):
        return False
    options = f"size={_DISK_SIZE},mode=700"
    command = ["mount", "-t", "tmpfs", "-o", options, "chaos", str(folder)]
    return subprocess.run(command, stderr=subprocess.DEVNULL).returncode == 0


def read_log(text: str) -> tuple[Counter[str], dict[str, str], list[tuple[int, str]]]:
    """
    Return what a log says, be it text or JSON.

    Returns:
        The number of lines by the name in the User-Agent; the names of the clients in them;
        and the milliseconds and the name of each callback above the limit.
    """
    lines: Counter[str] = Counter()
    clients = {}
    slow = []
    for line in text.splitlines():
        if line.startswith("{"):
            line = _as_text(line)
        if match := _LINE.search(line):
            lines[match["name"]] += 1
            clients[match["name"]] = match["user"]
        elif match := _SLOW.search(line):
            slow.append((int(match[1]), match[2]))
    return lines, clients, slow


def _as_text(line: str) -> str:
    """
    Return a line of a log of JSON as `read_log` finds it in a log of text.
    """
    try:
        event = json.loads(line)
    except ValueError:
        return line
    if "userAgent" not in event:
        return str(event.get("message", ""))
    host, user = event.get("address", "-"), event.get("user", "-")
    return f'"{host}" - {user} [] "" "{event["userAgent"]}"'


def _all_idle(health: Any) -> bool:
    return all(worker["status"] == "idle" for worker in health["workers"].values())


def free_port() -> int:
    """
    Return a free port that the kernel gives to nobody while the server is down.
    """
    low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    ports: list[int] = [*range(10_000, low), *range(high + 1, 1 << 16)]
    for port in random.sample(ports, len(ports)):
        with suppress(OSError), socket.socket() as listener:
            listener.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no port is free")
