"""
Measure the SQL with which servers claim jobs from a database that they share.

100 simulated servers with 30 sessions each claim jobs of 1,000 clients, while 100,000 wait.  Each
server has a connection of its own, in a thread of its own, and uses the functions that real
servers use.  PostgreSQL runs on the same machine, and its commits wait for the disk.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import count
from threading import Barrier
from typing import Any

import psycopg

from bench.figures import median, percentile
from bench.report import Figure, Limit
from kiroworkers.cluster import statements
from kiroworkers.cluster.claimed_job import ClaimedJob
from kiroworkers.jobs.job import JobAnswer
from tests.postgres import SKIP, Postgres

QUESTION = "what does it cost to claim a job from the shared database?"

_SERVERS, _SESSIONS, _CLIENTS, _QUEUED = 100, 30, 1_000, 100_000

#: The jobs that end each second: those of 3,000 sessions with turns of half a minute.
_RATE = _SERVERS * _SESSIONS / 30

#: Seconds for which each load lasts, and the claims in a row whose cost is compared.
_SECONDS, _CYCLES = 8.0, 500

#: Servers that claim as fast as they can.
_FAST = 8

_AGENT = "kiro"
_ANSWER = JobAnswer({"title": "Export the story list", "description": "x" * 500})

_ADD = """
    SELECT outcome FROM add_job(
        %s, %s, 'kiro', 'generate-story', %s, NULL, 5, NULL, NULL, '', '', '',
        10000000, 100000000000, 100000000000
    )
