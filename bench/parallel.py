"""
Measure whether all workers are kept busy.

Answers a second are compared with what so many workers could give, with twice as
many clients as workers, so that some always wait.
"""

from __future__ import annotations

from bench.report import Figure, Limit
from bench.server import UNRENEWED, agent, serving
from bench.turns import rate

QUESTION = "is the pool full?"

_WORKERS = (2, 8, 32)
_THINK = 0.3
_SECONDS = 8.0


def measure() -> list[Figure]:
    """
    Measure, and return the figures.
    """
    figures = []
    for workers in _WORKERS:
        with (
            agent() as stopwatch,
            serving(stopwatch, workers, "--backlog", "100", *UNRENEWED) as server,
        ):
            achieved = rate(server.port, 2 * workers, _SECONDS, _THINK)
        figures.append(
            Figure(
                f"{workers} workers, turns of 300 ms: achieved to ideal",
                achieved * _THINK / workers,
                "x",
                Limit(least=0.97),
            )
        )
    return figures
