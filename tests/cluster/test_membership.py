"""
Tests for `kiroworkers.cluster.membership`, with a database in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.cluster.membership import (
    HeldJobs,
    Identity,
    Membership,
    OwnFacts,
    without_earlier_starts,
)
from kiroworkers.jobs.presence import AgentFacts, ServerInfo, ServerState
from tests.cluster.memory import Connection, Database, JobRow, ServerRow
from tests.jobs.support import new_job

#: Seconds of a lease, of its part until others take the jobs, and between two heartbeats.
LEASE, LIFE, INTERVAL = 15.0, 10.0, 3.0

FACTS = OwnFacts("serving", {"kiro": AgentFacts("serving", 3, 3, 2, 0)})


class Jobs:
    """
    Stand in for a runner.
    """

    def __init__(self) -> None:
        self.claims: Mapping[str, int] = {}
        self.aborted: list[str] = []
        self.wakes = 0

    def held(self) -> HeldJobs:
        return HeldJobs(self.claims, True)

    def lost(self, ids: Iterable[str]) -> None:
        self.aborted += ids

    def wake(self) -> None:
        self.wakes += 1


class Server:
    """
    One server with its connection.
    """

    def __init__(self, clock: Clock, database: Database, name: str) -> None:
        self.connection = Connection(database)
        self.jobs = Jobs()
        self.adopted = 0
        self.membership = Membership(
            clock,
            clock.seconds,
            self.connection,
            Identity(name, "1.0", f"{name}:8080"),
            lambda: FACTS,
            LEASE,
            self.jobs,
            self.on_adopted,
        )

    def on_adopted(self) -> None:
        self.adopted += 1


class MembershipTestCase(SynchronousTestCase):
    """
    Hold a database, and servers that share it.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.database = Database(self.clock)

    def server(self, name: str = "a") -> Server:
        """
        Return a server that has just started.
        """
        server = Server(self.clock, self.database, name)
        server.membership.startService()
        return server

    def pass_time(self, seconds: float) -> None:
        """
        Let time pass in small steps.
        """
        self.clock.pump([0.25] * int(seconds / 0.25))

    def job(self, id: str, owner: int | None, **fields: Any) -> JobRow:
        """
        Add a job that a server runs.
        """
        job = new_job(id, **{"state": "running", "attempts": 1, **fields})
        row = JobRow(job, job.created, claims=1, failures=1, owner=owner)
        self.database.jobs[id] = row
        return row


