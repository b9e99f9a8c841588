"""
Measure what a warm session is worth.

The first byte of an answer from a warm session, over HTTP, is compared with that of a
program that is started for each request.  The program is the offline agent, which
starts faster than any agent with a model: with those the gain is larger (``python -m
bench.transport`` measures Gemini CLI, where it is installed).
"""

from __future__ import annotations

import socket
import sys
import time

from bench.exchange import request
from bench.figures import median
from bench.report import Figure
from bench.server import UNRENEWED, Agent, agent, serving
from bench.terminals import on_pty
from kiroworkers.classic import drawing as classic

QUESTION = "what is a warm session worth?"

_ROUNDS = 20
_PREFIX = classic.ANSWER_PREFIX.encode()


def measure() -> list[Figure]:
    """
    Measure, and return the figures.
    """
    cold, warm = [], []
    with (
        agent() as started,
        serving(started, 1, "--agent", "offline", *UNRENEWED) as server,
        socket.create_connection(("127.0.0.1", server.port)) as connection,
    ):
        for number in range(_ROUNDS):
            cold.append(_cold(started, f"Export the list, part {number}"))
            warm.append(_warm(connection, f"Export the list, part {number}"))
    return [
        Figure("warm, over HTTP, p50", median(warm), "ms"),
        Figure("started for the request, on a bare terminal, p50", median(cold), "ms"),
        Figure("cold to warm", median(cold) / median(warm), "x"),
    ]


def _cold(started: Agent, idea: str) -> float:
    began = time.monotonic()
    with on_pty(started, sys.executable, "-m", "kiroworkers.offline") as reader:
        reader.first_byte(idea, _PREFIX)
        return (time.monotonic() - began) * 1000


def _warm(connection: socket.socket, idea: str) -> float:
    began = time.monotonic()
    connection.sendall(request(idea))
    answer = connection.recv(1)
    took = (time.monotonic() - began) * 1000
    answer += connection.recv(1 << 20)
    if not answer.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(answer)
    return took
