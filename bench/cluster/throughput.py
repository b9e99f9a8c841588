"""
Measure whether several servers do as much as so many workers can.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from bench.cluster.requests import ask, create_job, create_jobs
from bench.cluster.world import World, cluster
from bench.report import Figure, Limit

_SERVERS = (1, 2, 3)
_WORKERS = 4
_THINK = 0.3
_SECONDS = 8.0

_LIMIT = Limit(least=0.95)


def measure() -> list[Figure]:
    """
    Measure, and return the figures.
    """
    return [figure for servers in _SERVERS for figure in _measure(servers)]


def _measure(servers: int) -> Iterator[Figure]:
    workers = servers * _WORKERS
    name = f"{servers} servers" if servers > 1 else "1 server"
    with (
        tempfile.TemporaryDirectory(prefix="cluster-") as folder,
        cluster(Path(folder), servers, _WORKERS) as world,
    ):
        live = _live(world, workers)
        jobs = _jobs(world, workers)
    what = "of 300 ms: achieved to ideal"
    yield Figure(f"{name}, live requests {what}", live * _THINK / workers, "x", _LIMIT)
    yield Figure(f"{name}, jobs {what}", jobs * _THINK / workers, "x", _LIMIT)


def _live(world: World, workers: int) -> float:
    """
    Return the answers a second of twice as many clients as there are workers.
    """
    clients = 2 * workers
    with ThreadPoolExecutor(clients) as together:
        rows = list(together.map(partial(_ask_on, world.port), range(clients)))
    return sum(count / took for count, took in rows)


def _ask_on(port: int, name: int) -> tuple[int, float]:
    """
    Return how many answers one client received, and in how many seconds.
    """
    ask(port, f"warm-{name}", _THINK)
    began = time.monotonic()
    count = 0
    while time.monotonic() - began < _SECONDS:
        ask(port, f"live-{name}-{count}", _THINK)
        count += 1
    return count, time.monotonic() - began


def _jobs(world: World, workers: int) -> float:
    """
    Return the jobs a second that are answered while jobs wait.
    """
    count = round(workers * (_SECONDS + 2) / _THINK)
    create_job(world.port, "first-job", _THINK)
    create_jobs(world.port, [f"queued-{number}" for number in range(count)], _THINK)
    # All jobs have been asked before the last ones are answered.
    while True:
        turns = [found[0] for name, found in world.turns().items() if name.startswith("queued-")]
        if len(turns) == count:
            break
        time.sleep(0.5)
    began, ended = min(turn.asked for turn in turns) + 1, max(turn.asked for turn in turns)
    answered = [turn for turn in turns if turn.answered and began <= turn.answered <= ended]
    return len(answered) / (ended - began)