class LeaseTests(MembershipTestCase):
    """
    Tests for the heartbeats of `Membership`.
    """

    def test_registers(self) -> None:
        """
        A server is known to the others as soon as it has started, and holds its lease.
        """
        server = self.server()
        self.assertEqual(server.membership.number, 1)
        self.assertTrue(server.membership.holds_lease)
        self.assertEqual(self.database.servers[1].facts, FACTS)
        self.assertEqual(server.jobs.wakes, 1)

    def test_renews(self) -> None:
        """
        The lease is renewed each fifth of the promised time, and jobs are looked for then.
        """
        server = self.server()
        self.pass_time(2 * INTERVAL)
        self.assertEqual(server.connection.statements, ["register", *["heartbeat"] * 3])
        self.assertEqual(server.jobs.wakes, 3)

    def test_slow_database(self) -> None:
        """
        A heartbeat that takes longer than their interval is followed by the next one at once,
        and never by two.
        """
        server = self.server()
        server.connection.held = []
        self.pass_time(2.5 * INTERVAL)
        [_] = server.connection.held
        server.connection.run_held()
        self.pass_time(0.5)
        self.assertEqual(server.connection.statements.count("heartbeat"), 3)

    def test_lapses(self) -> None:
        """
        A server whose heartbeats fail knows that it holds its lease no more, no later than the
        others do, measured from when the last heartbeat was sent.
        """
        server = self.server()
        server.connection.held = []
        self.pass_time(INTERVAL)
        self.pass_time(2)
        server.connection.run_held()
        server.connection.down = True
        self.pass_time(LIFE - 2.25)
        self.assertTrue(server.membership.holds_lease)
        self.pass_time(0.5)
        self.assertFalse(server.membership.holds_lease)
        self.assertTrue(self.database.alive(1))

    def test_starts_without_database(self) -> None:
        """
        A server that starts while the database is away registers when it can be reached.
        """
        server = Server(self.clock, self.database, "a")
        server.connection.down = True
        server.membership.startService()
        self.pass_time(10)
        self.assertEqual((server.membership.number, server.membership.holds_lease), (None, False))
        server.connection.heal()
        self.pass_time(INTERVAL)
        self.assertEqual((server.membership.number, server.membership.holds_lease), (1, True))

    def test_forgotten(self) -> None:
        """
        A server that was away for so long that it was forgotten registers again, and takes back
        the jobs that nobody has begun anew.
        """
        server = self.server()
        row = self.job("1", None, state="queued")
        server.jobs.claims = {"1": 1}
        self.database.servers.clear()
        self.database.servers[4] = ServerRow(Identity("b", "1.0", ""), FACTS, 0.0, 0.0, 0.0)
        self.clock.advance(7200)
        self.clock.advance(0)
        self.assertEqual((server.membership.number, server.membership.holds_lease), (5, True))
        self.assertEqual((row.job.state, row.owner), ("running", 5))

    def test_beat_at_once(self) -> None:
        """
        A heartbeat that is wanted while another one is under way follows it at once.
        """
        server = self.server()
        server.connection.held = []
        server.membership.beat()
        server.membership.beat()
        server.connection.run_held()
        self.clock.advance(0)
        self.assertEqual(server.connection.statements.count("heartbeat"), 3)

    def test_told_of_lost_jobs(self) -> None:
        """
        A server aborts the jobs that are not its own any more.
        """
        server = self.server()
        self.job("mine", 1)
        self.job("begun elsewhere", 2).claims = 2
        self.job("cancelled", 1, state="cancelled")
        server.jobs.claims = dict.fromkeys(("mine", "begun elsewhere", "cancelled", "deleted"), 1)
        self.pass_time(INTERVAL)
        self.assertEqual(server.jobs.aborted, ["begun elsewhere", "cancelled", "deleted"])

    def test_stops(self) -> None:
        """
        A server that has stopped renews nothing, and ends its lease when it leaves.
        """
        server = self.server()
        server.membership.stopService()
        self.pass_time(INTERVAL)
        self.assertEqual(server.connection.statements.count("heartbeat"), 1)
        self.assertTrue(self.database.alive(1))
        self.successResultOf(server_left(server))
        self.assertFalse(self.database.alive(1))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_leaves_without_database(self) -> None:
        """
        A server stops also if it cannot tell the others.
        """
        server = self.server()
        server.connection.down = True
        server.membership.stopService()
        self.successResultOf(server_left(server))

    def test_stops_during_heartbeat(self) -> None:
        """
        A server that stops while a heartbeat is under way leaves nothing behind.
        """
        server = self.server()
        server.connection.held = []
        server.membership.beat()
        server.membership.stopService()
        left = server_left(server)
        server.connection.run_held()
        self.successResultOf(left)
        self.assertFalse(self.database.alive(1))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_bug(self) -> None:
        """
        An unexpected failure is logged, and the lease is renewed all the same.
        """
        server = self.server()
        server.jobs.wake = lambda: 1 // 0  # type: ignore[method-assign, assignment]
        self.pass_time(2 * INTERVAL)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)
        self.assertTrue(server.membership.holds_lease)


