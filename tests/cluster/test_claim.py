"""
Tests for `kiroworkers.cluster.claim` and the SQL functions that it executes.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from threading import Barrier
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kiroworkers.cluster.claimed_job import ClaimedJob
from kiroworkers.errors import ErrorCode
from kiroworkers.jobs.job import Job, JobAnswer, JobFailure
from kiroworkers.pool.fair_queue import FairQueue
from tests.postgres import SKIP, SynchronousDatabaseTestCase
from tests.programs import environment

if SKIP is None:
    from kiroworkers.cluster import claim

_ANSWER = JobAnswer({"title": "x"})
_FAILURE = JobFailure(ErrorCode.FAULT, "no")

#: What the counters must be, according to the jobs: each query returns rows only if it is wrong.
_INVARIANTS = {
    "queues": """
        SELECT * FROM (
            SELECT agent, client,
                count(*) FILTER (WHERE state = 'queued') AS waiting,
                count(*) FILTER (WHERE state = 'running') AS running
            FROM jobs GROUP BY agent, client
        ) AS j FULL JOIN queues AS q USING (agent, client)
        WHERE coalesce(j.waiting, 0) <> coalesce(q.waiting, 0)
            OR coalesce(j.running, 0) <> coalesce(q.running, 0)
    """,
    "heads": """
        SELECT * FROM queues AS q LEFT JOIN LATERAL (
            SELECT sort_key, number FROM jobs
            WHERE jobs.agent = q.agent AND jobs.client = q.client AND state = 'queued'
            ORDER BY sort_key, number LIMIT 1
        ) AS j ON true
        WHERE (q.head, q.head_number) IS DISTINCT FROM (j.sort_key, j.number)
    """,
    "usage": """
        SELECT * FROM (SELECT client, sum(size) AS bytes FROM jobs GROUP BY client) AS j
        FULL JOIN usage AS u USING (client)
        WHERE coalesce(j.bytes, 0) <> coalesce(u.bytes, 0)
    """,
    "sizes": """
        SELECT id FROM jobs WHERE size <> length(payload) + coalesce(length(result), 0)
    """,
    "owners": "SELECT id FROM jobs WHERE state = 'running' AND owner IS NULL",
    "payloads": "SELECT id FROM jobs WHERE ended IS NOT NULL AND payload <> '{}'",
    "ends": """
        SELECT id FROM jobs WHERE (ended IS NULL) <> (state IN ('queued', 'running'))
            OR (result IS NULL) = (state IN ('done', 'failed'))
    """,
    "attempts": "SELECT id FROM jobs WHERE attempts < 0 OR failures < 0 OR attempts > claims",
}


def end(
    connection: Any, server: int, claimed: ClaimedJob, answer: JobAnswer = _ANSWER
) -> Job | None:
    """
    End a claimed job with an answer.
    """
    return claim.end_job(
        connection,
        server,
        claimed.job.id,
        claimed.claims,
        claimed.job.attempts,
        "done",
        answer,
    )


class ClaimTestCase(SynchronousDatabaseTestCase):
    """
    Run each test with a database and two registered servers.
    """

    def setUp(self) -> None:
        super().setUp()
        self.db = self.connect()
        self.one, self.two = self.register("one"), self.register("two")

    def register(self, name: str, seconds: float = 60.0) -> int:
        return claim.register_server(
            self.db, seconds, name, "1", "127.0.0.1:1", "", "serving", {"kiro": {"workers": 1}}
        )

    def add(
        self,
        id: str,
        client: str = "ann",
        agent: str = "kiro",
        priority: int = 5,
        created: float | None = None,
        payload: str = "{}",
        callback: str | None = None,
        connection: Any = None,
    ) -> None:
        """
        Add a job.
        """
        row = (connection or self.db).execute(
            "SELECT outcome FROM add_job(%s, %s, %s, 'task', %s, %s, %s, NULL, %s, '', '', '', "
            "1000000, 1000000000, 1000000000)",
            (id, client, agent, payload, created, priority, callback),
        )
        self.assertEqual(row.fetchone(), ("added",))

    def claim(self, server: int, number: int = 1, agent: str = "kiro") -> list[ClaimedJob]:
        return claim.claim_jobs(self.db, server, {agent: number})

    def claim_ids(self, server: int, number: int = 1, agent: str = "kiro") -> list[str]:
        return [claimed.job.id for claimed in self.claim(server, number, agent)]

    def end(self, server: int, claimed: ClaimedJob, answer: JobAnswer = _ANSWER) -> Job | None:
        return end(self.db, server, claimed, answer)

    def release(self, server: int, claimed: ClaimedJob, first: bool) -> None:
        attempts = claimed.job.attempts - first
        failures = claimed.failures - first
        claim.release_job(
            self.db, server, claimed.job.id, claimed.claims, attempts, failures, first=first
        )

    def beat(
        self, server: int, held: Mapping[str, int], complete: bool = False, seconds: float = 60.0
    ) -> list[str] | None:
        return claim.heartbeat(self.db, server, seconds, "serving", {}, held, complete)

    def lapse(self, server: int) -> None:
        """
        Let the lease of a server pass.
        """
        self.db.execute(
            "UPDATE servers SET lease_until = clock_timestamp() - interval '1 s' WHERE number = %s",
            (server,),
        )

    def column(self, id: str, columns: str) -> Any:
        """
        Return columns of a job: a tuple, or the value if it is one column.
        """
        row = self.db.execute(
            f"SELECT {columns} FROM jobs WHERE id = %s".encode(), (id,)
        ).fetchone()
        assert row is not None, "the job is there"
        return row if len(row) > 1 else row[0]

    def run_together(self, functions: list[Callable[[Any], Any]]) -> list[Any]:
        """
        Call each function with a connection of its own, in a thread of its own, all at once.
        """
        connections = [self.connect() for _ in functions]
        barrier = Barrier(len(functions))

        def run(function: Callable[[Any], Any], connection: Any) -> Any:
            # A statement that waits for this long would wait for ever.
            connection.execute("SET statement_timeout = '20s'")
            barrier.wait()
            return function(connection)

        with ThreadPoolExecutor(len(functions)) as pool:
            return [*pool.map(run, functions, connections)]

    def check_invariants(self) -> None:
        """
        Check that the counters are what the jobs say.
        """
        for name, query in _INVARIANTS.items():
            self.assertEqual(self.db.execute(query.encode()).fetchall(), [], name)


class ClaimTests(ClaimTestCase):
    """
    Tests for `claim_jobs`.
    """

    def test_claim(self) -> None:
        """
        A claimed job has its payload, its attempt counted, and belongs to the server.
        """
        self.add("a", payload='{"idea":"x"}')
        [claimed] = self.claim(self.one)
        self.assertEqual((claimed.claims, claimed.failures, claimed.watched), (1, 1, False))
        self.assertEqual(claimed.job.payload, {"idea": "x"})
        self.assertEqual((claimed.job.state, claimed.job.attempts), ("running", 1))
        self.assertEqual(self.column("a", "state, owner"), ("running", self.one))
        self.assertEqual(self.claim(self.two), [])
        self.check_invariants()

    def test_several_agents(self) -> None:
        """
        Each agent gets at most as many jobs as are wanted for it, and its own jobs only.
        """
        for agent in ("kiro", "other", "third"):
            for number in range(3):
                self.add(f"{agent}{number}", agent=agent)
        claimed = claim.claim_jobs(self.db, self.one, {"other": 2, "kiro": 1, "third": 0})
        counts = Counter(job.job.agent for job in claimed)
        self.assertEqual(counts, {"other": 2, "kiro": 1})
        self.check_invariants()

    def test_large_payloads(self) -> None:
        """
        Payloads are complete, however large they are, and in the order of the claim.
        """
        for number in range(5):
            self.add(str(number), payload=f'"{str(number) * 9000}"', created=number)
        claimed = self.claim(self.one, 5)
        self.assertEqual([job.job.id for job in claimed], list("01234"))
        self.assertEqual([job.job.payload for job in claimed], [n * 9000 for n in "01234"])

    def test_small_rows(self) -> None:
        """
        The function that claims returns little, whatever the payloads are, so that a client that
        does not read cannot delay its commit.
        """
        for number in range(8):
            self.add(str(number), payload=f'"{"x" * 9000}"')
        [[size]] = self.db.execute(
            "SELECT sum(length(payload)) FROM claim_jobs(%s, '{kiro}', '{8}')", (self.one,)
        )
        self.assertLessEqual(size, 16384)

    def test_without_lease(self) -> None:
        """
        A server whose lease has passed claims nothing before it has renewed it.
        """
        self.add("a")
        self.lapse(self.one)
        self.assertEqual(self.claim(self.one), [])
        self.assertEqual(self.beat(self.one, {}), [])
        self.assertEqual(self.claim_ids(self.one), ["a"])

    def test_locked(self) -> None:
        """
        A job that another transaction has locked is skipped, and its client's next one is claimed.
        """
        self.add("a", created=1)
        self.add("b", created=2)
        other = self.connect()
        with other.transaction():
            other.execute("SELECT FROM jobs WHERE id = 'a' FOR UPDATE")
            self.assertEqual(self.claim_ids(self.one, 3), ["b"])
        self.assertEqual(self.claim_ids(self.one, 3), ["a"])
        self.check_invariants()

    def test_strange_names(self) -> None:
        """
        Names that PostgreSQL cannot store are the same for whoever claims the job.
        """
        self.add("id\\\\", client="a\\u0000b", agent="k\\\\")
        [claimed] = claim.claim_jobs(self.db, self.one, {"k\\": 1})
        self.assertEqual((claimed.job.id, claimed.job.client), ("id\\", "a\0b"))
        self.assertIsNotNone(self.end(self.one, claimed))


class EndTests(ClaimTestCase):
    """
    Tests for what ends a claim.
    """

    def test_end(self) -> None:
        """
        A job that ends has its result and no payload, and its webhook belongs to the server.
        """
        self.add("a", payload='{"idea":"x"}', callback="https://example.com/")
        [claimed] = self.claim(self.one)
        ended = self.end(self.one, claimed)
        assert ended is not None and ended.callback is not None
        self.assertEqual((ended.state, ended.result, ended.payload), ("done", _ANSWER, {}))
        self.assertEqual(ended.callback.due, ended.ended)
        self.assertEqual(self.column("a", "owner, attempts"), (self.one, 1))
        self.check_invariants()

    def test_end_twice(self) -> None:
        """
        Storing the same end again returns the job again, and storing another one returns nothing.
        """
        self.add("a")
        [claimed] = self.claim(self.one)
        first = self.end(self.one, claimed)
        self.assertEqual(self.end(self.one, claimed), first)
        self.assertIsNone(self.end(self.one, claimed, JobAnswer({"title": "other"})))
        self.assertIsNone(self.end(self.two, claimed))
        self.check_invariants()

    def test_release(self) -> None:
        """
        A job that was not asked is its client's next one again; one that was asked comes last.
        """
        self.add("a", created=1)
        self.add("b", created=2)
        [claimed] = self.claim(self.one)
        self.release(self.one, claimed, first=True)
        self.assertEqual(
            self.column("a", "state, owner, attempts, failures"), ("queued", None, 0, 0)
        )
        [claimed] = self.claim(self.one)
        self.assertEqual((claimed.job.id, claimed.claims, claimed.job.attempts), ("a", 2, 1))
        self.release(self.one, claimed, first=False)
        self.assertEqual(self.claim_ids(self.one), ["b"])
        [claimed] = self.claim(self.one)
        self.assertEqual((claimed.job.id, claimed.claims, claimed.job.attempts), ("a", 3, 2))
        self.check_invariants()

    def test_release_repeated(self) -> None:
        """
        Releasing a job again changes nothing, not even if it was claimed anew.
        """
        self.add("a")
        [claimed] = self.claim(self.one)
        self.release(self.one, claimed, first=True)
        self.release(self.one, claimed, first=True)
        [again] = self.claim(self.two)
        self.release(self.one, claimed, first=True)
        self.release(self.two, claimed, first=True)
        self.assertEqual(self.column("a", "state, owner, claims"), ("running", self.two, 2))
        self.assertIsNotNone(self.end(self.two, again))
        self.check_invariants()

    def test_cancel(self) -> None:
        """
        A job can be cancelled while it waits or runs, but not when it has ended; what its former
        owner stores then is refused.
        """
        for id in ("a", "b", "c"):
            self.add(id, callback="https://example.com/")
        claimed, other = self.claim(self.one, 2)
        for id in ("a", "c"):
            job = claim.cancel_job(self.db, id, self.two, 9.0)
            assert job is not None and job.callback is not None
            self.assertEqual((job.state, job.ended, job.callback.due), ("cancelled", 9.0, 9.0))
            self.assertEqual(self.column(id, "owner"), self.two)
        self.assertIsNone(self.end(self.one, claimed))
        self.assertIsNone(claim.cancel_job(self.db, "a", self.one, 10.0))
        self.assertEqual(self.beat(self.one, {"a": 1, "b": 1}), ["a"])
        self.assertIsNotNone(self.end(self.one, other))
        self.assertIsNone(claim.cancel_job(self.db, "b", self.one, 10.0))
        self.check_invariants()

    def test_cancel_twice(self) -> None:
        """
        Repeating the same cancellation, because its answer was lost, returns the job again.
        """
        self.add("a")
        first = claim.cancel_job(self.db, "a", self.one, 9.0)
        self.assertEqual(claim.cancel_job(self.db, "a", self.one, 9.0), first)

    def test_deleted(self) -> None:
        """
        A job that is deleted while it runs is not counted any more, and is lost for its owner.
        """
        self.add("a")
        [claimed] = self.claim(self.one)
        self.db.execute("DELETE FROM jobs WHERE id = 'a'")
        self.assertEqual(self.beat(self.one, {"a": 1}, complete=True), ["a"])
        self.assertIsNone(self.end(self.one, claimed))
        self.check_invariants()


class LeaseTests(ClaimTestCase):
    """
    Tests for `heartbeat` and `sweep`.
    """

    def test_sweep(self) -> None:
        """
        The jobs of a server whose lease has passed are queued again, before others of their
        clients, and with their attempt counted; those of other servers go on.
        """
        for number, id in enumerate(("a", "b", "c")):
            self.add(id, created=number)
        self.claim(self.one, 1)
        self.claim(self.two, 1)
        self.assertEqual(claim.sweep(self.db, self.two), (0, 0))
        self.lapse(self.one)
        self.assertEqual(claim.sweep(self.db, self.two), (1, 0))
        self.assertEqual(self.column("b", "state"), "running")
        self.check_invariants()
        [claimed] = self.claim(self.two)
        self.assertEqual((claimed.job.id, claimed.claims, claimed.job.attempts), ("a", 2, 2))
        self.assertEqual(claimed.failures, 2)
        self.check_invariants()

    def test_late_result(self) -> None:
        """
        A late result is kept if nobody has claimed the job since, and refused otherwise.
        """
        self.add("a")
        self.add("b")
        first, second = self.claim(self.one, 2)
        self.lapse(self.one)
        self.assertEqual(claim.sweep(self.db, self.two), (2, 0))
        [again] = self.claim(self.two)
        self.assertEqual(again.job.id, first.job.id)
        self.assertIsNone(self.end(self.one, first))
        self.assertIsNotNone(self.end(self.one, second))
        self.assertEqual(self.column(second.job.id, "state, owner"), ("done", self.one))
        self.assertEqual(self.claim(self.two), [])
        self.assertIsNotNone(self.end(self.two, again))
        self.check_invariants()

    def test_late_release(self) -> None:
        """
        A job that was swept cannot be released by its former owner.
        """
        self.add("a")
        [claimed] = self.claim(self.one)
        self.lapse(self.one)
        claim.sweep(self.db, self.two)
        self.release(self.one, claimed, first=True)
        self.assertEqual(self.column("a", "state, attempts"), ("queued", 1))

    def test_take_back(self) -> None:
        """
        A server that comes back takes back what was swept and not claimed since, and learns
        which jobs it has lost.
        """
        for number, id in enumerate(("a", "b")):
            self.add(id, created=number)
        first, second = self.claim(self.one, 2)
        self.lapse(self.one)
        claim.sweep(self.db, self.two)
        [again] = self.claim(self.two)
        held = {first.job.id: first.claims, second.job.id: second.claims, "gone": 1}
        self.assertEqual(set(self.beat(self.one, held) or ()), {again.job.id, "gone"})
        self.assertEqual(self.column("b", "state, owner, claims"), ("running", self.one, 1))
        self.assertEqual(self.claim(self.two), [])
        self.check_invariants()
        self.assertIsNotNone(self.end(self.one, second))

    def test_released_is_not_taken_back(self) -> None:
        """
        A heartbeat with a job that the server has just released does not take it back.
        """
        self.add("a")
        [claimed] = self.claim(self.one)
        self.release(self.one, claimed, first=True)
        self.assertEqual(self.beat(self.one, {"a": 1}), ["a"])
        self.assertEqual(self.column("a", "state"), "queued")

    def test_lost_claim(self) -> None:
        """
        A server whose claim PostgreSQL lost in a crash takes the job back, or may store its result.
        """
        self.add("a")
        self.add("b")
        first, second = self.claim(self.one, 2)
        # As after a crash, in which the last commits that nobody waited for may be lost.
        self.db.execute(
            "UPDATE jobs SET state = 'queued', claims = 0, owner = NULL, attempts = 0, failures = 0"
        )
        self.assertIsNotNone(self.end(self.one, first))
        self.assertEqual(self.beat(self.one, {second.job.id: 1}), [])
        self.assertEqual(self.column(second.job.id, "state, claims"), ("running", 1))
        self.assertIsNotNone(self.end(self.one, second))

    def test_repeated_claim_number(self) -> None:
        """
        After a claim was lost in a crash, and another server's claim got its number, only that
        server can end the job.
        """
        self.add("a")
        [lost] = self.claim(self.one)
        self.db.execute("UPDATE jobs SET state = 'queued', claims = 0, owner = NULL")
        [claimed] = self.claim(self.two)
        self.assertEqual(claimed.claims, lost.claims)
        self.assertIsNone(self.end(self.one, lost))
        self.assertEqual(self.beat(self.one, {"a": lost.claims}), ["a"])
        self.assertIsNotNone(self.end(self.two, claimed))

    def test_unknown_claim(self) -> None:
        """
        Jobs of a claim whose answer was lost are queued again as if nobody had claimed them.
        """
        self.add("a", created=1)
        self.add("b", created=2)
        self.claim(self.one, 2)
        self.assertEqual(self.beat(self.one, {"b": 1}, complete=False), [])
        self.assertEqual(self.column("a", "state"), "running")
        self.assertEqual(self.beat(self.one, {"b": 1}, complete=True), [])
        self.assertEqual(self.column("a", "state, attempts, failures"), ("queued", 0, 0))
        self.assertEqual(self.column("b", "state"), "running")
        self.check_invariants()

    def test_unknown_server(self) -> None:
        """
        A server that was forgotten is told so.
        """
        self.assertIsNone(self.beat(self.two + 1, {}))

    def test_forgotten(self) -> None:
        """
        Servers are forgotten ten minutes after their lease has passed, but not while they own jobs.
        """
        self.add("a")
        self.claim(self.one)
        self.db.execute("UPDATE servers SET lease_until = clock_timestamp() - interval '11 min'")
        self.db.execute("UPDATE jobs SET watched = false")
        with (other := self.connect()).transaction():
            # So that the sweep leaves it.
            other.execute("SELECT FROM jobs FOR UPDATE")
            self.assertEqual(claim.sweep(self.db, 0), (0, 0))
        self.assertEqual(self.db.execute("SELECT name FROM servers").fetchall(), [("one",)])

    def test_leave(self) -> None:
        """
        The jobs and webhooks of a server that has left are taken over at once.
        """
        self.add("a")
        self.add("b", callback="https://example.com/")
        first, second = self.claim(self.one, 2)
        self.end(self.one, second)
        claim.leave_server(self.db, self.one)
        self.assertEqual(claim.sweep(self.db, self.two), (1, 1))
        self.assertEqual(self.column("b", "owner"), self.two)
        self.assertEqual(claim.sweep(self.db, self.two), (0, 0))
        self.assertEqual(self.claim_ids(self.two), [first.job.id])

    def test_absent_clients(self) -> None:
        """
        A client with nothing waiting or running is forgotten when its next turn is due.
        """
        self.add("a", client="ann")
        [claimed] = self.claim(self.one)
        self.end(self.one, claimed)
        queues = "SELECT client FROM queues"
        self.sweep_and_tidy()
        self.assertEqual(self.db.execute(queues).fetchall(), [("ann",)])
        for number in range(2):
            self.add(f"b{number}", client="bob")
            self.claim(self.one)
        self.sweep_and_tidy()
        self.assertEqual(self.db.execute(queues).fetchall(), [("bob",)])
        self.check_invariants()

    def test_many_absent_clients(self) -> None:
        """
        If more than a thousand clients are absent, all are forgotten.
        """
        self.db.execute(
            "INSERT INTO queues SELECT 'kiro', 'c' || n, 0, 0, 1 FROM generate_series(1, 1001) AS n"
        )
        self.db.execute("INSERT INTO agents VALUES ('kiro', 0)")
        self.sweep_and_tidy()
        self.assertEqual(self.db.execute("SELECT count(*) FROM queues").fetchall(), [(0,)])

    def sweep_and_tidy(self) -> None:
        self.db.execute("UPDATE maintenance SET tidied = '-infinity'")
        claim.sweep(self.db, self.two)


class NotificationTests(ClaimTestCase):
    """
    Tests for the notifications that the functions and triggers send.
    """

    def setUp(self) -> None:
        super().setUp()
        self.listener = self.connect()
        self.listener.execute("LISTEN kiroworkers")

    def heard(self) -> list[str]:
        """
        Return the payloads since the last call, in order.
        """
        self.listener.execute("SELECT")
        return [n.payload for n in self.listener.notifies(timeout=0)]

    def test_queued(self) -> None:
        """
        A job that is queued, or queued again, is announced by its agent.
        """
        self.add("a")
        self.assertEqual(self.heard(), ["queued kiro"])
        [claimed] = self.claim(self.one)
        self.assertEqual(self.heard(), [])
        self.release(self.one, claimed, first=True)
        self.assertEqual(self.heard(), ["queued kiro"])

    def test_backlog(self) -> None:
        """
        While many jobs wait, no server is idle, and others are not announced.
        """
        for number in range(300):
            self.add(str(number), client=f"client{number % 7}")
        self.assertEqual(len(self.heard()), 256)
        self.add("other", agent="other")
        self.assertEqual(self.heard(), ["queued other"])

    def test_cancelled(self) -> None:
        """
        The cancellation of a running job is announced, and so is its deletion.
        """
        for id in ("a", "b", "c"):
            self.add(id)
        self.claim(self.one, 2)
        self.heard()
        for id in ("a", "c"):
            claim.cancel_job(self.db, id, self.two, 1.0)
        self.db.execute("DELETE FROM jobs WHERE id = 'b'")
        self.assertEqual(self.heard(), ["cancelled a", "cancelled b"])

    def test_watched(self) -> None:
        """
        It is announced once that somebody listens to a job; and then its end, or its deletion.
        """
        for id in ("a", "b", "c"):
            self.add(id)
        claimed, *_ = self.claim(self.one, 2)
        self.heard()
        for _ in range(2):
            self.db.execute("UPDATE jobs SET watched = true WHERE id <> 'c'")
        self.assertEqual(self.heard(), ["watch a", "watch b"])
        self.end(self.one, claimed)
        self.db.execute("DELETE FROM jobs WHERE id = 'b'")
        claim.cancel_job(self.db, "c", self.one, 1.0)
        self.assertEqual(self.heard(), ["ended a", "cancelled b", "ended b"])

    def test_watched_while_queued(self) -> None:
        """
        A waiting job that is watched from now on is announced again: a claim may have skipped it
        while it was locked for that.
        """
        self.add("a")
        self.heard()
        self.db.execute("UPDATE jobs SET watched = true")
        self.assertEqual(self.heard(), ["watch a", "queued kiro"])


class FairnessTests(ClaimTestCase):
    """
    Tests for the order of claims.
    """

    agents = 0

    @settings(
        max_examples=40,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.differing_executors],
    )
    @given(
        st.lists(
            st.one_of(
                st.tuples(st.just("add"), st.sampled_from("abcde"), st.integers(0, 9)),
                st.tuples(st.just("claim"), st.integers(1, 4), st.just(0)),
                st.tuples(
                    st.sampled_from(["end", "first", "last", "cancel", "remove"]),
                    st.integers(0, 9),
                    st.just(0),
                ),
                st.tuples(st.just("tidy"), st.just(0), st.just(0)),
            ),
            min_size=10,
            max_size=60,
        )
    )
    def test_same_order(self, steps: list[tuple[str, Any, int]]) -> None:
        """
        Jobs are claimed in the order in which `FairQueue` serves them, whatever else happens.
        """
        self.agents += 1
        agent = f"agent{self.agents}"
        queue: FairQueue[str] = FairQueue(60.0)
        jobs: dict[str, tuple[str, int]] = {}
        running: dict[str, ClaimedJob] = {}
        waiting: list[str] = []
        put_back: set[str] = set()
        for time_, (step, what, priority) in enumerate([*steps, ("claim", 100, 0)]):
            if step == "add":
                id = f"{agent}-{time_}"
                jobs[id] = (what, priority)
                waiting.append(id)
                # By seconds that are as much as some steps of priority.
                self.add(id, what, agent, priority, created=100.0 * time_)
                queue.add(id, what, priority, 100.0 * time_)
            elif step == "claim":
                claimed = self.claim(self.one, what, agent)
                expected = [queue.pop() for _ in range(min(what, len(queue)))]
                self.assertEqual([job.job.id for job in claimed], expected)
                running.update((job.job.id, job) for job in claimed)
                waiting = [id for id in waiting if id not in expected]
                put_back.difference_update(expected)
            elif step == "tidy":
                self.db.execute("UPDATE maintenance SET tidied = '-infinity'")
                self.db.execute("SELECT tidy()")
            elif step == "remove":
                if waiting:
                    id = waiting.pop(what % len(waiting))
                    put_back.discard(id)
                    self.assertTrue(queue.remove(id))
                    self.assertIsNotNone(claim.cancel_job(self.db, id, self.one, 1.0))
            elif running:
                id, job = [*running.items()][what % len(running)]
                client, priority = jobs[id]
                if step == "first" and any(jobs[other][0] == client for other in put_back):
                    # Several jobs that were put back come in the order of their arrival, and in
                    # a `FairQueue` in that of their return.
                    continue
                del running[id]
                queue.end_turn(client)
                if step == "end":
                    self.assertIsNotNone(self.end(self.one, job))
                elif step == "cancel":
                    self.assertIsNotNone(claim.cancel_job(self.db, id, self.one, 1.0))
                else:
                    self.release(self.one, job, first=step == "first")
                    waiting.append(id)
                    if step == "first":
                        put_back.add(id)
                        queue.put_back(id, client, priority)
                    else:
                        queue.add(id, client, priority, time.time())
        self.check_invariants()


class ConcurrencyTests(ClaimTestCase):
    """
    Tests with many connections at the same time.
    """

    def test_exactly_once(self) -> None:
        """
        However many claim at the same time, each job is claimed and ended by exactly one of them,
        and no client has more running than its share.
        """
        total = 300
        for number in range(total):
            self.add(str(number), client=f"client{number % 7}")

        def work(server: int) -> Callable[[Any], list[str]]:
            def run(connection: Any) -> list[str]:
                ended = []
                while claimed := claim.claim_jobs(connection, server, {"kiro": 2}):
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
            claim.sweep(self.db, self.two)
            self.beat(self.one, {})
            results = self.run_together(
                [
                    partial(end, server=self.one, claimed=claimed),
                    partial(claim.cancel_job, id=id, server=self.two, now=5.0),
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
        for again in claim.claim_jobs(connection, self.two, {"kiro": 1}):
            return claim.end_job(
                connection, self.two, again.job.id, again.claims, 2, "failed", _FAILURE
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
        claimed = claim.claim_jobs(other, self.two, {"kiro": 10})
        self.assertIn(len(claimed), (5, 10))
        self.check_invariants()

    def test_stopped_client(self) -> None:
        """
        A process that is stopped at any moment blocks nobody.
        """
        for number in range(2000):
            self.add(str(number))
        child = subprocess.Popen(
            [sys.executable, "-c", _CLAIM_FOR_EVER, self.address, str(self.one)],
            env=environment(),
            stdout=subprocess.PIPE,
        )
        self.addCleanup(child.wait)
        self.addCleanup(child.kill)
        assert child.stdout is not None, "it is a pipe"
        child.stdout.readline()
        self.db.execute("SET statement_timeout = '10s'")
        chance = random.Random(24)
        for _ in range(10):
            for _ in range(chance.randrange(8)):
                self.claim(self.two)
            child.send_signal(signal.SIGSTOP)
            for _ in range(5):
                [job] = self.claim(self.two)
                self.end(self.two, job)
            child.send_signal(signal.SIGCONT)

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
                        claim.heartbeat,
                        server=self.one,
                        seconds=60.0,
                        state="serving",
                        agents={},
                        held=held,
                        complete=False,
                    ),
                    partial(claim.sweep, server=self.two),
                    partial(claim.claim_jobs, server=self.two, wanted={"kiro": 2}),
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
from kiroworkers.cluster import claim
from kiroworkers.jobs.job import JobAnswer
connection = psycopg.connect(sys.argv[1], autocommit=True)
connection.execute("SET search_path = kiroworkers")
server = int(sys.argv[2])
print("ready", flush=True)
while True:
    for job in claim.claim_jobs(connection, server, {"kiro": 3}):
        claim.end_job(connection, server, job.job.id, job.claims, 1, "done", JobAnswer({}))
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
            claim.leave_server(self.db, server)
        last = self.register("last")
        claim.sweep(self.db, last)
        self.check_invariants()
        while claimed := claim.claim_jobs(self.db, last, {"kiro": 50, "other": 50}):
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
        claimed = claim.claim_jobs(self._db, server, wanted)
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
            claim.release_job(self._db, *values, first=self._chance.random() < 0.5)

    def _cancel(self, _: str) -> None:
        if self._known:
            id = self._chance.choice(self._known)
            # Each at another time, so that none is a repetition of another.
            if claim.cancel_job(self._db, id, self._server(), self._chance.random()) is not None:
                self._ends.append(id)

    def _beat(self, _: str) -> None:
        server = self._server()
        held = {job.job.id: job.claims for owner, job in self._held if owner == server}
        complete = self._chance.random() < 0.3
        claim.heartbeat(self._db, server, 60.0, "serving", {}, held, complete)

    def _lapse_and_sweep(self, _: str) -> None:
        self._db.execute(
            "UPDATE servers SET lease_until = clock_timestamp() WHERE number = %s",
            (self._server(),),
        )
        claim.sweep(self._db, self._server())

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
