"""
Tests for claims with many connections at the same time.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import chain
from typing import Any

from kiroworkers.cluster.claimed_job import ClaimedJob
from kiroworkers.jobs.job import Job
from tests.cluster.claim_case import FAILURE, ClaimTestCase, end
from tests.postgres import SKIP
from tests.programs import environment

if SKIP is None:
    from kiroworkers.cluster import statements


class ConcurrencyTests(ClaimTestCase):
    """
    Tests with many connections at the same time.
    """

    def test_exactly_once(self) -> None:
        """
        However many claim at the same time, each job is claimed and ended by exactly one of them.
        """
        total = 300
        for number in range(total):
            self.add(str(number), client=f"client{number % 7}")

        def work(server: int) -> Callable[[Any], list[str]]:
            def run(connection: Any) -> list[str]:
                ended = []
                while claimed := statements.claim_jobs(connection, server, {"kiro": 2}):
                    for job in claimed:
                        if end(connection, server, job) is not None:
                            ended.append(job.job.id)
                return ended

            return run

        ended = self.run_together([work(self.register(str(number))) for number in range(8)])
        self.assertEqual(sorted(chain(*ended)), sorted(map(str, range(total))))
        self.assertGreater(sum(map(bool, ended)), 1)
        self.check_invariants()

    def test_end_or_cancel(self) -> None:
        """
        Of an end, a late end, a cancellation and a new claim at the same time, one alone ends the
        job.
        """
        for number in range(20):
            id = f"job{number}"
            self.add(id)
            [claimed] = self.claim(self.one)
            self.lapse(self.one)
            statements.sweep(self.db, self.two)
            self.beat(self.one, {})
            results = self.run_together(
                [
                    partial(end, server=self.one, claimed=claimed),
                    partial(statements.cancel_job, id=id, server=self.two, now=5.0),
                    self.begin_anew,
                ]
            )
            states = [job.state for job in results if job is not None]
            self.assertEqual([self.column(id, "state")], states)
        self.check_invariants()

    def begin_anew(self, connection: Any) -> Job | None:
        """
        Claim a job and let it fail; return the job, unless there was none.
        """
        for again in statements.claim_jobs(connection, self.two, {"kiro": 1}):
            return statements.end_job(
                connection, self.two, again.job.id, again.claims, 2, "failed", FAILURE
            )
        return None

    def test_silent_client(self) -> None:
        """
        A client that does not read the answer to its claim blocks nobody, however large the
        payloads are.
        """
        for number in range(10):
            self.add(str(number), payload=f'"{"x" * 2_000_000}"')
        silent, other = self.connect(), self.connect()
        other.execute("SET statement_timeout = '10s'")
        silent.pgconn.send_query(
            f"SELECT * FROM claim_jobs({self.one}, '{{kiro}}', '{{5}}')".encode()
        )
        silent.pgconn.flush()
        # It may come before the other one.
        claimed = statements.claim_jobs(other, self.two, {"kiro": 10})
        self.assertIn(len(claimed), (5, 10))
        self.check_invariants()

    def test_stopped_client(self) -> None:
        """
        A process that is stopped at any moment, while it claims and ends jobs, blocks nobody.
        """
        child = subprocess.Popen(
            [sys.executable, "-c", _CLAIM_FOR_EVER, self.address, str(self.one)],
            env=environment(),
            stdout=subprocess.PIPE,
        )
        self.addCleanup(child.wait)
        self.addCleanup(child.kill)
        assert child.stdout is not None, "it is a pipe"
        self.addCleanup(child.stdout.close)
        child.stdout.readline()
        self.db.execute("SET statement_timeout = '10s'")
        chance = random.Random(24)
        number = 0
        for _ in range(20):
            for _ in range(chance.randrange(10)):
                self.add(str(number := number + 1), client=f"client{number % 3}")
            child.send_signal(signal.SIGSTOP)
            for _ in range(3):
                self.add(str(number := number + 1), client=f"client{number % 3}")
                for job in self.claim(self.two, 2):
                    self.end(self.two, job)
            child.send_signal(signal.SIGCONT)
        [[ended]] = self.db.execute("SELECT count(*) FROM jobs WHERE owner = %s", (self.one,))
        self.assertGreater(ended, 0)

    def test_lease_or_sweep(self) -> None:
        """
        A heartbeat and a sweep at the same time leave each job with one owner, and the server
        learns of exactly those that it lost.
        """
        for number in range(10):
            ids = [f"{number}-{n}" for n in range(3)]
            for id in ids:
                self.add(id)
            held = {job.job.id: job.claims for job in self.claim(self.one, 3)}
            self.lapse(self.one)
            lost, _, claimed = self.run_together(
                [
                    partial(
                        statements.heartbeat,
                        server=self.one,
                        seconds=60.0,
                        state="serving",
                        agents={},
                        held=held,
                        complete=False,
                    ),
                    partial(statements.sweep, server=self.two),
                    partial(statements.claim_jobs, server=self.two, wanted={"kiro": 2}),
                ]
            )
            lost = {*lost, *(self.beat(self.one, held) or ())}
            self.assertEqual(lost, {job.job.id for job in claimed})
            for id in ids:
                self.assertEqual(self.column(id, "owner"), self.two if id in lost else self.one)
            self.db.execute("DELETE FROM jobs")
        self.check_invariants()


#: Claims and ends jobs, for the server and at the address that the arguments name.
_CLAIM_FOR_EVER = """
import sys
import psycopg
from kiroworkers.cluster import statements
from kiroworkers.jobs.job import JobAnswer
connection = psycopg.connect(sys.argv[1], autocommit=True)
connection.execute("SET search_path = kiroworkers")
server = int(sys.argv[2])
print("ready", flush=True)
while True:
    for job in statements.claim_jobs(connection, server, {"kiro": 3}):
        statements.end_job(connection, server, job.job.id, job.claims, 1, "done", JobAnswer({}))
