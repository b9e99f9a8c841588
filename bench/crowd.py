"""
Measure what many sessions on one server cost.

Once while nobody sends requests, and once while fifty of them draw spinners.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection

from bench.exchange import request
from bench.figures import cpu, median, percentile, resident
from bench.report import Figure, Limit
from bench.server import UNRENEWED, Server, agent, client, serving

QUESTION = "what do many sessions cost?"

_FEW, _IDLE, _STREAMING = 2, 100, 50
#: Long enough for one health check.
_IDLE_SECONDS = 60.0
_STREAMED_SECONDS = 15.0
_HEALTH_REQUESTS = 300


def measure() -> list[Figure]:
    """
    Measure, and return the figures.
    """
    with agent() as stopwatch, serving(stopwatch, _FEW, *UNRENEWED) as server:
        _health_times(server, _HEALTH_REQUESTS)
        resident_few = resident(server.pid)
    with agent() as stopwatch, serving(stopwatch, _IDLE, *UNRENEWED) as server:
        times = _health_times(server, _HEALTH_REQUESTS)
        resident_idle = resident(server.pid)
        used = cpu(server.pid)
        time.sleep(_IDLE_SECONDS)
        idle = (cpu(server.pid) - used) / _IDLE_SECONDS
    with (
        agent() as stopwatch,
        serving(stopwatch, _IDLE + _STREAMING, *UNRENEWED) as server,
        streams(server, _STREAMING, 4 * _STREAMED_SECONDS),
    ):
        used, began = cpu(server.pid), time.monotonic()
        streamed_times = _health_times(
            server, _HEALTH_REQUESTS, _STREAMED_SECONDS / _HEALTH_REQUESTS
        )
        streaming = (cpu(server.pid) - used) / (time.monotonic() - began)
        streamed = resident(server.pid)
    a_session = (resident_idle - resident_few) / (_IDLE - _FEW) / 1000
    return [
        Figure(f"CPU of one core, {_IDLE} idle", 100 * idle, "%", Limit(most=1)),
        Figure(f"memory of the server a session, {_IDLE} idle", a_session, "KB", Limit(most=150)),
        Figure(f"GET /health, {_IDLE} idle, p50", median(times), "ms"),
        Figure(f"GET /health, {_IDLE} idle, p99", percentile(times, 99), "ms", Limit(most=20)),
        Figure(
            f"CPU of one core, {_IDLE} idle and {_STREAMING} at 12 frames a second, asked for "
            f"/health {_HEALTH_REQUESTS / _STREAMED_SECONDS:.0f} times a second",
            100 * streaming,
            "%",
        ),
        Figure(
            f"memory of the server a session, {_STREAMING} of {_IDLE + _STREAMING} streaming",
            (streamed - resident_few) / (_IDLE + _STREAMING - _FEW) / 1000,
            "KB",
            Limit(most=150),
        ),
        Figure(f"GET /health, {_STREAMING} streaming, p50", median(streamed_times), "ms"),
        Figure(
            f"GET /health, {_STREAMING} streaming, p99",
            percentile(streamed_times, 99),
            "ms",
            Limit(most=20),
        ),
    ]


def _health_times(server: Server, count: int, pause: float = 0) -> list[float]:
    """
    Return the milliseconds that each of `count` requests to /health took.
    """
    with client(server.port) as connection:
        return [_health_time(connection, pause) for _ in range(count)]


def _health_time(connection: HTTPConnection, pause: float) -> float:
    began = time.monotonic()
    connection.request("GET", "/health")
    connection.getresponse().read()
    took = time.monotonic() - began
    time.sleep(max(0.0, pause - took))
    return took * 1000


@contextmanager
def streams(server: Server, count: int, seconds: float) -> Iterator[None]:
    """
    Keep `count` turns running for so many seconds.
    """
    with ExitStack() as stack:
        for number in range(count):
            connection = socket.create_connection(("127.0.0.1", server.port))
            stack.enter_context(connection)
            connection.sendall(request(f"stream {number} [[think={seconds}]]"))
        time.sleep(2)  # By then all turns are running.
        yield
