"""
Tests for `kiroworkers.cluster.registry` and `kiroworkers.cluster.claims`, with PostgreSQL.

Agents and time are in memory; leases are measured by the database and ended by hand.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred

from kiroworkers.agents import Agent
from kiroworkers.conversations import load_dialect
from kiroworkers.errors import StorageUnavailable
from kiroworkers.jobs.job import Job, JobAnswer
from kiroworkers.jobs.presence import ServerInfo, agent_facts
from kiroworkers.pool.agent_groups import AgentGroup, AgentGroups
from kiroworkers.tasks import builtin_tasks
from kiroworkers.testing import MemoryKiro, MemoryReactor
from tests import fakekiro, postgres
from tests.cluster.memory import Events
from tests.jobs.support import UNLIMITED, InlineExecutor, new_job
from tests.memory import dispatcher_in

if postgres.SKIP is None:
    from kiroworkers.cluster.claims import PostgresClaims
    from kiroworkers.cluster.engine import Connection, PostgresEngine, PostgresQueue
    from kiroworkers.cluster.membership import HeldJobs, Identity, Membership, OwnFacts
    from kiroworkers.cluster.registry import PostgresRegistry
    from kiroworkers.cluster.runner import ClusterRunner
    from kiroworkers.cluster.store import PostgresStore

AGENT = load_dialect("kiro-classic").name
LEASE = 15.0


class Server:
    """
    A server whose agents are in memory, and whose statements are executed at once.
    """

    def __init__(self, reactor: MemoryReactor, address: str, name: str) -> None:
        self.reactor = reactor
        self.dispatcher = dispatcher_in(reactor, workers=1, agent=AGENT)
        agent = Agent(load_dialect("kiro-classic"), "chosen", "/bin/kiro", (), {})
        groups = AgentGroups([AgentGroup(agent, self.dispatcher)])
        self.engine = PostgresEngine(address, 5.0)
        self.executor = InlineExecutor()
        self.queue = PostgresQueue(reactor, reactor.seconds, self.executor, self.engine)
        self.registry = PostgresRegistry(self.queue, self.engine)
        self.claims = PostgresClaims(self.queue, self.number)
        self.ended: list[Job] = []
        self.adopted = 0
        self.runner = ClusterRunner(
            reactor,
            reactor.seconds,
            groups,
            builtin_tasks(),
            PostgresStore(self.queue, self.number),
            self.claims,
            UNLIMITED,
            self.ended.append,
            Events(),
            lambda: self.membership.holds_lease,
            lambda: self.membership.queued,
        )
        self.membership = Membership(
            reactor,
            reactor.seconds,
            self.registry,
            Identity(name, "1.0", f"{name}:8080", "team"),
            lambda: OwnFacts("serving", agent_facts(groups)),
            LEASE,
            self.runner,
            self.on_adopted,
        )
        self.dispatcher.startService()
        reactor.advance(0)
        self.membership.startService()
        self.runner.startService()
        reactor.pump([0] * 5)

    def number(self) -> int:
        return self.membership.number or 0

    def on_adopted(self) -> None:
        self.adopted += 1

    def accept(self, **fields: Any) -> Deferred[tuple[Job, bool]]:
        job = new_job("", agent=AGENT, payload={"idea": "An idea"}, **fields)
        return Deferred.fromCoroutine(self.runner.accept(job))

    def beat(self) -> None:
        """
        Send a heartbeat, and do what follows.
        """
        self.membership.beat()
        self.reactor.pump([0] * 5)


class ServersTestCase(postgres.SynchronousDatabaseTestCase):
    """
    Hold servers that share a database.
    """

    def setUp(self) -> None:
        super().setUp()
        self.reply: Callable[[str], str | None] = fakekiro.answer_text
        self.reactor = MemoryReactor(lambda: MemoryKiro(lambda prompt: self.reply(prompt)))
        self.reactor.advance(1000)
        self.db = self.connect()

    def server(self, name: str = "a") -> Server:
        server = Server(self.reactor, self.address, name)
        self.addCleanup(server.queue.close)
        self.addCleanup(server.membership.stopService)
        self.addCleanup(server.runner.stopService)
        return server

    def accept(self, server: Server, **fields: Any) -> str:
        job, _ = self.successResultOf(server.accept(**fields))
        self.reactor.pump([0] * 5)
        return job.id

    def busy(self) -> None:
        """
        Let turns that start from now on take for ever.
        """
        self.reply = lambda prompt: None

    def answer(self, program: int) -> None:
        """
        Let a program answer what it was asked.
        """
        kiro = self.reactor.programs[program]
        kiro.say(fakekiro.answer_text(kiro.typed[-1]) or "")
        self.reactor.pump([0] * 5)

    def end_lease(self, server: Server) -> None:
        """
        Let the lease of a server end, as if it had not been heard of for long.
        """
        self.db.execute(
            "UPDATE servers SET lease_until = clock_timestamp() - interval '1 s' WHERE number = %s",
            (server.number(),),
        )

    def job(self, id: str) -> dict[str, Any]:
        """
        Return some columns of a job.
        """
        names = ("state", "owner", "claims", "attempts", "failures")
        row = self.db.execute(
            f"SELECT {', '.join(names)} FROM jobs WHERE id = %s".encode(), (id,)
        ).fetchone()
        assert row is not None
        return dict(zip(names, row, strict=True))


class RegistryTests(ServersTestCase):
    """
    Tests for `PostgresRegistry`.
    """

    def census(self, server: Server) -> dict[str, ServerInfo]:
        census = self.successResultOf(server.registry.census())
        return {info.name: info for info in census.servers}

    def test_census(self) -> None:
        """
        Each server has the facts of the others, as they were reported with the last heartbeat.
        """
        first, second = self.server(), self.server("b")
        self.busy()
        self.accept(second)
        self.busy()
        second.beat()
        other = self.census(first)["b"]
        self.assertEqual((other.number, other.version, other.account), (2, "1.0", "team"))
        self.assertEqual((other.address, other.state), ("b:8080", "serving"))
        self.assertEqual(sum(info.jobs for info in self.census(first).values()), 1)
        facts = other.agents[AGENT]
        self.assertEqual((facts.state, facts.workers, facts.ready), ("serving", 1, 1))
        self.assertLess(other.silence, 10)
        self.assertGreaterEqual(other.seen, other.started)

    def test_states(self) -> None:
        """
        A server whose lease has passed is lost, and one that has left has stopped.
        """
        first, second, third = self.server(), self.server("b"), self.server("c")
        self.end_lease(second)
        self.successResultOf(Deferred.fromCoroutine(third.membership.leave()))
        states = {name: info.state for name, info in self.census(first).items()}
        self.assertEqual(states, {"a": "serving", "b": "lost", "c": "stopped"})

    def test_leave_before_all_is_stored(self) -> None:
        """
        A server's lease does not end before what it has kept is stored: others would begin anew.
        """
        server = self.server()
        server.queue.read(lambda db: db.execute("SET default_transaction_read_only = on"))
        alive: list[bool] = []

        def end(db: Connection) -> None:
            db.execute("DELETE FROM keys WHERE false")
            [[is_alive]] = db.execute("SELECT is_alive(%s)", (server.number(),))
            alive.append(is_alive)

        server.queue.keep(end)
        server.queue.read(lambda db: db.execute("SET default_transaction_read_only = off"))
        self.successResultOf(Deferred.fromCoroutine(server.membership.leave()))
        self.reactor.advance(5)
        self.assertEqual(alive, [True])

    def test_other_version(self) -> None:
        """
        A server of another version may report more or less about its agents.
        """
        server = self.server()
        self.db.execute(
            """UPDATE servers SET agents = '{"kiro": {"workers": 2, "mood": "good"}, "new": {}}'"""
        )
        agents = self.census(server)["a"].agents
        self.assertEqual((agents["kiro"].workers, agents["kiro"].idle), (2, 0))
        self.assertEqual((agents["new"].state, agents["new"].workers), ("unknown", 0))

    def test_queued(self) -> None:
        """
        The jobs that wait are counted over all agents, with the age of the oldest one.
        """
        server = self.server()
        self.assertEqual(self.successResultOf(server.registry.census()).queued.number, 0)
        self.accept(server)
        self.busy()
        for client in ("ann", "ann", "bob"):
            self.accept(server, client=client)
        self.db.execute(
            "UPDATE jobs SET created = now_seconds() - CASE client WHEN 'bob' THEN 90 ELSE 5 END"
        )
        queued = self.successResultOf(server.registry.census()).queued
        self.assertEqual(queued.number, 2)
        self.assertGreater(queued.oldest, 89)
        self.assertLess(queued.oldest, 120)
        self.assertEqual(server.runner.counts().running, 1)

    def test_forgotten(self) -> None:
        """
        A server whose row was deleted registers again with its next heartbeat.
        """
        server = self.server()
        self.db.execute("DELETE FROM servers")
        server.beat()
        self.assertEqual((server.membership.number, server.membership.holds_lease), (2, True))

    def test_heartbeat_while_failing(self) -> None:
        """
        Heartbeats are sent also while the database counts as failing, so the lease is renewed as
        soon as it works.
        """
        server = self.server()
        server.executor.error = OSError("for the test")
        self.failureResultOf(server.claims.claim({AGENT: 1}), StorageUnavailable)
        server.executor.error = None
        self.failureResultOf(server.claims.claim({AGENT: 1}), StorageUnavailable)
        self.end_lease(server)
        server.beat()
        [(alive,)] = self.db.execute("SELECT lease_until > clock_timestamp() FROM servers")
        self.assertTrue(alive)


class JobsTests(ServersTestCase):
    """
    Tests for jobs that pass between servers.
    """

    def test_done(self) -> None:
        """
        A job is claimed and ends with its answer, which its reporter has as well.
        """
        server = self.server()
        id = self.accept(server)
        self.assertEqual(self.job(id), {"state": "done", "owner": 1, "claims": 1,
                                        "attempts": 1, "failures": 1})  # fmt: skip
        [ended] = server.ended
        assert isinstance(ended.result, JobAnswer)
        self.assertEqual(ended.id, id)

    def test_elsewhere(self) -> None:
        """
        A job that waits is claimed by another server that has an idle session.
        """
        first = self.server()
        self.busy()
        self.accept(first)
        id = self.accept(first)
        self.assertEqual(self.job(id)["state"], "queued")
        self.server("b")
        self.assertEqual((self.job(id)["state"], self.job(id)["owner"]), ("running", 2))

    def test_given_back(self) -> None:
        """
        A server that stops gives its jobs back, and they count as asked, but not as failed.
        """
        server = self.server()
        self.busy()
        id = self.accept(server)
        server.runner.requeue_running()
        self.assertEqual(self.job(id), {"state": "queued", "owner": None, "claims": 1,
                                        "attempts": 1, "failures": 0})  # fmt: skip

    def test_lost(self) -> None:
        """
        The job of a server that was not heard of for long is begun anew by another one.  The late
        result of the first one changes nothing, and it aborts the job once it is heard of again.
        """
        first = self.server()
        self.busy()
        id = self.accept(first)
        second = self.server("b")
        self.end_lease(first)
        swept = self.successResultOf(second.registry.sweep(second.number()))
        self.assertEqual(swept.jobs, 1)
        second.beat()
        self.assertEqual((self.job(id)["owner"], self.job(id)["claims"]), (2, 2))
        first.beat()
        self.assertEqual([*first.dispatcher.requests()], [])
        self.assertEqual(self.job(id), {"state": "running", "owner": 2, "claims": 2,
                                        "attempts": 2, "failures": 2})  # fmt: skip
        self.answer(1)
        self.assertEqual((self.job(id)["state"], len(first.ended), len(second.ended)),
                         ("done", 0, 1))  # fmt: skip

    def test_late_result_refused(self) -> None:
        """
        A result that comes after another server has begun the job anew is refused.
        """
        first = self.server()
        self.busy()
        id = self.accept(first)
        second = self.server("b")
        self.end_lease(first)
        self.successResultOf(second.registry.sweep(second.number()))
        second.beat()
        self.answer(0)
        self.assertEqual((self.job(id)["state"], self.job(id)["owner"]), ("running", 2))
        self.assertEqual(first.ended, [])

    def test_late_result_kept(self) -> None:
        """
        A result that comes after the lease, before anybody has begun the job anew, is kept.
        """
        first = self.server()
        self.busy()
        id = self.accept(first)
        self.end_lease(first)
        second = self.server("b")
        second.dispatcher.pause()
        self.successResultOf(second.registry.sweep(second.number()))
        self.assertEqual(self.job(id)["state"], "queued")
        self.answer(0)
        self.assertEqual((self.job(id)["state"], len(first.ended)), ("done", 1))

    def test_taken_back(self) -> None:
        """
        A server that is heard of again takes back the jobs that nobody has begun anew.
        """
        first = self.server()
        self.busy()
        id = self.accept(first)
        self.end_lease(first)
        second = self.server("b")
        second.dispatcher.pause()
        self.successResultOf(second.registry.sweep(second.number()))
        first.beat()
        self.assertEqual(self.job(id), {"state": "running", "owner": 1, "claims": 1,
                                        "attempts": 1, "failures": 1})  # fmt: skip
        self.assertEqual(len([*first.dispatcher.requests()]), 1)

    def test_lost_answer(self) -> None:
        """
        Jobs that a server has claimed without learning of it are queued again, as if nobody had
        claimed them, with its next heartbeat.
        """
        server = self.server()
        server.dispatcher.pause()
        id = self.accept(server)
        self.successResultOf(server.claims.claim({AGENT: 1}))
        self.assertEqual(self.job(id)["state"], "running")
        server.beat()
        self.assertEqual(self.job(id), {"state": "queued", "owner": None, "claims": 1,
                                        "attempts": 0, "failures": 0})  # fmt: skip
        server.dispatcher.resume()
        server.beat()
        self.assertEqual((self.job(id)["state"], self.job(id)["attempts"]), ("done", 1))

    def test_kept_ends(self) -> None:
        """
        A job whose end is still to be stored stays its server's, and others are not disturbed by
        jobs that it does not have.
        """
        server = self.server()
        self.busy()
        id = self.accept(server)
        held = HeldJobs({id: 1, "deleted": 3}, True)
        facts = OwnFacts("serving", {})
        lost = self.successResultOf(server.registry.heartbeat(1, 10.0, facts, held))
        self.assertEqual(lost, ["deleted"])
        self.assertEqual(self.job(id)["owner"], 1)

    def test_cancelled(self) -> None:
        """
        A server whose job was cancelled elsewhere aborts it with its next heartbeat at the latest.
        """
        first = self.server()
        self.busy()
        id = self.accept(first)
        second = self.server("b")
        [job] = self.successResultOf(second.runner._store.list_jobs(None, None, 10))
        cancelled = self.successResultOf(second.runner.cancel(evolve(job, id=id)))
        assert cancelled is not None
        self.assertEqual((cancelled.state, len(second.ended)), ("cancelled", 1))
        first.beat()
        self.assertEqual([*first.dispatcher.requests()], [])
        self.assertEqual(self.job(id)["state"], "cancelled")

    def test_webhooks(self) -> None:
        """
        The webhooks of a server that is gone are called by the one that sweeps.
        """
        first, second = self.server(), self.server("b")
        id = self.accept(first)
        self.db.execute("UPDATE jobs SET due = now_seconds(), callback = 'http://x', owner = 1")
        self.successResultOf(Deferred.fromCoroutine(first.membership.leave()))
        swept = self.successResultOf(second.registry.sweep(second.number()))
        self.assertEqual((swept.jobs, swept.webhooks, self.job(id)["owner"]), (0, 1, 2))
