"""
Tests for `kiroworkers.jobs.runner`, `idempotency` and `retention`, on a pool in memory.
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
from kiroworkers.errors import (
    DeadlineUnachievable,
    ErrorCode,
    FailureKind,
    IdempotencyKeyMismatch,
    ShuttingDown,
    TooManyJobs,
)
from kiroworkers.jobs.idempotency import IdempotencyCache
from kiroworkers.jobs.job import Job, JobAnswer, JobFailure
from kiroworkers.jobs.retention import Retention
from kiroworkers.jobs.runner import JobRunner
from kiroworkers.jobs.store import JobStore
from kiroworkers.jobs.stored_response import IdempotencyKey, StoredResponse
from kiroworkers.pool.agent_groups import AgentGroup, AgentGroups
from kiroworkers.pool.progress import OnProgress, Progress, Retrying
from kiroworkers.tasks import builtin_tasks
from kiroworkers.testing import MemoryKiro, MemoryReactor
from tests import fakekiro
from tests.jobs.support import new_job
from tests.memory import dispatcher_in


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
        Start a server, with the jobs of the last one.
        """
        self.reactor = MemoryReactor(lambda: MemoryKiro(lambda prompt: self.reply(prompt)))
        self.dispatcher = dispatcher_in(self.reactor, workers=1, backlog=1)
        agent = Agent(load_dialect("kiro-classic"), "chosen", "/bin/kiro", (), {})
        self.store = JobStore()
        self.store.open(self.file)
        self.addCleanup(self.store.close)
        self.runner = JobRunner(
            self.reactor,
            AgentGroups([AgentGroup(agent, self.dispatcher)]),
            builtin_tasks(),
            self.store,
            3,
            self.ended.append,
        )
        self.dispatcher.startService()
        self.reactor.advance(0)
        self.runner.startService()
        self.reactor.advance(0)

    def accept(self, idea: str, **fields: Any) -> str:
        """
        Accept a job and return its id; if it is the only one, it has started.
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

    def answer(self, job: Job) -> JobAnswer:
        assert isinstance(job.result, JobAnswer), job
        return job.result

    def failure(self, job: Job) -> JobFailure:
        assert isinstance(job.result, JobFailure), job
        return job.result

    def busy(self) -> None:
        """
        Let turns that start from now on take for ever.
        """
        self.reply = lambda prompt: None

    def refuse(self, problem: Exception) -> None:
        """
        Let the pool refuse every request with `problem`.
        """

        def submit(*arguments: object) -> None:
            raise problem

        self.patch(self.dispatcher, "submit", submit)

    def test_done(self) -> None:
        """
        A job runs, and ends with its answer and how that came about.
        """
        job = self.job(self.accept("An idea"))
        self.assertEqual((job.state, job.attempts), ("done", 1))
        answer = self.answer(job)
        self.assertEqual((answer.value["title"], answer.worker), ("An idea", "worker1"))
        self.assertEqual((answer.attempts, answer.repairs, answer.seconds), (1, 0, 0.0))
        self.assertEqual(self.ended, [job])
        self.assertNotEqual(self.accept("x"), self.accept("x"))

    def test_start_not_recorded(self) -> None:
        """
        A job whose start cannot be recorded, because the disk is full, gets its answer.
        """

        def fail(id: str) -> None:
            raise OperationalError("database or disk is full")

        self.patch(self.store, "mark_started", fail)
        job = self.job(self.accept("An idea"))
        self.assertEqual((job.state, [*self.dispatcher.requests()]), ("done", []))
        self.assertEqual(len(self.flushLoggedErrors(OperationalError)), 1)

    def test_failed(self) -> None:
        """
        A job without a valid answer fails, with the reasons and where to look for them.
        """
        self.reply = lambda prompt: "I would rather not."
        job = self.job(self.accept("An idea"))
        failure = self.failure(job)
        self.assertEqual((job.state, failure.code), ("failed", "answer_unfit"))
        self.assertEqual(set(failure.details), {"reasons", "worker", "request"})
        self.assertTrue(failure.message.endswith(failure.details["reasons"][-1]))

    def test_bug(self) -> None:
        """
        A job fails if the server does, and the failure says nothing of the bug.
        """
        self.refuse(ZeroDivisionError("a secret"))
        job = self.job(self.accept("An idea"))
        expected = JobFailure(ErrorCode.FAULT, "Internal server error")
        self.assertEqual((job.state, job.result), ("failed", expected))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_in_turn(self) -> None:
        """
        As many jobs run as the pool has workers; the others wait, and start by fair share
        and priority.
        """
        self.busy()
        first = self.accept("first", priority=0)
        waiting = [
            self.accept("second", priority=0),
            self.accept("of another", client="bob", priority=0),
        ]
        self.assertEqual(len([*self.dispatcher.requests()]), 1)
        self.assertEqual([self.job(id).state for id in (first, *waiting)],
                         ["running", "queued", "queued"])  # fmt: skip
        self.reply = fakekiro.answer_text
        self.runner.cancel(self.job(first))
        self.reactor.pump([1] * 10)
        self.assertEqual([job.id for job in self.ended], [first, waiting[1], waiting[0]])
        self.assertEqual([job.state for job in self.ended], ["cancelled", "done", "done"])

    def test_cancelled_while_waiting(self) -> None:
        """
        A job that is cancelled while it waits never runs.
        """
        self.busy()
        self.accept("first")
        second = self.accept("second")
        self.runner.cancel(self.job(second))
        self.assertEqual(self.job(second).state, "cancelled")
        self.assertEqual(self.job(second).attempts, 0)

    def test_bounded(self) -> None:
        """
        The number of unfinished jobs is limited.
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
        A job that the pool rejects temporarily, because its queue is full or the agent
        has an outage, waits and runs later.
        """
        self.dispatcher.worker_pool.record_failure(
            AgentFailure(FailureKind.THROTTLED, "slow down", 20)
        )
        id = self.accept("An idea")
        self.assertEqual((self.job(id).state, self.job(id).attempts), ("queued", 0))
        self.reactor.pump([1] * 19)
        self.assertEqual(self.job(id).state, "queued")
        self.reactor.pump([1] * 10)
        self.assertEqual(self.job(id).state, "done")

    def test_stopping(self) -> None:
        """
        A runner that is stopping accepts and starts no job; the next one runs what it
        finds unfinished.
        """
        self.busy()
        first, second = self.accept("first"), self.accept("second")
        self.runner.stop_dispatch()
        with self.assertRaises(ShuttingDown):
            self.accept("third")
        self.assertEqual(self.job(first).state, "running")
        self.runner.stopService()
        self.reactor.advance(0)
        self.assertEqual([self.job(id).state for id in (first, second)], ["queued"] * 2)
        self.reply = fakekiro.answer_text
        self.begin()
        self.reactor.pump([0] * 10)
        self.assertEqual([(job.id, job.attempts) for job in self.ended],
                         [(first, 2), (second, 1)])  # fmt: skip

    def test_finishes_while_stopping(self) -> None:
        """
        A job that runs when the server begins to stop is still finished.
        """
        self.busy()
        id = self.accept("An idea")
        self.runner.stop_dispatch()
        [program] = self.reactor.programs
        program.say(fakekiro.answer_text(program.typed[-1]) or "")
        self.reactor.advance(0)
        self.assertEqual(self.job(id).state, "done")

    def test_given_up(self) -> None:
        """
        A job that was running when ten servers ended fails, and so does one for an agent
        that is no longer there.
        """
        self.store.add(new_job("poison", agent=self.pool_name))
        self.store.add(new_job("orphan", agent="gone"))
        for _ in range(10):
            self.store.mark_started("poison")
        self.begin()
        self.reactor.advance(0)
        self.assertEqual([job.state for job in self.ended], ["failed", "failed"])
        failures = [self.failure(job) for job in self.ended]
        self.assertEqual([failure.code for failure in failures], ["session_lost", "invalid_input"])
        self.assertEqual(failures[1].details, {"field": "agent"})

    def test_unknown_task(self) -> None:
        """
        A job for a task that no longer exists fails.
        """
        job = self.job(self.accept("x", task="write-poem"))
        self.assertEqual((job.state, self.failure(job).code), ("failed", "unknown_task"))

    def test_cannot_meet_deadline(self) -> None:
        """
        A job with a deadline that cannot be met fails, and says when to try again.
        """
        problem = DeadlineUnachievable(2.0, 3.5, 4)
        self.refuse(problem)
        job = self.job(self.accept("x", timeout=2.0))
        expected = JobFailure(ErrorCode.NO_TIME_LEFT, str(problem), retry_after=4)
        self.assertEqual((job.state, job.result), ("failed", expected))


class IdempotencyCacheTests(SynchronousTestCase):
    """
    Tests for `IdempotencyCache`.
    """

    key = IdempotencyKey("ann", "generate-story", "k1")

    def setUp(self) -> None:
        self.store = JobStore()
        self.store.open(None)
        self.addCleanup(self.store.close)
        self.cache = IdempotencyCache(Clock(), self.store)
        self.turns: list[Deferred[StoredResponse]] = []
        self.on_progress: OnProgress | None

    async def turn(self, on_progress: OnProgress | None) -> StoredResponse:
        self.on_progress = on_progress
        self.turns.append(Deferred())
        return await self.turns[-1]

    def ask(
        self, fingerprint: str = "print", on_progress: OnProgress = lambda _: None
    ) -> Deferred[tuple[StoredResponse, bool]]:
        return Deferred.fromCoroutine(self.cache.run(self.key, fingerprint, self.turn, on_progress))

    def test_shared(self) -> None:
        """
        Requests that come while the first one runs share its turn and its progress; later
        ones get the same response.
        """
        progress: list[list[Progress]] = [[], []]
        waiting = [self.ask(on_progress=steps.append) for steps in progress]
        assert self.on_progress is not None
        self.on_progress(Retrying("x", "new_conversation"))
        self.assertEqual(progress, [[Retrying("x", "new_conversation")]] * 2)
        response = StoredResponse(200, {"title": "x"}, {"Worker": "worker1"}, cacheable=True)
        self.turns[0].callback(response)
        results = [self.successResultOf(waiter) for waiter in (*waiting, self.ask())]
        self.assertEqual(results, [(response, False), (response, True), (response, True)])
        self.assertEqual(len(self.turns), 1)

    def test_mismatch(self) -> None:
        """
        Another request under the same key is rejected, while the first one runs and
        afterwards.
        """
        self.ask()
        self.failureResultOf(self.ask("another"), IdempotencyKeyMismatch)
        self.turns[0].callback(StoredResponse(200, {}, cacheable=True))
        self.failureResultOf(self.ask("another"), IdempotencyKeyMismatch)
        with self.assertRaises(IdempotencyKeyMismatch):
            self.cache.find_job(self.key, "another")

    def test_not_cacheable(self) -> None:
        """
        A response that is not cacheable goes to all that wait, but not to later requests.
        """
        waiting = [self.ask(), self.ask()]
        self.turns[0].callback(StoredResponse(503, {}))
        self.assertEqual([self.successResultOf(waiter)[0].status for waiter in waiting], [503, 503])
        self.ask("another")
        self.assertEqual(len(self.turns), 2)

    def test_given_up(self) -> None:
        """
        The execution is cancelled when the last request that waits for it is, and not
        before; the next request starts another one.
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
        A response that cannot be saved is still given, and the failure is logged.
        """
        waiting = self.ask()
        self.store.close()
        self.turns[0].callback(StoredResponse(200, {}, cacheable=True))
        self.assertEqual(self.successResultOf(waiting)[0].status, 200)
        self.assertEqual(len(self.flushLoggedErrors(AssertionError)), 1)

    def test_fault(self) -> None:
        """
        An unexpected failure goes to all that wait.
        """
        waiting = [self.ask(), self.ask()]
        self.turns[0].errback(ZeroDivisionError())
        for waiter in waiting:
            self.failureResultOf(waiter, ZeroDivisionError)


class RetentionTests(SynchronousTestCase):
    """
    Tests for `Retention`.
    """

    def test_forgets(self) -> None:
        """
        A response stays for its time to live and is deleted soon after; until then the
        store is not queried.
        """
        clock, store = Clock(), JobStore()
        store.open(None)
        self.addCleanup(store.close)
        retention = Retention(clock, store, 60.0)
        retention.startService()
        key = IdempotencyKey("ann", "generate-story", "k1")
        clock.advance(10)
        store.save_response(key, "print", StoredResponse(200, {}), clock.seconds())
        store.save_response(
            evolve(key, key="k2"), "print", StoredResponse(200, {}), clock.seconds() + 30
        )
        clock.advance(59)
        self.assertIsNotNone(store.find_record(key))
        clock.pump([1] * 10)
        self.assertIsNone(store.find_record(key))
        self.assertIsNotNone(store.find_record(evolve(key, key="k2")))
        [timer] = clock.getDelayedCalls()
        self.assertEqual(timer.getTime(), 101)
        retention.stopService()
        self.assertEqual(clock.getDelayedCalls(), [])