"""


class StormTests(ClaimTestCase):
    """
    Tests with everything at once.
    """

    def test_storm(self) -> None:
        """
        Whatever 16 connections do at the same time, no statement deadlocks or waits for long, each
        job ends once, and all counters are right.
        """
        servers = [self.one, self.two, *(self.register(f"storm{n}") for n in range(4))]
        ends: list[str] = []

        def storm(number: int) -> Callable[[Any], None]:
            def run(connection: Any) -> None:
                _Storm(connection, random.Random(number), number, servers, ends).run(120)

            return run

        self.run_together([storm(number) for number in range(16)])
        self.check_invariants()
        self.assertEqual([id for id, times in Counter(ends).items() if times > 1], [])
        for server in servers:
            statements.leave_server(self.db, server)
        last = self.register("last")
        statements.sweep(self.db, last)
        self.check_invariants()
        while claimed := statements.claim_jobs(self.db, last, {"kiro": 50, "other": 50}):
            for job in claimed:
                self.assertIsNotNone(self.end(last, job))
        left = "SELECT id FROM jobs WHERE state IN ('queued', 'running')"
        self.assertEqual(self.db.execute(left).fetchall(), [])
        self.check_invariants()
        self.assertGreater(len(ends), 50)


class _Storm:
    """
    Execute random statements, as servers that hang, come back and repeat themselves do.

    Args:
        connection: The database.
        chance: Chooses.
        name: Distinguishes this storm's jobs from those of others.
        servers: The numbers of the servers.
        ends: The ids of jobs whose end or cancellation was accepted are added here.
    """

    def __init__(
        self,
        connection: Any,
        chance: random.Random,
        name: int,
        servers: list[int],
        ends: list[str],
    ) -> None:
        self._db = connection
        self._chance = chance
        self._name = name
        self._servers = servers
        self._ends = ends
        self._held: list[tuple[int, ClaimedJob]] = []
        self._known: list[str] = []
        self._steps = [
            *[self._add] * 5,
            *[self._claim] * 6,
            *[self._end] * 5,
            *[self._release] * 2,
            *[self._cancel] * 2,
            *[self._beat] * 5,
            self._lapse_and_sweep,
            *[self._key] * 2,
            self._watch,
            self._delete,
            self._expire,
            self._tidy,
        ]

    def run(self, steps: int) -> None:
        for number in range(steps):
            self._chance.choice(self._steps)(f"{self._name}-{number}")

    def _server(self) -> int:
        return self._chance.choice(self._servers)

    def _add(self, id: str) -> None:
        chance = self._chance
        key = f"key{chance.randrange(5)}" if chance.random() < 0.3 else None
        self._db.execute(
            "SELECT outcome FROM add_job(%s, %s, %s, 'task', %s, NULL, %s, NULL, %s, '', '', '', "
            "100000, 1000000000, 1000000000, %s, 'f')",
            (
                id,
                f"client{chance.randrange(4)}",
                chance.choice(["kiro", "other"]),
                f'"{"x" * chance.randrange(100)}"',
                chance.randrange(10),
                chance.choice([None, "https://example.com"]),
                key,
            ),
        )
        self._known.append(id)

    def _claim(self, _: str) -> None:
        server = self._server()
        wanted = {"kiro": self._chance.randrange(4), "other": self._chance.randrange(4)}
        claimed = statements.claim_jobs(self._db, server, wanted)
        self._held.extend((server, job) for job in claimed)
        self._known.extend(job.job.id for job in claimed)

    def _end(self, _: str) -> None:
        if self._held:
            server, job = self._chance.choice(self._held)
            if end(self._db, server, job) is not None:
                # It would be accepted again, because it is the same end.
                self._held.remove((server, job))
                self._ends.append(job.job.id)

    def _release(self, _: str) -> None:
        if self._held:
            server, job = self._chance.choice(self._held)
            values = (server, job.job.id, job.claims, job.job.attempts, job.failures)
            statements.release_job(self._db, *values, first=self._chance.random() < 0.5)

    def _cancel(self, _: str) -> None:
        if self._known:
            id = self._chance.choice(self._known)
            # Each at another time, so that none is a repetition of another.
            if (
                statements.cancel_job(self._db, id, self._server(), self._chance.random())
                is not None
            ):
                self._ends.append(id)

    def _beat(self, _: str) -> None:
        server = self._server()
        held = {job.job.id: job.claims for owner, job in self._held if owner == server}
        complete = self._chance.random() < 0.3
        statements.heartbeat(self._db, server, 60.0, "serving", {}, held, complete)

    def _lapse_and_sweep(self, _: str) -> None:
        self._db.execute(
            "UPDATE servers SET lease_until = clock_timestamp() WHERE number = %s",
            (self._server(),),
        )
        statements.sweep(self._db, self._server())

    def _key(self, _: str) -> None:
        key = (self._server(), f"client{self._chance.randrange(4)}", "task", "key1")
        self._db.execute("SELECT FROM reserve_key(%s, %s, %s, %s, 'f')", key)
        match self._chance.randrange(3):
            case 0:
                self._db.execute("SELECT save_response(%s, %s, %s, %s, 'f', '{}')", key)
            case 1:
                self._db.execute("SELECT release_key(%s, %s, %s, %s)", key)

    def _watch(self, _: str) -> None:
        if self._known:
            self._db.execute(
                "UPDATE jobs SET watched = true WHERE id = %s", (self._chance.choice(self._known),)
            )

    def _delete(self, _: str) -> None:
        if self._known:
            self._db.execute("DELETE FROM jobs WHERE id = %s", (self._known.pop(0),))

    def _expire(self, _: str) -> None:
        if self._known:
            # The webhook of this job was called.
            self._db.execute(
                "UPDATE jobs SET due = NULL WHERE id = %s", (self._chance.choice(self._known),)
            )
        self._db.execute("SELECT delete_expired(now_seconds(), 3)")

    def _tidy(self, _: str) -> None:
        self._db.execute("UPDATE maintenance SET tidied = '-infinity'")
        self._db.execute("SELECT tidy()")