class SweepTests(MembershipTestCase):
    """
    Tests for what `Membership` does about dead servers.
    """

    def test_dead_server(self) -> None:
        """
        The jobs of a server that dies are queued again within the promised time.
        """
        server, other = self.server(), self.server("b")
        self.pass_time(LEASE)
        row = self.job("1", 2)
        other.jobs.claims = {"1": 1}
        # The worst case: it dies right after a heartbeat.
        self.pass_time(INTERVAL)
        other.membership.stopService()
        self.pass_time(LEASE - 0.25)
        self.assertEqual(row.job.state, "queued")
        self.assertTrue(server.membership.holds_lease)

    def test_not_before_lease(self) -> None:
        """
        A server sweeps only after its connection was unbroken for as long as a lease.
        """
        server = self.server()
        self.pass_time(LEASE - 0.25)
        self.assertNotIn("sweep", server.connection.statements)
        self.pass_time(INTERVAL)
        self.assertIn("sweep", server.connection.statements)

    def test_healthy_after_outage(self) -> None:
        """
        After an outage of the database for all servers, the jobs of healthy ones stay theirs,
        though all leases have passed, and the one that is connected first does not take them.
        """
        server, other = self.server(), self.server("b")
        self.pass_time(2 * LEASE)
        row = self.job("1", 2)
        other.jobs.claims = {"1": 1}
        server.connection.down = other.connection.down = True
        self.pass_time(20)
        server.connection.heal()
        self.pass_time(5)
        self.assertTrue(server.membership.holds_lease)
        other.connection.heal()
        self.pass_time(2 * LEASE)
        self.assertEqual((row.job.state, row.owner, row.claims), ("running", 2, 1))
        self.assertEqual(other.jobs.aborted, [])

    def test_new_connection(self) -> None:
        """
        A connection that broke and was made again between two heartbeats counts as broken.
        """
        server = self.server()
        self.pass_time(LEASE + INTERVAL)
        swept = server.connection.statements.count("sweep")
        server.connection.connections += 1
        self.pass_time(LEASE)
        self.assertEqual(server.connection.statements.count("sweep"), swept)
        self.pass_time(INTERVAL)
        self.assertEqual(server.connection.statements.count("sweep"), swept + 1)

    def test_failed_heartbeat(self) -> None:
        """
        A heartbeat that fails counts as a broken connection, also if the next one uses the same.
        """
        server = self.server()
        self.pass_time(LEASE + INTERVAL)
        server.connection.down = True
        self.pass_time(INTERVAL)
        server.connection.down = False
        swept = server.connection.statements.count("sweep")
        self.pass_time(LEASE)
        self.assertEqual(server.connection.statements.count("sweep"), swept)
        self.pass_time(INTERVAL)
        self.assertEqual(server.connection.statements.count("sweep"), swept + 1)

    def test_stopped_process(self) -> None:
        """
        A server that was stopped for longer than its lease takes back what nobody has begun
        anew, aborts the rest, and does not sweep others at once.
        """
        server = self.server()
        self.pass_time(LEASE + INTERVAL)
        kept, begun = self.job("kept", None, state="queued"), self.job("begun", 2)
        begun.claims = 2
        server.jobs.claims = {"kept": 1, "begun": 1}
        statements = server.connection.statements
        swept = statements.count("sweep")
        self.clock.advance(12)
        self.assertEqual((kept.job.state, kept.owner), ("running", 1))
        self.assertEqual(server.jobs.aborted, ["begun"])
        self.assertEqual(statements.count("sweep"), swept)

    def test_webhooks_after_reconnecting(self) -> None:
        """
        After the connection broke, webhooks are looked for: the response that told of the end of
        a job may have been lost.
        """
        server = self.server()
        self.pass_time(INTERVAL)
        self.assertEqual(server.adopted, 0)
        server.connection.connections += 1
        self.pass_time(2 * INTERVAL)
        self.assertEqual(server.adopted, 1)

    def test_webhooks(self) -> None:
        """
        The webhooks of a dead server are called by the one that sweeps it.
        """
        server = self.server()
        self.job("1", 7, state="done").is_webhook_due = True
        self.pass_time(LEASE + INTERVAL)
        self.assertEqual((server.adopted, self.database.jobs["1"].owner), (1, 1))
        self.pass_time(INTERVAL)
        self.assertEqual(server.adopted, 1)


