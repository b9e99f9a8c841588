"""
Send expensive requests to a server: ``python -m tests.cost_fuzz --cases 10000 --seed 1``.

Each case (`tests.cost_cases`) is one client, and several are connected at a time.  The agent
is `tests.costly_agent`.  Whatever the clients do, no callback of the server's event loop may
use more CPU time than `CPU_LIMIT`, every client that reads gets an answer, and none is a
server error.

A callback above the limit is printed with the cases that ran at that time.  To see which of
them it was, run them one by one: ``--clients 1 --only NUMBER…`` with the same seed.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

from attrs import define, evolve, field
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import ConnectError, ProcessExitedAlready
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import LoopingCall, react
from twisted.python.failure import Failure

from kiroworkers.telemetry.loop_monitor import CPU_LIMIT
from tests.cost_cases import Case, case
from tests.programs import Program, environment, install_fake_kiro

real: Any = reactor

#: What the server says when all its sessions are ready.
READY = ("worker2: ready", "kiro-acp-worker3: ready", "kiro-tui-worker1: ready")

#: How many clients are connected at a time, by default.
_CLIENTS = 16

#: Seconds until a client that reads must have its answer: many, for a busy machine.  What clients
#: cost each other is measured as CPU time.
_TIMEOUT = 200

#: Seconds between two looks at the memory of the processes.
_MEMORY_INTERVAL = 1.0

#: With this limit the command reports callbacks that are allowed, so that it knows the worst.
_REPORT_LIMIT = 0.01

#: The most address space of the command's server, in bytes.
_MAX_MEMORY = 4 << 30

_SLOW = re.compile(r"event loop: (\d+) ms of CPU in (.*)")
_STATUS = re.compile(rb"HTTP/1\.1 (?!100)(\d{3}) ")


@define(eq=False)
class Client(Protocol):
    """
    Send what a case says, and receive the response without keeping it.

    Attributes:
        case: The case.
        closed: Fires when the connection is closed.
    """

    case: Case
    closed: Deferred[None] = field(factory=Deferred)
    _start: bytes = b""
    _timer: IDelayedCall | None = None

    @property
    def status(self) -> int:
        """
        Return the status of the first response, or 0 if there is none.
        """
        match = _STATUS.search(self._start)
        return int(match[1]) if match is not None else 0

    def connectionMade(self) -> None:
        transport: Any = self.transport
        if not self.case.reads:
            transport.pauseProducing()
        transport.write(self.case.data)
        if self.case.half_closes:
            transport.loseWriteConnection()
        patience = _TIMEOUT if self.case.reads else self.case.patience
        self._timer = real.callLater(patience, transport.abortConnection)

    def dataReceived(self, data: bytes) -> None:
        if not self.status:
            self._start = (self._start + data)[:2000]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self.closed.callback(None)


class Receiver(Protocol):
    """
    Receive a callback and answer it in the way that its path names, without end.

    Attributes:
        closed: Fires when the connection is closed.
    """

    def __init__(self) -> None:
        self.closed: Deferred[None] = Deferred()
        self._received = b""
        self._loop: LoopingCall | None = None

    def connectionMade(self) -> None:
        factory: Any = self.factory
        factory.receivers.add(self)

    def dataReceived(self, data: bytes) -> None:
        if self._loop is not None:
            return
        self._received += data
        match = re.match(rb"POST /(\w+) ", self._received)
        if match is None:
            return
        start, repeated, interval = _RESPONSES[match[1].decode()]
        transport: Any = self.transport
        transport.write(start)
        self._loop = LoopingCall(transport.write, repeated)
        if interval:
            self._loop.start(interval, now=False)
        else:
            transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._loop is not None and self._loop.running:
            self._loop.stop()
        factory: Any = self.factory
        factory.receivers.discard(self)
        self.closed.callback(None)


class ReceiverFactory(Factory):
    """
    Build a `Receiver` for each connection, and close those that are left.
    """

    protocol = Receiver

    def __init__(self) -> None:
        self.receivers: set[Receiver] = set()

    async def close(self) -> None:
        for receiver in list(self.receivers):
            receiver.transport.abortConnection()  # type: ignore[union-attr]
            await receiver.closed


#: How a receiver responds: its first bytes, what it repeats, and after how many seconds.
_RESPONSES = {
    "headers": (b"HTTP/1.1 200 OK\r\n", b"X-More: " + b"y" * 990 + b"\r\n", 0.001),
    "status": (b"HTTP/1.1 200 ", b"x" * 1000, 0.001),
    "silent": (b"", b"", 60),
    "body": (b"HTTP/1.1 500 No\r\nContent-Length: 999999999\r\n\r\n", b"x" * 10_000, 0.001),
    "close": (b"", b"", 0),
    "continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 40, 0.001),
    "slow": (b"HTTP/1.1 ", b"2", 0.5),
}


@define
class Outcome:
    """
    Hold what came of a run.

    Attributes:
        statuses: How often each status was answered; 0 for a client that got none.
        problems: What must not happen, each with its case.
        slow: The callbacks that the server has reported: milliseconds of CPU time, what ran,
            and the numbers of the cases at that time.
        server_memory: The most memory that the server has used itself, in bytes.
        tree_memory: The most memory that it has used with all its processes, in bytes.
    """

    statuses: Counter[int] = field(factory=Counter)
    problems: list[str] = field(factory=list)
    slow: list[tuple[int, str, list[int]]] = field(factory=list)
    server_memory: int = 0
    tree_memory: int = 0


def options(folder: Path) -> list[str]:
    """
    Return the flags of the server, whose secret for callbacks is kept in `folder`.
    """
    secret = folder / "secret"
    secret.write_text("a secret of at least thirty-two characters")
    secret.chmod(0o600)
    return [
        *("--agent", "kiro-classic=2,kiro-acp=3,kiro-tui=1", "--max-requests", "1000000"),
        *("--backlog", "64", "--request-timeout", "10", "--queue-timeout", "2"),
        *("--receive-timeout", "10", "--cancel-timeout", "2", "--stop-timeout", "1"),
        *("--max-jobs", "200", "--job-ttl", "60"),
        *("--callback-secret-file", str(secret), "--callback-hosts", "localhost"),
    ]


def draw(seed: int, number: int) -> Case:
    """
    Return a case by its number.
    """
    return case(Random(f"{seed} {number}"))


class Fuzz:
    """
    Send cases to a server on loopback.

    Args:
        server: The server, whose log is read.
        port: Its port.
        clients: How many clients are connected at a time.

    Attributes:
        outcome: What came of it so far.
    """

    def __init__(self, server: Program, port: int, clients: int = _CLIENTS) -> None:
        self.outcome = Outcome()
        self._server = server
        self._port = port
        self._clients = clients
        self._running: set[int] = set()
        self._read = len(server.output)
        self._receiver_port = b""

    async def run(
        self, numbers: Iterable[int], draw: Callable[[int], Case], seconds: float = math.inf
    ) -> None:
        """
        Send cases, several at a time.

        Args:
            numbers: The numbers of the cases.
            draw: Returns a case by its number.
            seconds: How long new cases are begun.
        """
        receivers = ReceiverFactory()
        port = real.listenTCP(0, receivers, interface="127.0.0.1")
        self._receiver_port = b"%d" % port.getHost().port
        memory = LoopingCall(self._measure_memory)
        stopped = memory.start(_MEMORY_INTERVAL)
        until = time.monotonic() + seconds
        remaining = iter(numbers)

        async def send_some() -> None:
            for number in remaining:
                if time.monotonic() > until:
                    return
                await self._send(number, draw(number))

        clients = [Deferred.fromCoroutine(send_some()) for _ in range(self._clients)]
        try:
            await gatherResults(clients)
        finally:
            self._measure_memory()
            memory.stop()
            await stopped
            await maybeDeferred(port.stopListening)
            await receivers.close()

    async def _send(self, number: int, case: Case) -> None:
        self._running.add(number)
        client = Client(evolve(case, data=case.data.replace(b"{port}", self._receiver_port)))
        endpoint = TCP4ClientEndpoint(real, "127.0.0.1", self._port, timeout=_TIMEOUT)
        try:
            await connectProtocol(endpoint, client)
        except ConnectError as error:
            self._running.remove(number)
            self.outcome.problems.append(f"{number}: {case.name}: {error}")
            return
        for _ in range(case.reloads):
            self._server.transport.signalProcess("HUP")  # type: ignore[union-attr]
        await client.closed
        self._read_log()
        self._running.remove(number)
        self.outcome.statuses[client.status] += 1
        if case.reads and client.status in (0, 500):
            self.outcome.problems.append(f"{number}: {case.name}: status {client.status}")

    def _read_log(self) -> None:
        end = self._server.output.rfind("\n") + 1
        for milliseconds, what in _SLOW.findall(self._server.output, self._read, end):
            self.outcome.slow.append((int(milliseconds), what, sorted(self._running)))
        self._read = max(end, self._read)

    def _measure_memory(self) -> None:
        outcome, server = self.outcome, self._server.pid
        memory = {pid: _resident(pid) for pid in tree(server)}
        outcome.server_memory = max(outcome.server_memory, memory.get(server, 0))
        outcome.tree_memory = max(outcome.tree_memory, sum(memory.values()))


def tree(pid: int) -> list[int]:
    """
    Return a process and all its descendants.
    """
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(stat.parent.name))
    found = [pid]
    for process in found:
        found += children.get(process, [])
    return found


def _resident(pid: int) -> int:
    """
    Return the resident memory of a process, in bytes, or 0 if it is gone.
    """
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


async def _main(
    numbers: Iterable[int], draw: Callable[[int], Case], clients: int, seconds: float
) -> None:
    server = Program()
    with TemporaryDirectory() as name:
        folder = Path(name)
        # A lower limit, so that the worst callback is known even if it is allowed; and a bound
        # on memory, so that a fault does not take the machine's.
        run = (
            f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({_MAX_MEMORY},) * 2); "
            "from kiroworkers.telemetry import loop_monitor as monitor; "
            f"monitor.CPU_LIMIT = {_REPORT_LIMIT}; "
            "from twisted.scripts.twistd import run; run()"
        )
        path = install_fake_kiro(folder / "bin", "tests.costly_agent")
        arguments = ["-c", run, "-n", "--pidfile=", "kiroworkers", "--port", "0", *options(folder)]
        began = time.monotonic()
        server.start(real, arguments, environment(PATH=path), folder)
        real.addSystemEventTrigger("during", "shutdown", _kill, server)
        port = int((await server.says(r"listening on .*port=(\d+)"))[1])
        for ready in READY:
            await server.says(ready)
        fuzz = Fuzz(server, port, clients)
        await fuzz.run(numbers, draw, seconds)
        await server.signal("TERM")
    sent = sum(fuzz.outcome.statuses.values())
    print(f"{sent} cases, in {time.monotonic() - began:.0f} s")
    failed = _report(fuzz.outcome, server.output)
    raise SystemExit(failed)


def _kill(server: Program) -> None:
    with suppress(ProcessExitedAlready):
        server.signal("KILL")


def _report(outcome: Outcome, output: str) -> bool:
    """
    Print the outcome, and return whether something happened that must not.
    """
    print(f"statuses: {dict(sorted(outcome.statuses.items()))}")
    print(f"memory: server {outcome.server_memory >> 20} MiB, tree {outcome.tree_memory >> 20} MiB")
    for milliseconds, what, numbers in sorted(outcome.slow, reverse=True)[:10]:
        print(f"{milliseconds} ms of CPU in {what}, during {numbers}")
    above = sum(milliseconds > 1000 * CPU_LIMIT for milliseconds, _, _ in outcome.slow)
    print(f"callbacks above {1000 * CPU_LIMIT:.0f} ms: {above}; problems: {len(outcome.problems)}")
    print(*outcome.problems[:20], sep="\n")
    if "Traceback" in output:
        print(output[output.index("Traceback") :][:3000])
    return bool(above or outcome.problems or "Traceback" in output)


def main() -> None:
    """
    Run the command line.
    """
    parser = argparse.ArgumentParser("python -m tests.cost_fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=math.inf, help="begin no case after them")
    parser.add_argument("--clients", type=int, default=_CLIENTS)
    parser.add_argument("--only", type=int, nargs="*", help="run only the cases of these numbers")
    chosen = parser.parse_args()
    numbers = chosen.only if chosen.only is not None else range(chosen.cases)
    if chosen.only is not None:
        print(*(f"{number}: {draw(chosen.seed, number).name}" for number in numbers), sep="\n")
    draw_case = partial(draw, chosen.seed)
    react(
        lambda _: Deferred.fromCoroutine(_main(numbers, draw_case, chosen.clients, chosen.seconds))
    )


if __name__ == "__main__":
    main()
