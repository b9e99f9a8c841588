"""
Tests for `kiroworkers.jobs.runner`, `once` and `retention`, on a pool in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from sqlite3 import OperationalError
from typing import Any

from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.agents import Agent
from kiroworkers.conversations import AgentFailure, load_dialect
from kiroworkers.errors import KeyMismatch, ShuttingDown, TooManyJobs
from kiroworkers.jobs.idempotency import IdempotencyCache
from kiroworkers.jobs.job import IdempotencyKey, Job, StoredResponse
from kiroworkers.jobs.retention import Retention
from kiroworkers.jobs.runner import JobRunner
from kiroworkers.jobs.store import JobStore
from kiroworkers.pool.agent_groups import AgentGroup, AgentGroups
from kiroworkers.pool.progress import OnProgress, Progress, Retrying
from kiroworkers.tasks import builtin_tasks
from kiroworkers.testing import MemoryKiro, MemoryReactor
from kiroworkers.web.errors import error_json
from tests import fakekiro
from tests.jobs.support import new_job
from tests.memory import pool_in


class RunnerTests(SynchronousTestCase):
    """
    Tests for `JobRunner`, with one worker.
    """

    def setUp(self) -> None:
        self.reply: Callable[[str], str | None] = fakekiro.answer_text
        self.file = Path(self.mktemp())
        self.ended: list[Job] = []
        self.begin()

    def begin(self) -> None:
        """
        A server.
        """
        self.reactor = MemoryReactor(lambda: MemoryKiro(lambda prompt: self.reply(prompt)))
        self.pool = pool_in(self.reactor, workers=1, backlog=1)
        agent = Agent(load_dialect("kiro-classic"), "chosen", "/bin/kiro", (), {})
        self.store = JobStore()
        self.store.open(self.file)
        self.addCleanup(self.store.close)
        self.runner = JobRunner(
            self.reactor,
            AgentGroups([AgentGroup(agent, self.pool)]),
            builtin_tasks(),
            self.store,
            lambda problem: StoredResponse(*error_json(problem)),
            3,
            self.ended.append,
        )
        self.pool.startService()
        self.reactor.advance(0)
        self.runner.startService()
        self.reactor.advance(0)

    def accept(self, idea: str, **fields: Any) -> str:
        """
        The id of a new job, whose turn began if it is the first.
        """
        fields = {"agent": self.pool_name, **fields}
        id = self.runner.accept(new_job("", payload={"idea": idea}, **fields)).id
        self.reactor.advance(0)
        return id

    @property
    def pool_name(self) -> str:
        return load_dialect("kiro-classic").name

    def job(self, id: str) -> Job:
        job = self.runner.find(id)
        assert job is not None
        return job

    def busy(self) -> None:
        """
        Whoever is asked from now on takes its time.
        """
        self.reply = lambda prompt: None

    def test_done(self) -> None:
        """
        A job is asked, and has its answer.
        """
        job = self.job(self.accept("An idea"))
        self.assertEqual((job.state, job.attempts), ("done", 1))
        assert job.said is not None
        self.assertEqual((job.said.status, job.said.body["title"]), (200, "An idea"))
        self.assertEqual(self.ended, [job])
        self.assertNotEqual(self.accept("x"), self.accept("x"))

    def test_not_noted(self) -> None:
        """
        That a job began is not noted when the disk is full; it has its answer.
        """

        def fail(id: str) -> None:
            raise OperationalError("database or disk is full")

        self.patch(self.store, "started", fail)
        job = self.job(self.accept("An idea"))
        self.assertEqual((job.state, [*self.pool.requests()]), ("done", []))
        self.assertEqual(len(self.flushLoggedErrors(OperationalError)), 1)

    def test_failed(self) -> None:
        """
        One that gets no answer that fits has failed, for the reason that a client
        would be told.
        """
        self.reply = lambda prompt: "I would rather not."
        job = self.job(self.accept("An idea"))
        assert job.said is not None
        self.assertEqual((job.state, job.said.status), ("failed", 502))
        self.assertEqual(job.said.body["code"], "answer_unfit")

    def test_in_turn(self) -> None:
        """
        The pool is given as many jobs as it has workers; the others wait, and
        their turns come by fair share and priority.
        """
        self.busy()
        first = self.accept("first", priority=0)
        stop_dispatch = [
            self.accept("second", priority=0),
            self.accept("of another", client="bob", priority=0),
        ]
        self.assertEqual(len([*self.pool.requests()]), 1)
        self.assertEqual([self.job(each).state for each in (first, *stop_dispatch)],
                         ["running", "queued", "queued"])  # fmt: skip
        self.reply = fakekiro.answer_text
        self.runner.cancel(self.job(first))
        self.reactor.pump([1] * 10)
        self.assertEqual(
            [each.id for each in self.ended], [first, stop_dispatch[1], stop_dispatch[0]]
        )
        self.assertEqual([each.state for each in self.ended], ["cancelled", "done", "done"])

    def test_cancelled_while_waiting(self) -> None:
        """
        A job that is cancelled before its turn is never asked.
        """
        self.busy()
        self.accept("first")
        second = self.accept("second")
        self.runner.cancel(self.job(second))
        self.assertEqual(self.job(second).state, "cancelled")
        self.assertEqual(self.job(second).attempts, 0)

    def test_bounded(self) -> None:
        """
        Only so many jobs may be unfinished.
        """
        self.busy()
        first = self.accept("1")
        self.accept("2")
        self.accept("3")
        with self.assertRaises(TooManyJobs):
            self.accept("4")
        self.runner.cancel(self.job(first))
        self.accept("4")

    def test_refused_for_now(self) -> None:
        """
        A job that the pool refuses, since its queue is full or the agent cannot
        answer anybody, waits and is asked later.
        """
        self.pool.worker_pool.record_failure(AgentFailure("throttled", "slow down", 20))
        id = self.accept("An idea")
        self.assertEqual((self.job(id).state, self.job(id).attempts), ("queued", 0))
        self.reactor.pump([1] * 19)
        self.assertEqual(self.job(id).state, "queued")
        self.reactor.pump([1] * 10)
        self.assertEqual(self.job(id).state, "done")

    def test_stopping(self) -> None:
        """
        A runner that rests takes no job, and begins none; what the next one finds
        unfinished is asked again.
        """
        self.busy()
        first, second = self.accept("first"), self.accept("second")
        self.runner.stop_dispatch()
        with self.assertRaises(ShuttingDown):
            self.accept("third")
        self.assertEqual(self.job(first).state, "running")
        self.runner.stopService()
        self.reactor.advance(0)
        self.assertEqual([self.job(each).state for each in (first, second)], ["queued"] * 2)
        self.reply = fakekiro.answer_text
        self.begin()
        self.reactor.pump([0] * 10)
        self.assertEqual([(each.id, each.attempts) for each in self.ended],
                         [(first, 2), (second, 1)])  # fmt: skip

    def test_finishes_while_resting(self) -> None:
        """
        A turn that runs when the server is told to stop is still finished.
        """
        self.busy()
        id = self.accept("An idea")
        self.runner.stop_dispatch()
        [program] = self.reactor.programs
        program.say(fakekiro.answer_text(program.typed[-1]) or "")
        self.reactor.advance(0)
        self.assertEqual(self.job(id).state, "done")

    def test_poisonous(self) -> None:
        """
        A job that was running at the ends of ten servers is not asked again; nor
        is one for an agent that serves no more.
        """
        self.store.add(new_job("poison", agent=self.pool_name))
        self.store.add(new_job("orphan", agent="gone"))
        for _ in range(10):
            self.store.started("poison")
        self.begin()
        self.reactor.advance(0)
        self.assertEqual([each.state for each in self.ended], ["failed", "failed"])
        codes = [each.said.body["code"] for each in self.ended if each.said is not None]
        self.assertEqual(codes, ["session_lost", "invalid_input"])

    def test_unknown_task(self) -> None:
        """
        A job for a task that there is no more has failed.
        """
        job = self.job(self.accept("x", task="write-poem"))
        assert job.said is not None
        self.assertEqual((job.state, job.said.status), ("failed", 404))


class OnceTests(SynchronousTestCase):
    """
    Tests for `IdempotencyCache`.
    """

    key = IdempotencyKey("ann", "generate-story", "k1")

    def setUp(self) -> None:
        self.store = JobStore()
        self.store.open(None)
        self.addCleanup(self.store.close)
        self.once = IdempotencyCache(Clock(), self.store)
        self.turns: list[Deferred[StoredResponse]] = []
        self.on_progress: OnProgress | None

    async def turn(self, on_progress: OnProgress | None) -> StoredResponse:
        self.on_progress = on_progress
        self.turns.append(Deferred())
        return await self.turns[-1]

    def ask(
        self, fingerprint: str = "print", on_progress: OnProgress = lambda _: None
    ) -> Deferred[tuple[StoredResponse, bool]]:
        return Deferred.fromCoroutine(self.once.ask(self.key, fingerprint, self.turn, on_progress))

    def test_shared(self) -> None:
        """
        All that ask the same while the first runs share its turn and what is told
        of it; who comes later is given the same.
        """
        told: list[list[Progress]] = [[], []]
        waiting = [self.ask(on_progress=each.append) for each in told]
        assert self.on_progress is not None
        self.on_progress(Retrying("x"))
        self.assertEqual(told, [[Retrying("x")]] * 2)
        said = StoredResponse(200, {"title": "x"}, {"Worker": "worker1"}, cacheable=True)
        self.turns[0].callback(said)
        found = [self.successResultOf(each) for each in (*waiting, self.ask())]
        self.assertEqual(found, [(said, False), (said, True), (said, True)])
        self.assertEqual(len(self.turns), 1)

    def test_mismatch(self) -> None:
        """
        Another request under the same key is refused, while the first runs and
        after it.
        """
        self.ask()
        self.failureResultOf(self.ask("another"), KeyMismatch)
        self.turns[0].callback(StoredResponse(200, {}, cacheable=True))
        self.failureResultOf(self.ask("another"), KeyMismatch)
        with self.assertRaises(KeyMismatch):
            self.once.job(self.key, "another")

    def test_not_kept(self) -> None:
        """
        What cost nothing is told to all that wait, and is asked anew afterwards.
        """
        waiting = [self.ask(), self.ask()]
        self.turns[0].callback(StoredResponse(503, {}))
        self.assertEqual([self.successResultOf(each)[0].status for each in waiting], [503, 503])
        self.ask("another")
        self.assertEqual(len(self.turns), 2)

    def test_given_up(self) -> None:
        """
        The turn is given up when the last that waits for it is gone, and not
        before; who comes then begins anew.
        """
        waiting = [self.ask(), self.ask()]
        waiting[0].cancel()
        self.failureResultOf(waiting[0], CancelledError)
        self.assertFalse(self.turns[0].called)
        waiting[1].cancel()
        self.failureResultOf(waiting[1], CancelledError)
        self.assertTrue(self.turns[0].called)
        again = self.ask()
        self.turns[1].callback(StoredResponse(200, {}))
        self.assertFalse(self.successResultOf(again)[1])

    def test_disk_full(self) -> None:
        """
        An answer that cannot be kept is given, and that is logged.
        """
        waiting = self.ask()
        self.store.close()
        self.turns[0].callback(StoredResponse(200, {}, cacheable=True))
        self.assertEqual(self.successResultOf(waiting)[0].status, 200)
        self.assertEqual(len(self.flushLoggedErrors(AssertionError)), 1)

    def test_fault(self) -> None:
        """
        A fault is everybody's.
        """
        waiting = [self.ask(), self.ask()]
        self.turns[0].errback(ZeroDivisionError())
        for each in waiting:
            self.failureResultOf(each, ZeroDivisionError)


class RetentionTests(SynchronousTestCase):
    """
    Tests for `Retention`.
    """

    def test_forgets(self) -> None:
        """
        What is kept is there for its time, and gone soon after; between, nothing
        is looked for.
        """
        clock, store = Clock(), JobStore()
        store.open(None)
        self.addCleanup(store.close)
        retention = Retention(clock, store, 60.0)
        retention.startService()
        key = IdempotencyKey("ann", "generate-story", "k1")
        clock.advance(10)
        store.keep(key, "print", StoredResponse(200, {}), clock.seconds())
        store.keep(evolve(key, key="k2"), "print", StoredResponse(200, {}), clock.seconds() + 30)
        clock.advance(59)
        self.assertIsNotNone(store.record(key))
        clock.pump([1] * 10)
        self.assertIsNone(store.record(key))
        self.assertIsNotNone(store.record(evolve(key, key="k2")))
        [timer] = clock.getDelayedCalls()
        self.assertEqual(timer.getTime(), 101)
        retention.stopService()
        self.assertEqual(clock.getDelayedCalls(), [])