class PresenceTests(MembershipTestCase):
    """
    Tests for the `Presence` of servers.
    """

    def test_servers(self) -> None:
        """
        Each server knows the others, with the current state of itself.
        """
        server = self.server()
        self.server("b")
        self.pass_time(1)
        self.successResultOf(server.membership.refresh())
        first, second = server.membership.servers()
        self.assertEqual((first.name, first.silence, first.agents), ("a", 0.0, FACTS.agents))
        self.assertEqual((second.name, second.number, second.silence), ("b", 2, 1.0))
        self.assertEqual(second.address, "b:8080")

    def test_remembered(self) -> None:
        """
        Without the database the servers are those that were known last, with their growing
        silence, and nobody waits for it for long.
        """
        server = self.server()
        self.server("b")
        self.successResultOf(server.membership.refresh())
        server.connection.held = []
        self.clock.advance(1)
        asked, other = server.membership.refresh(), server.membership.refresh()
        self.clock.advance(1.5)
        self.assertNoResult(asked)
        self.clock.advance(0.5)
        self.successResultOf(asked)
        self.successResultOf(other)
        self.assertEqual([each.silence for each in server.membership.servers()], [0.0, 3.0])

    def test_known_unasked(self) -> None:
        """
        A new connection is enough to know the servers, also if nobody asks before it breaks.
        """
        server = self.server()
        self.server("b")
        server.connection.connections += 1
        server.membership.beat()
        server.connection.down = True
        self.assertEqual([each.name for each in server.membership.servers()], ["a", "b"])

    def test_unavailable(self) -> None:
        """
        A database that fails is no failure of the question.
        """
        server = self.server()
        server.connection.down = True
        self.successResultOf(server.membership.refresh())
        [myself] = server.membership.servers()
        self.assertEqual((myself.name, myself.silence), ("a", 0.0))
        self.assertIsNotNone(server.membership.database.reason)

    def test_asked_often(self) -> None:
        """
        Many who ask within a second cost one statement.
        """
        server = self.server()
        for _ in range(5):
            self.successResultOf(server.membership.refresh())
        self.assertEqual(server.connection.statements.count("census"), 1)
        self.clock.advance(1)
        self.successResultOf(server.membership.refresh())
        self.assertEqual(server.connection.statements.count("census"), 2)

    def test_hangs_up(self) -> None:
        """
        Somebody who does not wait any more does not disturb the others.
        """
        server = self.server()
        server.connection.held = []
        gone, other = server.membership.refresh(), server.membership.refresh()
        gone.cancel()
        self.failureResultOf(gone, CancelledError)
        server.connection.run_held()
        self.successResultOf(other)

    def test_queued_jobs(self) -> None:
        """
        The number of jobs that wait is that of all servers.
        """
        server = self.server()
        self.job("1", None, state="queued")
        self.successResultOf(server.membership.refresh())
        self.assertEqual(server.membership.queued.number, 1)

    def test_earlier_starts(self) -> None:
        """
        A server that was started again is listed once; two that run under one name, twice.
        """
        servers = [
            info(1, "a", "lost"),
            info(2, "b", "lost"),
            info(3, "a", "serving"),
            info(4, "c", "serving"),
            info(5, "c", "draining"),
            info(6, "d", "stopped"),
        ]
        left = [server.number for server in without_earlier_starts(reversed(servers))]
        self.assertEqual(left, [3, 2, 4, 5, 6])


def server_left(server: Server) -> Deferred[None]:
    """
    Return a Deferred that fires when `server` has left.
    """
    return Deferred.fromCoroutine(server.membership.leave())


def info(number: int, name: str, state: ServerState) -> ServerInfo:
    """
    Return a server in a list.
    """
    return ServerInfo(number, name, "1.0", "", "", state, {}, 0, 0.0, 0.0, 0.0)
