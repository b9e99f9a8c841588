"""
Measure what a request costs the server while others wait.

The server's CPU time for an answer is measured with 10, 1,000 and 10,000 requests in
the queue all the time.  The pool is paused until the queue has its length; then
answers are counted, each followed by one more request.
"""

from __future__ import annotations

import json
import resource
import selectors
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bench.exchange import request
from bench.figures import cpu, median
from bench.report import Figure, Limit
from bench.server import UNRENEWED, Server, agent, client, serving

QUESTION = "what does a request cost while others wait?"

_LENGTHS = (10, 1_000, 10_000)
_ANSWERS = 1_000
_ROUNDS = 3
_REQUEST = request("x")


def measure() -> list[Figure]:
    """
    Measure, and return the figures.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if most < _LENGTHS[-1] + 200:
        raise RuntimeError(f"only {most} descriptors are allowed (ulimit -Hn)")
    samples: dict[int, list[float]] = {length: [] for length in _LENGTHS}
    for _ in range(_ROUNDS):
        for length in _LENGTHS:
            samples[length].append(_used(length))
    used = {length: median(times) for length, times in samples.items()}
    first = used[_LENGTHS[0]]
    return [
        *(
            Figure(f"CPU for an answer, {length:,} waiting", 1000 * seconds, "ms")
            for length, seconds in used.items()
        ),
        *(
            Figure(
                f"{length:,} to {_LENGTHS[0]} waiting", used[length] / first, "x", Limit(most=1.2)
            )
            for length in _LENGTHS[1:]
        ),
    ]


def _used(length: int) -> float:
    """
    Return the CPU seconds for an answer while `length` requests wait.
    """
    # Only the queue is measured, so requests neither time out nor are refused.
    most = str(length + 100)
    more = ("--backlog", most, "--max-connections", most)
    patient = ("--queue-timeout", "3600", "--request-timeout", "3600")
    with (
        agent() as stopwatch,
        serving(stopwatch, 1, *more, *patient, *UNRENEWED) as server,
        _queue(server, length) as connections,
    ):
        _answers(connections, 100)
        before = cpu(server.pid)
        _answers(connections, _ANSWERS)
        return (cpu(server.pid) - before) / _ANSWERS


@contextmanager
def _queue(server: Server, length: int) -> Iterator[selectors.BaseSelector]:
    """
    Open connections that each wait for an answer.
    """
    _operate(server, "pause")
    with selectors.DefaultSelector() as selector:
        connections = []
        try:
            for _ in range(length):
                connection = socket.create_connection(("127.0.0.1", server.port))
                connection.sendall(_REQUEST)
                selector.register(connection, selectors.EVENT_READ)
                connections.append(connection)
            while _waiting(server) < length:
                pass
            _operate(server, "resume")
            yield selector
        finally:
            for connection in connections:
                connection.close()


def _answers(selector: selectors.BaseSelector, count: int) -> None:
    """
    Receive `count` answers, and send one more request after each.
    """
    while count > 0:
        for key, _ in selector.select():
            connection: Any = key.fileobj
            answer = connection.recv(65536)
            if not answer.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(answer)
            connection.sendall(_REQUEST)
            count -= 1


def _operate(server: Server, what: str) -> None:
    with client(server.port) as connection:
        connection.request("POST", f"/operator/{what}")
        connection.getresponse().read()


def _waiting(server: Server) -> int:
    """
    Return how many requests wait.
    """
    with client(server.port) as connection:
        connection.request("GET", "/health")
        length: int = json.loads(connection.getresponse().read())["queue"]["length"]
        return length
