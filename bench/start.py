"""
Measure how long a server takes until its sessions are ready.

A session needs two seconds to its prompt, most of which it waits, as Kiro does for
its tools.
"""

from __future__ import annotations

import time

from bench.figures import median
from bench.report import Figure, Limit
from bench.server import Agent, agent, serving
from bench.terminals import on_pty

QUESTION = "how long does it take until many sessions are ready?"

_SESSIONS = (2, 10, 30)
_ROUNDS = 3
_OWN_START = 2


def measure() -> list[Figure]:
    """
    Measure, and return the figures.
    """
    with agent(FAKEKIRO=f"slow={_OWN_START}") as started:
        own = median([_alone(started) for _ in range(_ROUNDS)])
        took: dict[int, list[float]] = {count: [] for count in (1, *_SESSIONS)}
        for _ in range(_ROUNDS):
            for count, samples in took.items():
                samples.append(_served(started, count))
    one = median(took[1])
    figures = [
        Figure("one session on a bare terminal", own, "s"),
        Figure("twistd to 1 ready session", one, "s"),
    ]
    for count in _SESSIONS:
        wall = median(took[count])
        figures.append(Figure(f"twistd to {count} ready sessions", wall, "s"))
        # Subtract the time that twistd itself takes.
        figures.append(
            Figure(
                f"{count} sessions to one session's own start, without twistd's",
                (wall - (one - own)) / own,
                "x",
                Limit(most=1.3),
            )
        )
    return figures


def _alone(started: Agent) -> float:
    began = time.monotonic()
    with on_pty(started, "kiro-cli", "chat"):
        return time.monotonic() - began


def _served(started: Agent, sessions: int) -> float:
    began = time.monotonic()
    with serving(started, sessions):
        return time.monotonic() - began
