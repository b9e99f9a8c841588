"""
Measure how much clients without a token slow down a client with one.

A client requests stories, one after the other: alone, and beside twenty loops that request
public pages, with a wrong token or without one, as fast as they are answered.  Half of the
loops open a connection for each request.  The measurements alone and beside the loops take
turns, so that the machine is in the same state for both.  They begin when the loops have used
up the requests that they may send at once.  For comparison, the same is measured on a server
that does not limit the loops.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from itertools import cycle, islice
from threading import Thread

from bench.figures import cpu, median, percentile
from bench.report import Figure, Limit
from bench.server import UNRENEWED, Server, agent, client, serving

QUESTION = "how much do clients without a token slow down a client with one?"

_LOOPS = 20
_ROUNDS, _REQUESTS = 10, 200
_UNLIMITED_ROUNDS = 1
_WARM_UP = 50
#: Seconds after which the loops have used up what they may send at once.
_BURST_SECONDS = 2.0
_CPU_SECONDS = 5.0
_TOKEN = "0123456789abcdef"
_PUBLIC = ("/openapi.json", "/docs", "/ready", "/kiro", "/health")


def measure() -> list[Figure]:
    """
    Measure, and return the figures.
    """
    alone, beside, used = _measured(_ROUNDS)
    _, unlimited, used_unlimited = _measured(_UNLIMITED_ROUNDS, "--anonymous-rate", "0")
    loops = f"{_LOOPS} anonymous loops"
    return [
        Figure("p50 of a client alone", median(alone), "ms"),
        Figure("p99 of a client alone", percentile(alone, 99), "ms"),
        Figure(f"p50 beside {loops}", median(beside), "ms"),
        Figure(f"p99 beside {loops}", percentile(beside, 99), "ms"),
        Figure(f"p50, beside {loops} to alone", median(beside) / median(alone), "x", Limit(most=2)),
        Figure(
            f"p99, beside {loops} to alone",
            percentile(beside, 99) / percentile(alone, 99),
            "x",
            Limit(most=2),
        ),
        Figure(f"CPU of one core for {loops} only", 100 * used, "%", Limit(most=10)),
        Figure("the same with --anonymous-rate 0: p50", median(unlimited), "ms"),
        Figure("p99", percentile(unlimited, 99), "ms"),
        Figure("CPU of one core", 100 * used_unlimited, "%"),
    ]


def _measured(rounds: int, *options: str) -> tuple[list[float], list[float], float]:
    """
    Measure a server with `options`.

    Returns:
        The milliseconds of each request alone, and of each request beside the loops; and
        the part of a core that the loops occupy while the client pauses.
    """
    alone: list[float] = []
    beside: list[float] = []
    with agent() as stopwatch:
        tokens = stopwatch.folder / "tokens"
        tokens.write_text(f"client ask {_TOKEN}\n")
        tokens.chmod(0o600)
        more = ("--token-file", str(tokens), *options, *UNRENEWED)
        with serving(stopwatch, 2, *more) as server, client(server.port) as connection:
            _request_stories(connection, _WARM_UP)
            for _ in range(rounds):
                alone += _request_stories(connection, _REQUESTS)
                with _loops(server):
                    time.sleep(_BURST_SECONDS)
                    beside += _request_stories(connection, _REQUESTS)
            with _loops(server):
                time.sleep(_BURST_SECONDS)
                before = cpu(server.pid)
                time.sleep(_CPU_SECONDS)
                used = (cpu(server.pid) - before) / _CPU_SECONDS
    return alone, beside, used


def _request_stories(connection: HTTPConnection, count: int) -> list[float]:
    """
    Request `count` stories, and return the milliseconds that each took.
    """
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {_TOKEN}"}
    times = []
    for number in range(count):
        began = time.monotonic()
        connection.request(
            "POST", "/kiro/generate-story", json.dumps({"idea": f"idea {number}"}), headers
        )
        response = connection.getresponse()
        answer = response.read()
        times.append(1000 * (time.monotonic() - began))
        if response.status != 200:
            raise RuntimeError(f"{response.status}: {answer!r}")
    return times


@contextmanager
def _loops(server: Server) -> Iterator[None]:
    """
    Run the loops in another process.
    """
    command = [sys.executable, "-m", "bench.anonymous", str(server.port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield
        finally:
            process.kill()


def _loop(port: int, first: int) -> None:
    """
    Send requests until the server stops.

    Args:
        port: The server's port.
        first: The number of the loop, which decides what it requests first.
    """
    headers = {"Authorization": "Bearer fedcba9876543210"} if first % 4 == 0 else {}
    if first % 2:
        headers["Connection"] = "close"
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    for path in islice(cycle(_PUBLIC), first % len(_PUBLIC), None):
        with suppress(OSError, HTTPException):
            connection.request("GET", path, headers=headers)
            connection.getresponse().read()


if __name__ == "__main__":
    for number in range(_LOOPS):
        Thread(target=_loop, args=(int(sys.argv[1]), number), daemon=True).start()
    print("started", flush=True)
    time.sleep(600)