"""

#: Jobs that wait, spread over the clients, with what triggers would have counted.
_FILL = (
    "SET session_replication_role = replica",
    """
    INSERT INTO jobs (id, client, agent, task, payload, created, priority, state, size, sort_key)
        SELECT 'old' || n, 'client' || n % {clients}, 'kiro', 'generate-story', '{payload}', n, 5,
            'queued', length('{payload}'), n - 300
        FROM generate_series(1, {queued}) AS n
    """,
    """
    INSERT INTO queues (agent, client, waiting, running, round, head, head_number)
        SELECT 'kiro', client, count(*), 0, 0, min(sort_key), min(number) FROM jobs GROUP BY client
    """,
    "INSERT INTO agents VALUES ('kiro', 0)",
    "INSERT INTO usage SELECT client, sum(size) FROM jobs GROUP BY client",
    "SET session_replication_role = DEFAULT",
    "ANALYZE",
)

_PAYLOAD = f'{{"idea":"{"x" * 300}"}}'


def measure() -> list[Figure]:
    """
    Measure, and return the figures.
    """
    if SKIP is not None:
        raise RuntimeError(SKIP)
    postgres = Postgres(
        fsync=True, options=("max_connections=150", "shared_buffers=256MB", "max_wal_size=2GB")
    )
    try:
        postgres.start()
        return measure_with(postgres)
    finally:
        postgres.close()


def measure_with(postgres: Postgres) -> list[Figure]:
    """
    Measure with a server that runs, and return the figures.
    """
    empty = postgres.address(postgres.create_database())
    full = postgres.address(postgres.create_database())
    with _connect(full) as connection:
        _fill(connection)
    none, many = _cycles(empty, full)
    fast = _claims_per_second(full)
    load = _Load(full)
    load.run()
    return [
        Figure("add, claim and end a job, nothing else waiting", 1000 * none, "ms"),
        Figure(f"the same, {_QUEUED:,} waiting", 1000 * many, "ms"),
        Figure(f"{_QUEUED:,} to 0 waiting", many / none, "x", Limit(most=1.5)),
        Figure(f"jobs claimed and ended a second, by {_FAST} servers at once", fast, "/s"),
        Figure(
            f"claims a second, {_SERVERS} servers with {_SESSIONS} sessions",
            load.claims / _SECONDS,
            "/s",
            Limit(least=0.95 * _RATE),
        ),
        Figure("a claim at that load, median", 1000 * median(load.times), "ms"),
        Figure(
            "a claim at that load, p99", 1000 * percentile(load.times, 99), "ms", Limit(most=50)
        ),
    ]


@contextmanager
def _connect(address: str) -> Iterator[Any]:
    """
    Return a connection as a server has it.
    """
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute("SET search_path = kiroworkers")
        yield connection


def _fill(connection: Any) -> None:
    for statement in _FILL:
        connection.execute(
            statement.format(clients=_CLIENTS, queued=_QUEUED, payload=_PAYLOAD.replace("%", "%%"))
            if "{" in statement
            else statement
        )


def _register(connection: Any) -> int:
    return statements.register_server(
        connection, 600.0, "bench", "1", "127.0.0.1:1", "", "serving", {_AGENT: {"workers": 30}}
    )


def _end(connection: Any, server: int, job: ClaimedJob) -> None:
    ended = statements.end_job(connection, server, job.job.id, job.claims, 1, "done", _ANSWER)
    if ended is None:
        raise RuntimeError("the end of a job was refused")


def _cycles(*addresses: str) -> list[float]:
    """
    Return for each database the median seconds that it takes to add a job, claim one and end it.

    They take turns, so that they are measured under the same conditions.
    """
    with ExitStack() as stack:
        databases: list[tuple[Any, int, list[float]]] = []
        for address in addresses:
            connection = stack.enter_context(_connect(address))
            databases.append((connection, _register(connection), []))
        for number in range(_CYCLES):
            for connection, server, times in databases:
                values = (f"new{number}", f"client{number % _CLIENTS}", _PAYLOAD)
                began = time.perf_counter()
                connection.execute(_ADD, values)
                [job] = statements.claim_jobs(connection, server, {_AGENT: 1})
                _end(connection, server, job)
                times.append(time.perf_counter() - began)
    return [median(times) for _, _, times in databases]


def _claims_per_second(address: str) -> float:
    """
    Return how many jobs are claimed and ended in a second if servers do nothing else.
    """
    until = time.monotonic() + _SECONDS / 2

    def work(_: int) -> int:
        done = 0
        with _connect(address) as connection:
            server = _register(connection)
            while time.monotonic() < until:
                [job] = statements.claim_jobs(connection, server, {_AGENT: 1})
                _end(connection, server, job)
                done += 1
        return done

    with ThreadPoolExecutor(_FAST) as pool:
        return sum(pool.map(work, range(_FAST))) / (_SECONDS / 2)


class _Load:
    """
    Let servers end jobs and claim others, at random times, as if their sessions worked on them.

    Other clients add as many jobs meanwhile, and the servers renew their leases and sweep.

    Attributes:
        claims: The number of jobs that were claimed in time.
        times: The seconds that each claim took, from the time when a session was idle.

    Args:
        address: The database.
    """

    def __init__(self, address: str) -> None:
        self.claims = 0
        self.times: list[float] = []
        self._address = address
        self._barrier = Barrier(_SERVERS)
        self._numbers = count(1)

    def run(self) -> None:
        with ThreadPoolExecutor(_SERVERS) as pool:
            for _ in pool.map(self._serve, range(_SERVERS)):
                pass

    def _serve(self, name: int) -> None:
        chance = random.Random(name)
        with _connect(self._address) as connection:
            server = _register(connection)
            held = statements.claim_jobs(connection, server, {_AGENT: _SESSIONS})
            self._barrier.wait()
            began = now = time.perf_counter()
            next_beat = now + chance.uniform(0, 3)
            while True:
                now += chance.expovariate(_RATE / _SERVERS)
                if now > began + _SECONDS:
                    return
                time.sleep(max(0.0, now - time.perf_counter()))
                if next_beat < now:
                    next_beat += 3
                    self._beat(connection, server, held)
                self._add(connection, chance)
                _end(connection, server, held.pop(chance.randrange(len(held))))
                idle = time.perf_counter()
                held += statements.claim_jobs(connection, server, {_AGENT: 1})
                self.times.append(time.perf_counter() - idle)
                self.claims += 1

    def _add(self, connection: Any, chance: random.Random) -> None:
        values = (
            f"load{next(self._numbers)}",
            f"client{chance.randrange(_CLIENTS)}",
            _PAYLOAD,
        )
        connection.execute(_ADD, values)

    def _beat(self, connection: Any, server: int, held: list[ClaimedJob]) -> None:
        claims = {job.job.id: job.claims for job in held}
        lost = statements.heartbeat(connection, server, 600.0, "serving", {}, claims, complete=True)
        if lost != []:
            raise RuntimeError("a server has lost jobs")
        statements.sweep(connection, server)
