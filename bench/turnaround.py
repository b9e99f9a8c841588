"""
Measure the time from the end of a turn to the beginning of the next.

While a request waits, the next turn begins as soon as the session is idle: the agent's
conversation has been cleared, or another one has been opened.  The time is measured in the
agent: from the end of its turn to the arrival of the next prompt.  For comparison, a new
process for each request is idle after its start, its handshake and its first conversation.

With ``--turns N`` it is counted instead what N turns leave behind: the memory of the server
and of the agent, and the agent's files.
"""

from __future__ import annotations

import itertools
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

from attrs import frozen

from bench.figures import median, percentile, resident
from bench.report import Figure, Limit
from bench.server import UNRENEWED, Agent, agent, client, serving, story
from bench.terminals import on_pty

QUESTION = "how long does a session need from an answer to the next prompt?"

#: The usual minimum and maximum duration of ``session/new`` in captures of the real Kiro, in
#: seconds.
_SHORT, _LONG = 0.3, 2.0

#: The goal for a turnaround, in milliseconds.
_TARGET = Limit(most=50)

_ROUNDS = 10
_VERSION = "2.28.0"
_GENERIC = shlex.join([sys.executable, "-m", "bench.turnaround_agent", "generic"])


@frozen
class _Transport:
    """
    Describe how an agent is driven.

    Attributes:
        name: What to call it.
        options: The server's options.
        opens: How long the agent takes to open a conversation, in seconds.
        thinks: How long a turn takes, in seconds.
        turns: How many turns to measure.
        limit: The target of the median.
    """

    name: str
    options: tuple[str, ...]
    opens: float = 0
    thinks: float = 0
    turns: int = 300
    limit: Limit | None = _TARGET


_V2 = ("--agent", "kiro-acp")
_V3 = ("--agent", "kiro-acp-v3")
_ACP = ("--agent", "acp", "--agent-command", _GENERIC)

_TERMINAL = "terminal, cleared"
_CLEARED = "ACP, engine v2, cleared in place"
_PREPARED = f"ACP, engine v3, prepared in {_SHORT:g} s"

_TRANSPORTS = (
    _Transport(_TERMINAL, ("--agent", "kiro-classic")),
    _Transport(_CLEARED, _V2, _LONG),
    _Transport(_PREPARED, _V3, _SHORT, 0.6, 20),
    _Transport(f"ACP, engine v3, prepared in {_LONG:g} s", _V3, _LONG, 2.5, 8),
    _Transport(f"ACP, any agent, prepared in {_SHORT:g} s", _ACP, _SHORT, 0.6, 20),
    _Transport(f"ACP, any agent, prepared in {_LONG:g} s", _ACP, _LONG, 2.5, 8),
    # The turn is over before the next conversation is open.
    _Transport(f"ACP, any agent, opened in {_SHORT:g} s, not prepared", _ACP, _SHORT, 0, 8, None),
    _Transport(f"ACP, any agent, opened in {_LONG:g} s, not prepared", _ACP, _LONG, 0, 4, None),
)


def measure() -> list[Figure]:
    """
    Measure, and return the figures.
    """
    figures, medians = [], {}
    for transport in _TRANSPORTS:
        with _started(transport) as started:
            samples = _turnarounds(started, transport)
        medians[transport.name] = median(samples)
        what = f"{transport.name}, p50"
        figures.append(Figure(what, median(samples), "ms", transport.limit))
        figures.append(Figure(f"{transport.name}, p90", percentile(samples, 90), "ms"))
    for kind, name, start in (
        ("a terminal", _TERMINAL, _terminal_start),
        (f"ACP, engine v2, opened in {_SHORT:g} s", _CLEARED, lambda: _acp_start("v2")),
        (f"ACP, engine v3, opened in {_SHORT:g} s", _PREPARED, lambda: _acp_start("v3")),
    ):
        took = median([start() for _ in range(_ROUNDS)])
        figures.append(Figure(f"a new process each: {kind}, p50", took, "ms"))
        figures.append(Figure(f"a new process to: {name}", took / medians[name], "x"))
    return figures


@contextmanager
def _started(transport: _Transport, **variables: str) -> Iterator[Agent]:
    faults = f"new={transport.opens}" if transport.opens else ""
    with agent(
        "bench.turnaround_agent", FAKEKIRO=faults, FAKEKIRO_VERSION=_VERSION, **variables
    ) as started:
        yield started


