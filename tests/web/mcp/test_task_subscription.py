"""
Tests for `kiroworkers.web.mcp.task_subscription`.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.jobs.job import Job, JobAnswer, JobState
from kiroworkers.jobs.job_events import JobEvents
from kiroworkers.jobs.sqlite_store import SqliteStore
from kiroworkers.pool.progress import AgentNotice, PartialText, Started
from kiroworkers.web.mcp.task_subscription import TaskSubscription
from tests.jobs.support import UNLIMITED, HeldExecutor, InlineExecutor, new_job


class TaskSubscriptionTests(SynchronousTestCase):
    """
    Tests for `TaskSubscription`, on a store in memory.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.executor = InlineExecutor()
        self.store = SqliteStore(self.clock, self.clock.seconds, self.executor)
        self.store.open(None)
        self.addCleanup(self.store.close)
        self.events = JobEvents(self.clock)
        self.sent: list[Job] = []

    def add(self, id: str = "a") -> None:
        self.successResultOf(self.store.add(new_job(id), UNLIMITED))

    def start(self, id: str = "a", attempts: int = 1) -> None:
        """
        Start a job, as the runner does.
        """
        self.store.mark_started(id, attempts)
        self.events.report(id, Started("worker1", 1))

    def end(self, id: str = "a", state: JobState = "done", result: Any = None) -> None:
        """
        End a job, as the runner does.
        """
        if state == "cancelled":
            ending = self.store.cancel(id, 5.0)
        else:
            ending = self.store.mark_ended(id, state, result or JobAnswer({"title": id}), 5.0)

        def note(job: Job | None) -> None:
            assert job is not None
            self.events.end(job)

        ending.addCallback(note)

    def subscribe(
        self, *ids: str, drained: Callable[[], Deferred[None]] = lambda: succeed(None)
    ) -> Deferred[None]:
        subscription = TaskSubscription(self.store, self.events, self.sent.append, drained)
        return Deferred.fromCoroutine(subscription.run(ids))

    def states(self) -> list[tuple[str, str]]:
        return [(job.id, job.state) for job in self.sent]

    def test_states(self) -> None:
        """
        The subscriber gets the present state of a job and each later one, the last one with
        the result; texts and notices change none.
        """
        self.add()
        done = self.subscribe("a")
        self.assertEqual(self.states(), [("a", "queued")])
        self.start()
        self.events.report("a", PartialText("Zoë"))
        self.clock.advance(1)
        self.events.report("a", AgentNotice("stall", "…"))
        self.assertEqual(self.states()[1:], [("a", "running")])
        self.start(attempts=2)
        self.assertEqual(self.sent[-1].attempts, 2)
        self.assertNoResult(done)
        self.end()
        self.successResultOf(done)
        self.assertEqual(self.states()[3:], [("a", "done")])
        self.assertEqual(self.sent[-1].result, JobAnswer({"title": "a"}))

    def test_several(self) -> None:
        """
        The subscription ends when all of its jobs have ended; one that had ended before is sent
        once, and one that was deleted is left out.
        """
        for id in "abc":
            self.add(id)
        self.end("a", "cancelled")
        done = self.subscribe("a", "deleted", "b", "c")
        self.assertEqual(self.states(), [("a", "cancelled"), ("b", "queued"), ("c", "queued")])
        self.end("c")
        self.assertNoResult(done)
        self.end("b", "cancelled")
        self.successResultOf(done)
        self.assertEqual(self.states()[3:], [("c", "done"), ("b", "cancelled")])

    def test_none(self) -> None:
        """
        A subscription to no jobs ends at once.
        """
        self.successResultOf(self.subscribe())

    def test_slow(self) -> None:
        """
        The result of a job is not read before the subscriber has read that of the job before it.
        """
        for id in "ab":
            self.add(id)
            self.end(id)
        reading: list[Deferred[None]] = [Deferred(), Deferred()]
        waiting = iter(reading)
        done = self.subscribe("a", "b", drained=lambda: next(waiting))
        self.assertEqual(self.states(), [("a", "done")])
        reading[0].callback(None)
        self.assertEqual(self.states(), [("a", "done"), ("b", "done")])
        self.assertNoResult(done)
        reading[1].callback(None)
        self.successResultOf(done)

    def test_hang_up(self) -> None:
        """
        Nothing is sent any more, and nothing is kept of a listener, when the subscriber has gone.
        """
        for id in "ab":
            self.add(id)
        done = self.subscribe("a", "b")
        done.cancel()
        self.failureResultOf(done, CancelledError)
        sent = len(self.sent)
        self.start()
        self.end()
        self.end("b")
        self.assertEqual(len(self.sent), sent)

    def test_server_stops(self) -> None:
        """
        The subscription ends when the server stops, without another state.
        """
        self.add()
        done = self.subscribe("a")
        self.events.close()
        self.successResultOf(done)
        self.assertEqual(self.states(), [("a", "queued")])

    def test_storage_fails(self) -> None:
        """
        A state that cannot be read is left out, and the end is still sent.
        """
        self.add()
        done = self.subscribe("a")
        self.executor.error = OSError(28, "No space left on device")
        self.start()
        self.assertEqual(self.states(), [("a", "queued")])
        self.executor.error = None
        self.end()
        self.clock.pump([1] * 5)
        self.successResultOf(done)
        self.assertEqual(self.states()[-1], ("a", "done"))

    def test_races(self) -> None:
        """
        Whatever happens while the store is read, the last state that is sent is the final one,
        once, and no state is sent twice in a row.
        """
        for seed in range(40):
            random, executor = Random(seed), HeldExecutor()
            self.sent, self.events = [], JobEvents(self.clock)
            self.store = SqliteStore(self.clock, self.clock.seconds, executor)
            self.store.open(None)
            self.addCleanup(self.store.close)
            added = self.store.add(new_job("a"), UNLIMITED)
            executor.run()
            self.successResultOf(added)
            done = self.subscribe("a")
            steps: list[Callable[[], None]] = [self.start, self.end]
            while steps or executor.held is not None:
                if executor.held is not None and (not steps or random.random() < 0.5):
                    executor.run()
                else:
                    steps.pop(0)()
                self.clock.advance(0)
            self.successResultOf(done)
            states = self.states()
            self.assertEqual(states[-1], ("a", "done"), seed)
            self.assertEqual(len(set(states)), len(states), (seed, states))
