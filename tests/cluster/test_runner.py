"""
Tests for `kiroworkers.cluster.runner`, on pools and a database in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.agents import Agent
from kiroworkers.classic import drawing as classic
from kiroworkers.cluster.membership import QueuedJobs
from kiroworkers.cluster.runner import ClusterRunner
from kiroworkers.conversations import AgentFailure, load_dialect
from kiroworkers.errors import FailureKind, NoWorkerFree, ShuttingDown, StorageUnavailable
from kiroworkers.jobs import attempts
from kiroworkers.jobs.job import Job, JobAnswer, JobFailure
from kiroworkers.jobs.runner import JobCounts
from kiroworkers.jobs.store import JobStore
from kiroworkers.pool.agent_groups import AgentGroup, AgentGroups
from kiroworkers.pool.dispatcher import RequestOptions
from kiroworkers.tasks import builtin_tasks
from kiroworkers.testing import MemoryKiro, MemoryReactor
from tests import fakekiro
from tests.cluster.memory import Connection, Database, Events, JobRow
from tests.jobs.support import UNLIMITED, new_job
from tests.memory import dispatcher_in

AGENT = load_dialect("kiro-classic").name


class Server:
    """
    A server with a pool in memory.

    Attributes:
        reply: Returns the answer to a prompt; None for none.
    """

    def __init__(
        self, reactor: MemoryReactor, database: Database, number: int, **pool: Any
    ) -> None:
        self.dispatcher = dispatcher_in(
            reactor, agent=AGENT, name_prefix=f"s{number}w", **{"workers": 1, **pool}
        )
        agent = Agent(load_dialect("kiro-classic"), "chosen", "/bin/kiro", (), {})
        self.connection = Connection(database)
        self.connection.server = number
        self.ended: list[Job] = []
        self.events = Events()
        self.holds_lease = True
        self.runner = ClusterRunner(
            reactor,
            reactor.seconds,
            AgentGroups([AgentGroup(agent, self.dispatcher)]),
            builtin_tasks(),
            cast(JobStore, self.connection),
            self.connection,
            UNLIMITED,
            self.ended.append,
            self.events,
            lambda: self.holds_lease,
            lambda: QueuedJobs(4, 2.5),
        )
        self.hears = True
        database.on_notification.append(self.notify)
        self.dispatcher.startService()
        reactor.advance(0)
        self.runner.startService()
        reactor.advance(0)

    def notify(self, topic: str, argument: str) -> None:
        if self.hears:
            {"queued": self.runner.on_queued, "cancelled": self.runner.on_cancelled}[topic](
                argument
            )


class RunnerTestCase(SynchronousTestCase):
    """
    Hold a database, and servers that share it.
    """

    def setUp(self) -> None:
        self.reply: Callable[[str], str | None] = fakekiro.answer_text
        self.reactor = MemoryReactor(lambda: MemoryKiro(lambda prompt: self.reply(prompt)))
        self.reactor.advance(1000)
        self.database = Database(self.reactor)
        self.servers = 0

    def server(self, **pool: Any) -> Server:
        """
        Return another server, which has started.
        """
        self.servers += 1
        return Server(self.reactor, self.database, self.servers, **pool)

    def accept(self, server: Server, idea: str = "An idea", **fields: Any) -> str:
        """
        Accept a job on `server`, and return its id.
        """
        job = new_job("", payload={"idea": idea}, **{"agent": AGENT, **fields})
        accepted, is_new = self.successResultOf(Deferred.fromCoroutine(server.runner.accept(job)))
        self.assertTrue(is_new)
        self.reactor.pump([0] * 5)
        return accepted.id

    def add(self, id: str, **fields: Any) -> JobRow:
        """
        Put a queued job into the database, of which nobody is notified.
        """
        job = new_job(id, **{"agent": AGENT, **fields})
        row = self.database.jobs[id] = JobRow(job, job.created)
        return row

    def busy(self) -> None:
        """
        Let turns that start from now on take for ever.
        """
        self.reply = lambda prompt: None

    def row(self, id: str) -> JobRow:
        return self.database.jobs[id]

    def state(self, id: str) -> str:
        return self.row(id).job.state

    def states(self, *ids: str) -> list[str]:
        return [self.state(id) for id in ids]


class ClaimTests(RunnerTestCase):
    """
    Tests for when jobs are claimed.
    """

    def test_done(self) -> None:
        """
        A job is claimed at once by a server with an idle session, and ends with its answer.
        """
        server = self.server()
        id = self.accept(server)
        job = self.row(id).job
        self.assertEqual((job.state, job.attempts), ("done", 1))
        [ended] = server.ended
        assert isinstance(ended.result, JobAnswer)
        self.assertEqual((ended.id, ended.result.value["title"]), (id, "An idea"))
        self.assertEqual(server.events.of(id), ["begin 1", "Started", "complete", "end"])

    def test_elsewhere(self) -> None:
        """
        A job that one server accepts while its sessions are busy runs on another one.
        """
        first = self.server()
        self.busy()
        self.accept(first)
        second = self.server()
        id = self.accept(first)
        self.reactor.advance(0.05)
        self.assertEqual((self.state(id), self.row(id).owner), ("running", 2))
        self.assertIn("Started", second.events.of(id))

    def test_no_more_than_idle(self) -> None:
        """
        A server claims no more jobs than it has idle sessions, and the next one when a session
        is idle again.
        """
        server = self.server(workers=2)
        self.busy()
        ids = [self.accept(server) for _ in range(3)]
        self.assertEqual(self.states(*ids), ["running", "running", "queued"])
        program = self.reactor.programs[0]
        program.say(fakekiro.answer_text(program.typed[-1]) or "")
        self.reactor.pump([0.5] * 10)
        self.assertEqual(sorted(self.states(*ids)), ["done", "running", "running"])

    def test_several_at_once(self) -> None:
        """
        Sessions that are idle together get their jobs with one statement.
        """
        self.busy()
        ids = [f"{number}" for number in range(5)]
        for id in ids:
            self.add(id)
        server = self.server(workers=3)
        self.reactor.pump([0] * 5)
        self.assertEqual(self.states(*ids), ["running"] * 3 + ["queued"] * 2)
        self.assertEqual(server.connection.statements, ["claim"])

    def test_busy_with_requests(self) -> None:
        """
        No job is claimed for a session that a live request has, or that one waits for.
        """
        server = self.server()
        self.busy()
        server.dispatcher.submit("live", RequestOptions())
        server.dispatcher.submit("waits", RequestOptions())
        id = self.accept(server)
        self.assertEqual(self.state(id), "queued")
        self.assertNotIn("claim", server.connection.statements[1:])

    def test_lost_race(self) -> None:
        """
        A job whose session was given to a live request while it was claimed is given back, as
        if nobody had claimed it, and another server gets it.
        """
        first = self.server()
        self.busy()
        first.connection.held = []
        self.add("1")
        first.runner.wake()
        self.reactor.advance(0)
        first.dispatcher.submit("live", RequestOptions())
        first.connection.run_held()
        self.reactor.advance(0)
        row = self.row("1")
        self.assertEqual((row.job.state, row.job.attempts, row.failures), ("queued", 0, 0))
        self.assertEqual(row.sort_key, float("-inf"))
        self.assertEqual(first.events.of("1"), ["begin 1", "release"])
        self.server()
        self.reactor.pump([0] * 3)
        self.assertEqual((row.job.state, row.owner), ("running", 2))

    def test_refused(self) -> None:
        """
        A job that a pool refuses is given back unasked, and this server alone gives the agent no
        more jobs for as long as the pool says.
        """
        first = self.server()

        def submit(*arguments: object) -> None:
            raise NoWorkerFree(7, 0, 0, "All workers busy")

        self.patch(first.dispatcher, "submit", submit)
        self.add("1")
        first.runner.wake()
        self.reactor.pump([0] * 5)
        row = self.row("1")
        self.assertEqual((row.job.state, row.job.attempts, row.failures), ("queued", 0, 0))
        self.assertEqual(row.sort_key, float("-inf"))
        self.assertEqual(first.connection.statements.count("claim"), 2)
        first.runner.on_queued(AGENT)
        self.reactor.pump([0] * 3)
        self.assertEqual(first.connection.statements.count("claim"), 2)
        self.reactor.pump([1] * 7)
        self.assertEqual(first.connection.statements.count("claim"), 3)
        self.server()
        self.reactor.pump([0] * 3)
        self.assertEqual(row.job.state, "done")

    def test_outage_ends_early(self) -> None:
        """
        The pause of an agent whose outage is over earlier than was thought ends with it.
        """
        server = self.server()
        breaker = server.dispatcher.worker_pool.circuit_breaker
        failure = AgentFailure(FailureKind.THROTTLED, "Slow down", 200)
        self.patch(server.dispatcher, "idle_slots", lambda: 1)
        server.dispatcher.worker_pool.record_failure(failure)
        self.add("1")
        server.runner.wake()
        self.reactor.pump([1] * 3)
        self.assertEqual((self.state("1"), self.row("1").job.attempts), ("queued", 0))
        breaker.close()
        self.reactor.pump([1] * 3)
        self.assertEqual(self.state("1"), "done")

    def test_no_lease(self) -> None:
        """
        A server that may have lost its lease claims nothing, until a heartbeat wakes it.
        """
        server = self.server()
        server.holds_lease = False
        id = self.accept(server)
        self.assertEqual(self.state(id), "queued")
        server.holds_lease = True
        server.runner.wake()
        self.reactor.pump([0] * 3)
        self.assertEqual(self.state(id), "done")

    def test_late_response(self) -> None:
        """
        A job that a server has claimed, but of which it learns only after it may have lost its
        lease, is not asked: another server may have answered it meanwhile.
        """
        first = self.server()
        first.connection.is_late, first.connection.held = True, []
        self.add("1")
        first.runner.wake()
        self.reactor.advance(0)
        row = self.row("1")
        row.job = evolve(row.job, state="queued")
        self.server()
        self.reactor.pump([1] * 3)
        self.assertEqual((row.job.state, row.claims), ("done", 2))
        first.holds_lease = False
        first.connection.run_held()
        self.reactor.pump([1] * 3)
        self.assertEqual(first.events.of("1"), ["begin 1", "release"])
        self.assertEqual((row.job.state, row.claims, row.job.attempts), ("done", 2, 2))

    def test_lease_lost_before_asking(self) -> None:
        """
        A job whose input is still checked when the lease may have passed is given back unasked.
        """
        server = self.server()
        checked: Deferred[Any] = Deferred()

        async def check(*arguments: Any) -> Any:
            await checked
            return arguments[1], arguments[2]

        self.patch(attempts, "accept", check)
        self.add("1")
        server.runner.wake()
        self.reactor.advance(0)
        server.holds_lease = False
        checked.callback(None)
        self.reactor.pump([0] * 3)
        row = self.row("1")
        self.assertEqual((row.job.state, row.job.attempts, row.failures), ("queued", 0, 0))

    def test_missed_notification(self) -> None:
        """
        A job of which no server was notified is found at the next heartbeat.
        """
        server = self.server()
        server.hears = False
        self.add("1")
        self.reactor.pump([1] * 3)
        self.assertEqual(self.state("1"), "queued")
        server.runner.wake()
        self.reactor.pump([0] * 3)
        self.assertEqual(self.state("1"), "done")

    def test_idle_costs_nothing(self) -> None:
        """
        Sessions that become idle ask the database for jobs only if some may wait.
        """
        server = self.server()
        claims = server.connection.statements.count("claim")
        self.reply = lambda prompt: "Hello"
        for _ in range(3):
            request = server.dispatcher.submit("live", RequestOptions())
            self.reactor.pump([0.1] * 5)
            self.successResultOf(request.reply)
            server.dispatcher.end(request)
            self.reactor.pump([0.1] * 5)
        self.assertEqual(server.connection.statements.count("claim"), claims)

    def test_too_late(self) -> None:
        """
        A server that is always too late for the jobs of which it is notified asks at most twenty
        times a second, finds a job that is left for it soon, and its own jobs at once.
        """
        server = self.server()
        statements = server.connection.statements
        for _ in range(100):
            server.runner.on_queued(AGENT)
            self.reactor.advance(0.01)
        self.assertLess(statements.count("claim"), 26)
        self.add("1")
        server.runner.on_queued(AGENT)
        self.reactor.pump([0.01] * 5)
        self.assertEqual(self.state("1"), "done")
        self.reactor.pump([0.01] * 100)
        for _ in range(9):
            server.runner.on_queued(AGENT)
            self.reactor.pump([0.01] * 6)
        self.assertEqual(self.state(self.accept(server)), "done")

    def test_arrives_during_claim(self) -> None:
        """
        A job that arrives while the server claims, too late for that claim, is not forgotten.
        """
        server = self.server()
        server.connection.held = []
        server.runner.wake()
        self.reactor.advance(0)
        [(waiting, _)], server.connection.held = server.connection.held, None
        id = self.accept(server)
        self.assertEqual(self.state(id), "queued")
        waiting.callback([])
        self.reactor.pump([0.01] * 5)
        self.assertEqual(self.state(id), "done")

    def test_claim_fails(self) -> None:
        """
        A claim that fails is made again after the next heartbeat.
        """
        server = self.server()
        self.add("1")
        server.connection.down = True
        server.runner.on_queued(AGENT)
        self.reactor.pump([1] * 3)
        server.connection.heal()
        server.runner.wake()
        self.reactor.pump([0] * 3)
        self.assertEqual(self.state("1"), "done")

    def test_grows(self) -> None:
        """
        A pool that may have more sessions gets them if jobs wait.
        """
        server = self.server(workers=1, max_workers=3, min_spare=0)
        self.busy()
        ids = [self.accept(server) for _ in range(4)]
        self.reactor.pump([1] * 10)
        self.assertEqual(self.states(*ids), ["running"] * 3 + ["queued"])

    def test_grows_for_backlog(self) -> None:
        """
        A pool also gets them for jobs that have waited since before the server started.
        """
        self.busy()
        ids = [f"{number}" for number in range(9)]
        for id in ids:
            self.add(id)
        self.server(workers=1, max_workers=4, min_spare=0)
        self.reactor.pump([1] * 10)
        self.assertEqual(self.states(*ids), ["running"] * 4 + ["queued"] * 5)

    def test_paused_by_operator(self) -> None:
        """
        A paused pool gets no jobs, and gets them again when it is resumed.
        """
        server = self.server()
        server.dispatcher.pause()
        id = self.accept(server)
        self.assertEqual(self.state(id), "queued")
        server.dispatcher.resume()
        self.reactor.pump([0] * 3)
        self.assertEqual(self.state(id), "done")

    def test_unknown_agent(self) -> None:
        """
        A job of an agent that only other servers run is left to them.
        """
        server = self.server()
        id = self.accept(server, agent="other")
        self.assertEqual(self.state(id), "queued")

    def test_counts(self) -> None:
        """
        The counts are those of all queues, and of the jobs that run here.
        """
        server = self.server()
        self.busy()
        self.accept(server)
        self.assertEqual(server.runner.counts(), JobCounts(4, 1, 2.5))


class EndTests(RunnerTestCase):
    """
    Tests for how claimed jobs end.
    """

    def test_cancelled_here(self) -> None:
        """
        A job that is cancelled where it runs is interrupted, and its end is reported once.
        """
        server = self.server()
        self.busy()
        id = self.accept(server)
        cancelled = self.successResultOf(server.runner.cancel(self.row(id).job))
        assert cancelled is not None
        self.assertEqual((cancelled.state, self.state(id)), ("cancelled", "cancelled"))
        self.assertEqual([*server.dispatcher.requests()], [])
        self.assertEqual([job.id for job in server.ended], [id])
        self.assertEqual(server.events.of(id)[2:], ["forget", "end"])
        self.assertEqual(server.runner.held().claims, {})

    def test_cancelled_elsewhere(self) -> None:
        """
        A job that is cancelled on another server is interrupted where it runs, and the server
        that cancelled it reports the end.
        """
        first, second = self.server(), self.server()
        self.busy()
        id = self.accept(first)
        self.successResultOf(second.runner.cancel(self.row(id).job))
        self.assertEqual([*first.dispatcher.requests()], [])
        self.assertEqual((first.ended, [job.id for job in second.ended]), ([], [id]))
        self.assertEqual(first.events.of(id)[2:], ["forget"])
        self.reactor.pump([1] * 5)
        self.assertEqual(first.connection.statements.count("release"), 0)

    def test_cancelled_unheard(self) -> None:
        """
        A job that was cancelled elsewhere without this server's knowledge is aborted after the
        next heartbeat, and its result would be refused.
        """
        first, second = self.server(), self.server()
        self.busy()
        id = self.accept(first)
        first.hears = False
        self.successResultOf(second.runner.cancel(self.row(id).job))
        self.assertEqual(len([*first.dispatcher.requests()]), 1)
        first.runner.lost([id])
        self.assertEqual([*first.dispatcher.requests()], [])

    def test_begun_elsewhere(self) -> None:
        """
        The late result of a job that another server has begun anew changes nothing.
        """
        server = self.server()
        self.busy()
        id = self.accept(server)
        row = self.row(id)
        row.claims, row.owner = 2, 7
        [program] = self.reactor.programs
        program.say(fakekiro.answer_text(program.typed[-1]) or "")
        self.reactor.pump([1] * 3)
        self.assertEqual((row.job.state, row.owner, server.ended), ("running", 7, []))
        self.assertEqual(server.events.of(id)[-2:], ["complete", "forget"])

    def test_swept(self) -> None:
        """
        The late result of a job that was queued again, and that nobody has begun anew, is kept.
        """
        server = self.server()
        self.busy()
        id = self.accept(server)
        row = self.row(id)
        row.job = evolve(row.job, state="queued")
        [program] = self.reactor.programs
        program.say(fakekiro.answer_text(program.typed[-1]) or "")
        self.reactor.pump([0] * 3)
        self.assertEqual((row.job.state, [job.id for job in server.ended]), ("done", [id]))

    def test_kept(self) -> None:
        """
        A result that cannot be stored is kept until it can be, and the job stays this server's;
        meanwhile no other one is claimed.
        """
        server = self.server()
        self.busy()
        id = self.accept(server)
        server.connection.down = True
        [program] = self.reactor.programs
        program.say(fakekiro.answer_text(program.typed[-1]) or "")
        self.reactor.pump([1] * 20)
        self.assertEqual((self.state(id), server.ended), ("running", []))
        self.assertEqual(server.runner.held().claims, {id: 1})
        self.add("2")
        server.runner.wake()
        self.reactor.pump([1] * 3)
        server.connection.heal()
        self.assertEqual((self.state(id), [job.id for job in server.ended]), ("done", [id]))
        self.assertEqual(self.state("2"), "queued")

    def test_lost_while_stored(self) -> None:
        """
        A job whose end is being stored is not aborted: what is stored finds out itself.
        """
        server = self.server()
        self.busy()
        id = self.accept(server)
        server.connection.held = []
        [program] = self.reactor.programs
        program.say(fakekiro.answer_text(program.typed[-1]) or "")
        self.reactor.pump([0] * 3)
        server.runner.lost([id])
        server.connection.run_held()
        self.assertEqual((self.state(id), [job.id for job in server.ended]), ("done", [id]))
        self.assertNotIn("forget", server.events.of(id))

    def test_fails_each_time(self) -> None:
        """
        A job whose turn always fails in a way that may be its own fault is not asked for ever,
        also if each time another server asks.
        """
        self.busy()
        first, second = self.server(), self.server()
        row = self.add("1", payload={"idea": "What does ThrottlingException mean?"})
        owners = []
        for number in range(1, 11):
            first.runner.wake()
            second.runner.wake()
            self.reactor.pump([1] * 61)
            self.assertEqual((row.job.state, row.job.attempts), ("running", number))
            owners.append(row.owner)
            program = self.reactor.programs[(row.owner or 0) - 1]
            program.print(f"{classic.SPINNER_GONE}ThrottlingException\n\n")
            program.show_prompt()
            self.reactor.advance(0)
        self.assertEqual({*owners}, {1, 2})
        job = self.row("1").job
        assert isinstance(job.result, JobFailure), job
        self.assertEqual((job.state, job.attempts, job.result.code), ("failed", 10, "throttled"))

    def test_lost_servers(self) -> None:
        """
        A job that was running when so many servers died fails without being asked once more.
        """
        row = self.add("1", attempts=10)
        row.failures = 10
        server = self.server()
        self.reactor.pump([0] * 3)
        assert isinstance(row.job.result, JobFailure)
        self.assertEqual((row.job.state, row.job.attempts), ("failed", 10))
        self.assertEqual(row.job.result.code, "session_lost")
        self.assertNotIn("Started", server.events.of("1"))

    def test_many_attempts(self) -> None:
        """
        A job that was asked often, but did not fail by itself, is asked again.
        """
        row = self.add("1", attempts=30)
        self.server()
        self.reactor.pump([0] * 3)
        self.assertEqual((row.job.state, row.job.attempts), ("done", 31))


class StopTests(RunnerTestCase):
    """
    Tests for how a runner stops.
    """

    def test_drains(self) -> None:
        """
        A server that is about to stop accepts and claims no jobs, and finishes those that run.
        """
        server = self.server()
        self.busy()
        id = self.accept(server)
        server.runner.stop_dispatch()
        refused = Deferred.fromCoroutine(server.runner.accept(new_job("", agent=AGENT)))
        self.failureResultOf(refused, ShuttingDown)
        self.add("2")
        server.runner.on_queued(AGENT)
        [program] = self.reactor.programs
        program.say(fakekiro.answer_text(program.typed[-1]) or "")
        self.reactor.pump([0] * 5)
        self.assertEqual(self.states(id, "2"), ["done", "queued"])

    def test_gives_back(self) -> None:
        """
        Jobs that still run when the server stops are given back, before others of their clients,
        and another server begins them anew.
        """
        server = self.server()
        self.busy()
        id = self.accept(server)
        self.assertIsNone(server.runner.stopService())
        row = self.row(id)
        self.assertEqual((row.job.state, row.job.attempts, row.failures), ("queued", 1, 0))
        self.assertEqual(row.sort_key, float("-inf"))
        self.assertEqual(server.runner.held().claims, {})
        self.server()
        self.reactor.pump([0] * 3)
        self.assertEqual((row.job.state, row.claims), ("running", 2))

    def test_stops_during_claim(self) -> None:
        """
        Jobs that a stopping server has just claimed are given back before it has stopped.
        """
        server = self.server()
        self.add("1")
        server.connection.held = []
        server.runner.wake()
        self.reactor.advance(0)
        stopped = server.runner.stopService()
        assert stopped is not None
        self.assertNoResult(stopped)
        server.connection.run_held()
        self.successResultOf(stopped)
        row = self.row("1")
        self.assertEqual((row.job.state, row.job.attempts, row.claims), ("queued", 0, 1))

    def test_hung_up(self) -> None:
        """
        A job whose client disconnects before it was acknowledged does not run.
        """
        server = self.server()
        server.connection.held = []
        job = new_job("", agent=AGENT)
        accepted = Deferred.fromCoroutine(server.runner.accept(job))
        accepted.cancel()
        self.failureResultOf(accepted, CancelledError)
        server.connection.run_held()
        self.assertEqual(self.database.jobs, {})

    def test_unavailable(self) -> None:
        """
        No job is accepted while the database fails.
        """
        server = self.server()
        server.connection.down = True
        refused = Deferred.fromCoroutine(server.runner.accept(new_job("", agent=AGENT)))
        self.failureResultOf(refused, StorageUnavailable)


class HeldTests(RunnerTestCase):
    """
    Tests for what a runner says that it has.
    """

    def test_complete(self) -> None:
        """
        What a server has is not known for certain while it claims or gives back.
        """
        server = self.server()
        self.assertTrue(server.runner.held().complete)
        server.connection.held = []
        server.runner.wake()
        self.reactor.advance(0)
        self.assertFalse(server.runner.held().complete)
        server.connection.run_held()
        self.assertTrue(server.runner.held().complete)
        self.busy()
        id = self.accept(server)
        self.assertEqual((server.runner.held().claims, server.runner.held().complete),
                         ({id: 1}, True))  # fmt: skip
        server.connection.held = []
        server.runner.requeue_running()
        self.assertEqual((server.runner.held().claims, server.runner.held().complete),
                         ({}, False))  # fmt: skip
        server.connection.run_held()
        self.assertTrue(server.runner.held().complete)
