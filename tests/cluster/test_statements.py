"""
Tests for `kiroworkers.cluster.statements` and the SQL functions that it executes.
"""

from __future__ import annotations

from collections import Counter

from kiroworkers.jobs.job import JobAnswer
from tests.cluster.claim_case import ANSWER, ClaimTestCase
from tests.postgres import SKIP

if SKIP is None:
    from kiroworkers.cluster import statements


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
        claimed = statements.claim_jobs(self.db, self.one, {"other": 2, "kiro": 1, "third": 0})
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
        [claimed] = statements.claim_jobs(self.db, self.one, {"k\\": 1})
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
        self.assertEqual((ended.state, ended.result, ended.payload), ("done", ANSWER, {}))
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
            job = statements.cancel_job(self.db, id, self.two, 9.0)
            assert job is not None and job.callback is not None
            self.assertEqual((job.state, job.ended, job.callback.due), ("cancelled", 9.0, 9.0))
            self.assertEqual(self.column(id, "owner"), self.two)
        self.assertIsNone(self.end(self.one, claimed))
        self.assertIsNone(statements.cancel_job(self.db, "a", self.one, 10.0))
        self.assertEqual(self.beat(self.one, {"a": 1, "b": 1}), ["a"])
        self.assertIsNotNone(self.end(self.one, other))
        self.assertIsNone(statements.cancel_job(self.db, "b", self.one, 10.0))
        self.check_invariants()

    def test_cancel_twice(self) -> None:
        """
        Repeating the same cancellation, because its answer was lost, returns the job again.
        """
        self.add("a")
        first = statements.cancel_job(self.db, "a", self.one, 9.0)
        self.assertEqual(statements.cancel_job(self.db, "a", self.one, 9.0), first)

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
        self.assertEqual(statements.sweep(self.db, self.two), (0, 0))
        self.lapse(self.one)
        self.assertEqual(statements.sweep(self.db, self.two), (1, 0))
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
        self.assertEqual(statements.sweep(self.db, self.two), (2, 0))
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
        statements.sweep(self.db, self.two)
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
        statements.sweep(self.db, self.two)
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
        with (other := self.connect()).transaction():
            # So that the sweep leaves it.
            other.execute("SELECT FROM jobs FOR UPDATE")
            self.assertEqual(statements.sweep(self.db, 0), (0, 0))
        self.assertEqual(self.db.execute("SELECT name FROM servers").fetchall(), [("one",)])

    def test_leave(self) -> None:
        """
        The jobs and webhooks of a server that has left are taken over at once.
        """
        self.add("a")
        self.add("b", callback="https://example.com/")
        first, second = self.claim(self.one, 2)
        self.end(self.one, second)
        statements.leave_server(self.db, self.one)
        self.assertEqual(statements.sweep(self.db, self.two), (1, 1))
        self.assertEqual(self.column("b", "owner"), self.two)
        self.assertEqual(statements.sweep(self.db, self.two), (0, 0))
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

    def test_events(self) -> None:
        """
        The events of a job are deleted a minute after its end.
        """
        for id in ("queued", "ended", "expired"):
            self.add(id)
            self.db.execute("INSERT INTO job_events VALUES (%s, 1, 1, 'text', '{}')", (id,))
        ended = "UPDATE jobs SET state = 'cancelled', ended = now_seconds() - %s WHERE id = %s"
        self.db.execute(ended, (50, "ended"))
        self.db.execute(ended, (61, "expired"))
        self.sweep_and_tidy()
        left = self.db.execute("SELECT job FROM job_events ORDER BY job").fetchall()
        self.assertEqual(left, [("ended",), ("queued",)])

    def sweep_and_tidy(self) -> None:
        self.db.execute("UPDATE maintenance SET tidied = '-infinity'")
        statements.sweep(self.db, self.two)


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
            statements.cancel_job(self.db, id, self.two, 1.0)
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
        statements.cancel_job(self.db, "c", self.one, 1.0)
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
