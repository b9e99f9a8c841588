"""
Measure the turns a second when the agent answers at once.

Clients keep their connections and send requests without a pause, to two sessions.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial

from bench.figures import median
from bench.report import Figure, Limit
from bench.server import UNRENEWED, Agent, agent, client, other_server, serving, story

QUESTION = "how many instant turns a second through HTTP, with 2 workers?"

_CLIENTS = 4
_SECONDS = 3.0
_ROUNDS = 3
_TURNS_OF_PEXPECT = 1000
_PATIENT_TURNS = 10


def measure() -> list[Figure]:
    """
    Measure, and return the figures.
    """
    with ExitStack() as stack:
        stopwatch = stack.enter_context(agent())
        ours = stack.enter_context(serving(stopwatch, 2, *UNRENEWED))
        bare = stack.enter_context(other_server(stopwatch, "bench.bare", "2"))
        expecting = stack.enter_context(
            other_server(stopwatch, "bench.expecting", "2", "0", "http")
        )
        rates: dict[str, Callable[[], float]] = {
            "kiroworkers": lambda: rate(ours.port, _CLIENTS, _SECONDS),
            "bare": lambda: rate(bare.port, _CLIENTS, _SECONDS),
            "pexpect over HTTP": lambda: rate(expecting.port, _CLIENTS, _SECONDS),
            "pexpect": lambda: _pexpect(stopwatch, _TURNS_OF_PEXPECT),
            "patient pexpect": lambda: _pexpect(stopwatch, _PATIENT_TURNS, "patient"),
        }
        samples: dict[str, list[float]] = {name: [] for name in rates}
        for _ in range(_ROUNDS):
            for name, measure_rate in rates.items():
                samples[name].append(measure_rate())
    turns = {name: median(values) for name, values in samples.items()}
    our = turns["kiroworkers"]
    return [
        Figure("kiroworkers over HTTP", our, "turns/s"),
        Figure("(b) bare Twisted over HTTP", turns["bare"], "turns/s"),
        Figure("pexpect as it comes, without HTTP", turns["patient pexpect"], "turns/s"),
        Figure("pexpect that never waits, over HTTP", turns["pexpect over HTTP"], "turns/s"),
        Figure("pexpect that never waits, without HTTP", turns["pexpect"], "turns/s"),
        Figure("kiroworkers to (b)", our / turns["bare"], "x", Limit(least=0.5)),
        *(
            Figure(f"kiroworkers to {name}", our / turns[key], "x", Limit(least=1))
            for name, key in (
                ("pexpect as it comes", "patient pexpect"),
                ("pexpect that never waits, over HTTP", "pexpect over HTTP"),
                ("pexpect that never waits, without HTTP", "pexpect"),
            )
        ),
    ]


def rate(port: int, clients: int, seconds: float, think: float = 0) -> float:
    """
    Return the correct answers a second for `clients` clients.

    Args:
        port: The server's port.
        clients: How many clients send requests.
        seconds: How long they do.
        think: How long each turn takes, in seconds.
    """
    with ThreadPoolExecutor(clients) as together:
        rows = list(together.map(partial(_ask, port, seconds, think), range(clients)))
    return sum(count / took for count, took in rows)


def _ask(port: int, seconds: float, think: float, name: int) -> tuple[int, float]:
    """
    Return how many correct answers one client received, and in how many seconds.
    """
    fault = f" [[think={think}]]" if think else ""
    with client(port) as connection:
        story(connection, f"to begin with{fault}")
        began = time.monotonic()
        count = 0
        while time.monotonic() - began < seconds:
            idea = f"idea {count} of client {name}{fault}"
            if story(connection, idea)["title"] != idea:
                raise RuntimeError("somebody else's answer")
            count += 1
        return count, time.monotonic() - began


def _pexpect(stopwatch: Agent, turns: int, *mode: str) -> float:
    command = [sys.executable, "-m", "bench.expecting", "2", str(turns), *mode]
    return float(subprocess.check_output(command, env=stopwatch.environment, text=True))