def _turnarounds(started: Agent, transport: _Transport) -> list[float]:
    """
    Return the milliseconds from the end of each turn to the beginning of the next.
    """
    fault = f" [[think={transport.thinks}]]" if transport.thinks else ""
    with (
        serving(started, 1, *transport.options, *UNRENEWED) as server,
        client(server.port) as one,
        client(server.port) as other,
        ThreadPoolExecutor(2) as together,
    ):
        # Two clients, so that a request always waits.
        half = transport.turns // 2 + 2
        for done in [
            together.submit(_ask, connection, half, f"client {name}{fault}")
            for name, connection in enumerate((one, other))
        ]:
            done.result()
    events = [line.split() for line in started.log.read_text().splitlines()]
    times = [(event, int(moment) / 1e6) for event, moment in events]
    waits = [
        begin - end
        for (first, end), (second, begin) in itertools.pairwise(times)
        if (first, second) == ("end", "begin")
    ]
    # The first turns warm up, and after the last ones nobody waits.
    return waits[2:-1]


def _ask(connection: HTTPConnection, turns: int, idea: str) -> None:
    for _ in range(turns):
        if story(connection, idea)["title"] != idea:
            raise RuntimeError("somebody else's answer")


def _terminal_start() -> float:
    """
    Return the milliseconds from the start of the program to its prompt on a terminal.
    """
    with agent("bench.turnaround_agent", FAKEKIRO_VERSION=_VERSION) as started:
        began = time.monotonic()
        with on_pty(started, "kiro-cli", "chat"):
            return (time.monotonic() - began) * 1000


def _acp_start(engine: str) -> float:
    """
    Return the milliseconds from the start of the program to its first conversation.
    """
    command = ["kiro-cli", "acp", "--agent-engine", engine, "--auth-method", "cli"]
    capabilities = {"fs": {"readTextFile": False, "writeTextFile": False}, "terminal": False}
    about = {"protocolVersion": 1, "clientCapabilities": capabilities, "clientInfo": {}}
    requests = [
        {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": about},
        {
            "jsonrpc": "2.0",
            "id": 2,
            "method": "session/new",
            "params": {"cwd": "/", "mcpServers": []},
        },
    ]
    with agent(
        "bench.turnaround_agent", FAKEKIRO=f"new={_SHORT} fork=no", FAKEKIRO_VERSION=_VERSION
    ) as started:
        began = time.monotonic()
        with subprocess.Popen(
            command,
            env=started.environment,
            cwd=started.folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as process:
            assert process.stdin is not None and process.stdout is not None
            for request in requests:
                process.stdin.write(json.dumps(request).encode() + b"\n")
                process.stdin.flush()
                while json.loads(process.stdout.readline()).get("id") != request["id"]:
                    pass
            took = (time.monotonic() - began) * 1000
            process.kill()
    return took


def steady(turns: int) -> list[Figure]:
    """
    Return the memory and files after `turns` turns, for each transport that needs no long turns.
    """
    figures: list[Figure] = []
    for name, options in (
        ("terminal", ("--agent", "kiro-classic")),
        ("ACP, engine v2", _V2),
        ("ACP, engine v3", _V3),
        ("ACP, any agent", _ACP),
    ):
        transport = _Transport(name, options, opens=0.001)
        with _started(transport) as started:
            home = started.folder / "kiro-home"
            home.mkdir()
            started.environment["KIRO_HOME"] = str(home)
            figures += _left_behind(started, transport, turns, home)
    return figures


def _left_behind(started: Agent, transport: _Transport, turns: int, home: Path) -> Iterator[Figure]:
    name = transport.name
    with (
        serving(started, 1, *transport.options, *UNRENEWED) as server,
        client(server.port) as connection,
    ):
        # By then, everything that is made once and each cache have their final size.
        early = max(turns // 5, 10)
        _ask(connection, early, "x")
        before, files_before = _memory(server.pid), _files(home)
        _ask(connection, turns - early, "x")
        after, files = _memory(server.pid), _files(home)
    for who, grown in (("server", after[0] / before[0]), ("agent", after[1] / before[1])):
        figure = f"{name}: memory of the {who}, turn {turns:,} to turn {early:,}"
        yield Figure(figure, grown, "x", Limit(most=1.1))
    limit = None if "v3" in name else Limit(most=0)
    yield Figure(f"{name}: files of conversations, more than then", files - files_before, "", limit)


def _memory(server: int) -> tuple[int, int]:
    """
    Return the resident bytes of the server and of all processes below it.
    """
    below = _descendants(server)
    return resident(server), sum(resident(pid) for pid in below)


def _descendants(pid: int) -> Sequence[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    children = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    return [*children, *(below for child in children for below in _descendants(child))]


def _files(home: Path) -> int:
    return sum(path.is_file() for path in home.rglob("*"))
