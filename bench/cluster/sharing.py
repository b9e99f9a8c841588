"""
Measure what HAProxy and the shared database add to a turn, and what an idle cluster costs.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.cluster.requests import ask, create_job, create_jobs
from bench.cluster.world import World, alone, cluster
from bench.figures import cpu, median
from bench.report import Figure

_ROUNDS = 200
_JOBS = 300
_IDLE_SECONDS = 20.0


def measure() -> list[Figure]:
    """
    Measure, and return the figures.
    """
    with tempfile.TemporaryDirectory(prefix="cluster-") as folder:
        with alone(Path(folder, "alone"), 2) as world:
            embedded = _claims(world)
        with cluster(Path(folder, "cluster"), 3, 2) as world:
            return [
                *_proxy(world),
                *_claim_figures(_claims(world), embedded),
                *_statements(world),
                *_idle(world),
            ]


def _proxy(world: World) -> list[Figure]:
    """
    Compare instant turns through HAProxy with those without it.
    """
    ports = {"HAProxy": world.port, "directly": world.servers[0].port}
    samples: dict[str, list[float]] = {name: [] for name in ports}
    assert world.proxy is not None
    used = world.proxy.cpu()
    for number in range(_ROUNDS):
        for name, port in ports.items():
            began = time.monotonic()
            ask(port, f"{name}-{number}")
            samples[name].append(1000 * (time.monotonic() - began))
    # It also checks the servers meanwhile.
    each = (world.proxy.cpu() - used) / _ROUNDS
    through, directly = median(samples["HAProxy"]), median(samples["directly"])
    return [
        Figure("an instant turn, directly, p50", directly, "ms"),
        Figure("an instant turn, through HAProxy, p50", through, "ms"),
        Figure("through HAProxy to directly", through / directly, "x"),
        Figure("CPU of HAProxy for each request", 1000 * each, "ms"),
    ]


def _claims(world: World) -> dict[str, float]:
    """
    Return the median milliseconds from a POST until its prompt has reached the agent.
    """
    port = world.servers[0].port
    kinds: dict[str, Callable[[int, str], object]] = {"live": ask, "job": create_job}
    sent: dict[str, float] = {}
    for number in range(_ROUNDS):
        for kind, send in kinds.items():
            name = f"{kind}-{number}-asked"
            sent[name] = time.monotonic()
            send(port, name)
            # The job ends meanwhile, so that the next request finds an idle server.
            time.sleep(0.02)
    world.await_turns(sent)
    turns = world.turns()
    return {
        kind: median(
            1000 * (turns[name][0].asked - began)
            for name, began in sent.items()
            if name.startswith(kind)
        )
        for kind in kinds
    }


def _claim_figures(shared: dict[str, float], embedded: dict[str, float]) -> list[Figure]:
    return [
        Figure("from a live POST to its prompt, p50", shared["live"], "ms"),
        Figure("from a job's POST to its prompt, p50", shared["job"], "ms"),
        Figure("the same with the embedded database, p50", embedded["job"], "ms"),
        Figure(
            "a job in PostgreSQL to one in the embedded database",
            shared["job"] / embedded["job"],
            "x",
        ),
    ]


def _statements(world: World) -> list[Figure]:
    """
    Count the statements for each job while jobs wait.
    """
    names = [f"counted-{number}" for number in range(_JOBS)]
    before = world.statements()
    create_jobs(world.port, names)
    world.await_turns(names)
    # Their results are stored.
    time.sleep(1)
    return [Figure("statements for each job", (world.statements() - before) / _JOBS, "")]


def _idle(world: World) -> list[Figure]:
    """
    Measure a cluster in which nothing happens.
    """
    pids = [server.pid for server in world.servers]
    before, used = world.statements(), [cpu(pid) for pid in pids]
    database = world.database_cpu()
    time.sleep(_IDLE_SECONDS)
    database_after = world.database_cpu()
    after = [cpu(pid) for pid in pids]
    servers = sum(after) - sum(used)
    kept = database.keys() & database_after.keys()
    return [
        Figure("3 idle servers", (world.statements() - before) / _IDLE_SECONDS, "statements/s"),
        Figure("CPU of one core, 3 idle servers", 100 * servers / _IDLE_SECONDS, "%"),
        Figure(
            "CPU of one core, PostgreSQL with 3 idle servers",
            100 * sum(database_after[pid] - database[pid] for pid in kept) / _IDLE_SECONDS,
            "%",
        ),
    ]
