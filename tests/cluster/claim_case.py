"""
Run tests of claims with a database and two servers that are registered in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

from kiroworkers.cluster.claimed_job import ClaimedJob
from kiroworkers.errors import ErrorCode
from kiroworkers.jobs.job import Job, JobAnswer, JobFailure
from tests.postgres import SKIP, SynchronousDatabaseTestCase

if SKIP is None:
    from kiroworkers.cluster import statements

#: What jobs end with.
ANSWER = JobAnswer({"title": "x"})
FAILURE = JobFailure(ErrorCode.FAULT, "no")

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
    connection: Any, server: int, claimed: ClaimedJob, answer: JobAnswer = ANSWER
) -> Job | None:
    """
    End a claimed job with an answer.
    """
    return statements.end_job(
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

    def register(self, name: str, seconds: float = 600.0) -> int:
        return statements.register_server(
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
        return statements.claim_jobs(self.db, server, {agent: number})

    def claim_ids(self, server: int, number: int = 1, agent: str = "kiro") -> list[str]:
        return [claimed.job.id for claimed in self.claim(server, number, agent)]

    def end(self, server: int, claimed: ClaimedJob, answer: JobAnswer = ANSWER) -> Job | None:
        return end(self.db, server, claimed, answer)

    def release(self, server: int, claimed: ClaimedJob, first: bool) -> None:
        attempts = claimed.job.attempts - first
        failures = claimed.failures - first
        statements.release_job(
            self.db, server, claimed.job.id, claimed.claims, attempts, failures, first=first
        )

    def beat(
        self, server: int, held: Mapping[str, int], complete: bool = False, seconds: float = 60.0
    ) -> list[str] | None:
        return statements.heartbeat(self.db, server, seconds, "serving", {}, held, complete)

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
