"""
Measure what the server adds to a turn.

The time runs from the end of the turn in the session, by the session's own clock,
until the client has the last byte of the answer.

Three clients take turns, so that all meet the same conditions: a read loop on the
terminal, the bare server and kiroworkers.  Programs that look at the screen once a
second, as home-made servers do, follow separately, ten side by side, since they
mostly sleep.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from bench.figures import median, percentile
from bench.report import Figure, Limit
from bench.server import UNRENEWED, Agent, agent, client, other_server, post, serving
from bench.terminals import Reader, on_pty, poll

QUESTION = "what does the server add after the last byte of a turn?"

_TURNS = 500
_POLLERS = 10
_POLLED_TURNS = 10


def measure() -> list[Figure]:
    """
    Measure, and return the figures.
    """
    samples = _one_after_the_other()
    polled = _polled()
    ours, bare = samples["kiroworkers"], samples["bare"]
    p50 = median(ours)
    return [
        Figure("kiroworkers over HTTP, p50", p50, "ms"),
        Figure("kiroworkers over HTTP, p99", percentile(ours, 99), "ms"),
        Figure("(a) a read loop on the terminal, p50", median(samples["loop"]), "ms"),
        Figure("(a) a read loop on the terminal, p99", percentile(samples["loop"], 99), "ms"),
        Figure("(b) bare Twisted over HTTP, p50", median(bare), "ms"),
        Figure("(b) bare Twisted over HTTP, p99", percentile(bare, 99), "ms"),
        Figure("(c) a look each second, p50", median(polled), "ms"),
        Figure("(c) a look each second, p99", percentile(polled, 99), "ms"),
        Figure("kiroworkers to (a), p50", p50 / median(samples["loop"]), "x"),
        Figure("kiroworkers to (b), p50", p50 / median(bare), "x", Limit(most=1.5)),
        Figure("(c) to kiroworkers, p50", median(polled) / p50, "x", Limit(least=200)),
    ]


def _one_after_the_other() -> dict[str, list[float]]:
    """
    Return the milliseconds of each of the three clients that wait for output.
    """
    rng = random.Random(1)
    with ExitStack() as stack:
        stopwatch = stack.enter_context(agent())
        loop = stack.enter_context(on_pty(stopwatch, "kiro-cli", "chat"))
        servers = {
            "bare": stack.enter_context(other_server(stopwatch, "bench.bare", "1")),
            "kiroworkers": stack.enter_context(serving(stopwatch, 1, *UNRENEWED)),
        }
        connections = {
            name: stack.enter_context(client(server.port)) for name, server in servers.items()
        }
        asking: dict[str, Callable[[str], object]] = {
            "loop": loop.ask,
            "bare": lambda idea: post(connections["bare"], idea),
            "kiroworkers": lambda idea: post(connections["kiroworkers"], idea),
        }
        samples: dict[str, list[float]] = {name: [] for name in asking}
        for number in range(_TURNS + 10):
            for name, ask in asking.items():
                ask(f"turn {number} [[think={rng.uniform(0.004, 0.012):.4f}]]")
                took = (time.monotonic_ns() - stopwatch.turns()[-1]) / 1e6
                if number >= 10:  # the first turns warm up
                    samples[name].append(took)
            loop.clear()
        return samples


def _polled() -> list[float]:
    """
    Return the milliseconds of the clients that poll.
    """
    with ExitStack() as stack:
        agents = [stack.enter_context(agent()) for _ in range(_POLLERS)]
        look = poll(1.0)
        readers = [
            stack.enter_context(on_pty(stopwatch, "kiro-cli", "chat", wait=look))
            for stopwatch in agents
        ]
        together = stack.enter_context(ThreadPoolExecutor(_POLLERS))
        samples = together.map(_turns, agents, readers, range(_POLLERS))
        return [sample for client_samples in samples for sample in client_samples]


def _turns(stopwatch: Agent, reader: Reader, seed: int) -> list[float]:
    """
    Return the milliseconds of one client that polls.
    """
    rng = random.Random(seed)
    samples = []
    for _ in range(_POLLED_TURNS):
        # Turns of uneven length, so that their ends meet a poll at any phase.
        reader.ask(f"x [[think={rng.uniform(0, 1):.3f}]]")
        samples.append((time.monotonic_ns() - stopwatch.turns()[-1]) / 1e6)
        reader.clear()
    return samples
