"""
Tests for `kiroworkers.jobs.idempotency`.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.errors import IdempotencyKeyMismatch, RequestTimedOut, StorageUnavailable
from kiroworkers.jobs.idempotency import IdempotencyCache
from kiroworkers.jobs.sqlite_store import SqliteStore
from kiroworkers.jobs.stored_response import IdempotencyKey, StoredResponse
from kiroworkers.pool.progress import OnProgress, Progress, Retrying
from tests.jobs.faults import Faults
from tests.jobs.support import UNLIMITED, HeldExecutor, memory_store, new_job

ANSWER = StoredResponse(200, {"title": "x"}, {"Worker": "worker1"}, cacheable=True)
BUSY = StoredResponse(503, {"code": "all_workers_busy"})
TIMED_OUT = StoredResponse(504, {"code": "timed_out"})


class IdempotencyCacheTests(SynchronousTestCase):
    """
    Tests for `IdempotencyCache`.
    """

    key = IdempotencyKey("ann", "generate-story", "k1")

    def setUp(self) -> None:
        self.clock, self.faults = Clock(), Faults()
        self.store = memory_store(self.clock, factory=self.faults.connection)
        self.addCleanup(self.store.close)
        self.cache = IdempotencyCache(self.clock, self.clock.seconds, self.store, 120.0)
        self.turns: list[Deferred[StoredResponse]] = []
        self.on_progress: OnProgress | None

    async def turn(self, on_progress: OnProgress | None) -> StoredResponse:
        self.on_progress = on_progress
        self.turns.append(Deferred())
        return await self.turns[-1]

    def ask(
        self,
        fingerprint: str = "print",
        on_progress: OnProgress = lambda _: None,
        timeout: float | None = None,
    ) -> Deferred[tuple[StoredResponse, bool]]:
        return Deferred.fromCoroutine(
            self.cache.run(self.key, fingerprint, self.turn, on_progress, timeout)
        )

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
        self.turns[0].callback(ANSWER)
        results = [self.successResultOf(waiter) for waiter in (*waiting, self.ask())]
        self.assertEqual(results, [(ANSWER, False), (ANSWER, True), (ANSWER, True)])
        self.assertEqual(len(self.turns), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_mismatch(self) -> None:
        """
        Another request under the same key is rejected, while the first one runs and
        afterwards, and also if it is for a job.
        """
        self.ask()
        self.failureResultOf(self.ask("another"), IdempotencyKeyMismatch)
        with self.assertRaises(IdempotencyKeyMismatch):
            self.cache.check_fingerprint(self.key, "another")
        self.turns[0].callback(ANSWER)
        self.failureResultOf(self.ask("another"), IdempotencyKeyMismatch)
        self.cache.check_fingerprint(self.key, "another")
        job = self.store.add(new_job("a"), UNLIMITED, self.key, "another")
        self.failureResultOf(job, IdempotencyKeyMismatch)

    def test_not_replayed(self) -> None:
        """
        A failure that would not occur again is that of one request only: the others that
        wait are executed as well, the first of them for all.
        """
        waiting = [self.ask() for _ in range(3)]
        self.turns[0].callback(BUSY)
        self.assertEqual(self.successResultOf(waiting[0]), (BUSY, False))
        self.assertEqual(len(self.turns), 2)
        self.turns[1].callback(ANSWER)
        self.assertEqual(self.successResultOf(waiting[1]), (ANSWER, False))
        self.assertEqual(self.successResultOf(waiting[2]), (ANSWER, True))

    def test_own_deadline(self) -> None:
        """
        A request that waits for another one's turn has its own deadline, and the turn goes on.
        """
        first, second = self.ask(timeout=60.0), self.ask(timeout=1.0)
        self.clock.advance(0.9)
        self.assertNoResult(second)
        self.clock.advance(0.1)
        self.assertEqual(self.failureResultOf(second, RequestTimedOut).value.limit, 1.0)
        self.turns[0].callback(ANSWER)
        self.assertEqual(self.successResultOf(first), (ANSWER, False))

    def test_longer_deadline(self) -> None:
        """
        A request outlives the deadline of the one whose turn it shares: it is executed
        itself, until its own deadline, which counts from its arrival.
        """
        first, second = self.ask(timeout=1.0), self.ask(timeout=5.0)
        self.clock.advance(1.0)
        self.turns[0].callback(TIMED_OUT)
        self.assertEqual(self.successResultOf(first)[0], TIMED_OUT)
        self.assertEqual(len(self.turns), 2)
        self.clock.advance(3.9)
        self.assertNoResult(second)
        self.clock.advance(0.1)
        self.failureResultOf(second, RequestTimedOut)
        self.assertTrue(self.turns[1].called)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_server_deadline(self) -> None:
        """
        A request without a deadline of its own waits for as long as the server permits.
        """
        self.ask()
        second = self.ask()
        self.clock.advance(119.9)
        self.assertNoResult(second)
        self.clock.advance(0.1)
        self.failureResultOf(second, RequestTimedOut)

    def test_deadline_while_storage_is_slow(self) -> None:
        """
        A request does not wait much longer than its deadline if the store cannot be read.
        """
        executor = HeldExecutor()
        store = SqliteStore(self.clock, self.clock.seconds, executor)
        store.open(None)
        self.cache = IdempotencyCache(self.clock, self.clock.seconds, store, 120.0)
        first = self.ask(timeout=1.0)
        self.clock.advance(1.4)
        self.assertNoResult(first)
        self.clock.advance(0.1)
        self.failureResultOf(first, RequestTimedOut)
        executor.run()
        self.assertEqual(self.turns, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        store.close()
        executor.run()

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
        self.turns[1].callback(BUSY)
        self.assertFalse(self.successResultOf(again)[1])

    def test_owner_leaves(self) -> None:
        """
        If the client whose request is executed has gone, a failure that belongs to it goes
        to nobody.
        """
        first, second = self.ask(timeout=1.0), self.ask()
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.turns[0].callback(TIMED_OUT)
        self.turns[1].callback(ANSWER)
        self.assertEqual(self.successResultOf(second), (ANSWER, False))

    def test_disk_full(self) -> None:
        """
        An answer that cannot be stored is given all the same.  It is replayed from memory,
        and stored when the disk has space again.
        """
        waiting = self.ask()
        self.faults.fault = "full"
        self.turns[0].callback(ANSWER)
        self.assertNoResult(waiting)
        self.clock.advance(1.0)
        self.assertEqual(self.successResultOf(waiting), (ANSWER, False))
        self.assertEqual(self.successResultOf(self.ask()), (ANSWER, True))
        self.faults.fault = None
        self.clock.pump([1] * 10)
        record = self.successResultOf(self.store.find_record(self.key))
        assert record is not None
        self.assertEqual(record.response, ANSWER)
        self.assertEqual(self.successResultOf(self.ask()), (ANSWER, True))
        self.assertEqual(len(self.turns), 1)

    def test_refused(self) -> None:
        """
        While the storage fails no request is executed whose answer could not be stored.
        """
        self.faults.fault = "full"
        self.store.requeue("a")
        self.failureResultOf(self.ask(), StorageUnavailable)
        self.assertEqual(self.turns, [])
        self.faults.fault = None
        self.clock.pump([1] * 10)
        self.assertNoResult(self.ask())
        self.assertEqual(len(self.turns), 1)

    def test_slow_disk(self) -> None:
        """
        An answer waits for the disk for a second at most, and not beyond its deadline.
        """
        executor = HeldExecutor()
        store = SqliteStore(self.clock, self.clock.seconds, executor)
        store.open(None)
        self.store = store
        self.cache = IdempotencyCache(self.clock, self.clock.seconds, store, 120.0)
        first, second = self.ask(), self.ask(timeout=0.5)
        executor.run()
        self.turns[0].callback(ANSWER)
        self.clock.advance(0.5)
        self.assertNoResult(first)
        self.assertEqual(self.successResultOf(second), (ANSWER, True))
        self.clock.advance(0.5)
        self.assertEqual(self.successResultOf(first), (ANSWER, False))
        self.assertEqual(self.successResultOf(self.ask()), (ANSWER, True))
        executor.run()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_fault(self) -> None:
        """
        An unexpected failure goes to all that wait.
        """
        waiting = [self.ask(), self.ask()]
        self.turns[0].errback(ZeroDivisionError())
        for waiter in waiting:
            self.failureResultOf(waiter, ZeroDivisionError)
