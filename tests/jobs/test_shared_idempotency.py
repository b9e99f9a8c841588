"""
Tests for `kiroworkers.jobs.idempotency` with several servers, on a store in memory.
"""

from __future__ import annotations

from random import Random
from typing import cast

from attrs import define
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.errors import IdempotencyKeyMismatch, RequestTimedOut, StorageUnavailable
from kiroworkers.jobs.idempotency import IdempotencyCache
from kiroworkers.jobs.store import JobStore
from kiroworkers.jobs.stored_response import IdempotencyKey, IdempotencyRecord, StoredResponse
from kiroworkers.pool.progress import OnProgress

KEY = IdempotencyKey("ann", "generate-story", "k1")
ANSWER = StoredResponse(200, {"title": "x"}, {"Worker": "worker1"}, cacheable=True)
OTHER = StoredResponse(200, {"title": "y"}, {"Worker": "worker2"}, cacheable=True)
BUSY = StoredResponse(503, {"code": "all_workers_busy"})

#: Seconds between two looks at a key.
_INTERVAL = 3.0


@define
class _Row:
    """
    What the database knows of a key.
    """

    fingerprint: str
    owner: Server
    response: StoredResponse | None = None


class Server:
    """
    Represent a server: this is the part of a `JobStore` that concerns keys, and a `KeyChanges`.

    Attributes:
        alive: Whether its lease is running.
        failing: Whether it cannot reach the database.
        held: Whether what the database answers is delayed; None unless it is.
        turns: The executions of requests.
        cache: Executes requests.
    """

    def __init__(self, clock: Clock, rows: dict[IdempotencyKey, _Row], servers: list[Server]):
        self.clock, self.rows, self.servers = clock, rows, servers
        servers.append(self)
        self.alive, self.failing = True, False
        self.held: list[Deferred[None]] | None = None
        self.kept: list[tuple[str, StoredResponse | None]] = []
        self.waiting: list[Deferred[None]] = []
        self.turns: list[Deferred[StoredResponse]] = []
        self.cache = IdempotencyCache(clock, clock.seconds, cast(JobStore, self), 120.0, self)

    # The store.

    def check_available(self) -> None:
        if self.failing:
            raise StorageUnavailable("it is away", 1)

    def reserve_key(
        self, key: IdempotencyKey, fingerprint: str
    ) -> Deferred[IdempotencyRecord | None]:
        if self.failing:
            return fail(StorageUnavailable("it is away", 1))
        row = self.rows.get(key)
        record = None
        if row is None or not (row.response or row.owner is self or row.owner.alive):
            self.rows[key] = _Row(fingerprint, self)
        elif row.response is not None or row.owner is not self:
            in_progress = row.response is None
            record = IdempotencyRecord(
                row.fingerprint, response=row.response, in_progress=in_progress
            )
        if self.held is None:
            return succeed(record)
        self.held.append(Deferred())
        return self.held[-1].addCallback(lambda _: record)

    def release_key(self, key: IdempotencyKey) -> Deferred[None]:
        return self._keep(None)

    def save_response(
        self, key: IdempotencyKey, fingerprint: str, response: StoredResponse, now: float
    ) -> Deferred[None]:
        return self._keep(response)

    def _keep(self, response: StoredResponse | None) -> Deferred[None]:
        if self.failing:
            self.kept.append(("print", response))
            return Deferred()
        row = self.rows.get(KEY)
        if row is not None and row.owner is self and row.response is None:
            if response is None:
                del self.rows[KEY]
            else:
                row.response = response
            for server in self.servers:
                server.look()
        return succeed(None)

    def heal(self) -> None:
        self.failing = False
        kept, self.kept = self.kept, []
        for _, response in kept:
            self._keep(response)

    # The changes.

    def next(self, key: IdempotencyKey) -> Deferred[None]:
        self.waiting.append(Deferred(lambda _: None))
        return self.waiting[-1]

    def look(self) -> None:
        waiting, self.waiting = self.waiting, []
        for changed in waiting:
            if not changed.called:
                changed.callback(None)

    # The requests.

    async def turn(self, on_progress: OnProgress | None) -> StoredResponse:
        self.turns.append(Deferred())
        return await self.turns[-1]

    def ask(
        self, fingerprint: str = "print", timeout: float | None = None
    ) -> Deferred[tuple[StoredResponse, bool]]:
        return Deferred.fromCoroutine(
            self.cache.run(KEY, fingerprint, self.turn, lambda _: None, timeout)
        )


class SharedIdempotencyTests(SynchronousTestCase):
    """
    Tests for `IdempotencyCache` on two servers.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.rows: dict[IdempotencyKey, _Row] = {}
        servers: list[Server] = []
        self.one, self.two = (Server(self.clock, self.rows, servers) for _ in range(2))

    def test_once(self) -> None:
        """
        A request that comes to another server while the first one runs waits, and gets its
        response.
        """
        first = self.one.ask()
        waiting = [self.two.ask(), self.two.ask()]
        self.assertNoResult(waiting[0])
        self.one.turns[0].callback(ANSWER)
        self.assertEqual(self.successResultOf(first), (ANSWER, False))
        for waiter in (*waiting, self.two.ask()):
            self.assertEqual(self.successResultOf(waiter), (ANSWER, True))
        self.assertEqual(self.two.turns, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_not_replayed(self) -> None:
        """
        If the first request failed in a way that is not replayed, the second one is executed.
        """
        first, second = self.one.ask(), self.two.ask()
        self.one.turns[0].callback(BUSY)
        self.assertEqual(self.successResultOf(first), (BUSY, False))
        self.two.turns[0].callback(ANSWER)
        self.assertEqual(self.successResultOf(second), (ANSWER, False))
        self.assertEqual(self.successResultOf(self.one.ask()), (ANSWER, True))

    def test_fault(self) -> None:
        """
        If the first request met an unexpected failure, the second one is executed.
        """
        first, second = self.one.ask(), self.two.ask()
        self.one.turns[0].errback(ZeroDivisionError())
        self.failureResultOf(first, ZeroDivisionError)
        self.two.turns[0].callback(ANSWER)
        self.assertEqual(self.successResultOf(second), (ANSWER, False))

    def test_given_up(self) -> None:
        """
        If the client of the first request has gone, the second one is executed.
        """
        first, second = self.one.ask(), self.two.ask()
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.two.turns[0].callback(ANSWER)
        self.assertEqual(self.successResultOf(second), (ANSWER, False))

    def test_waiting_given_up(self) -> None:
        """
        A client that waits for another server and goes takes nothing with it.
        """
        first, second = self.one.ask(), self.two.ask()
        second.cancel()
        self.failureResultOf(second, CancelledError)
        self.one.turns[0].callback(ANSWER)
        self.assertEqual(self.successResultOf(first), (ANSWER, False))
        self.assertEqual(self.two.turns, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_server_dies(self) -> None:
        """
        If the first server dies, the second one executes the request once the lease has passed.
        """
        self.one.ask()
        second = self.two.ask()
        self.two.look()
        self.assertEqual(self.two.turns, [])
        self.one.alive = False
        self.two.look()
        self.two.turns[0].callback(OTHER)
        self.assertEqual(self.successResultOf(second), (OTHER, False))

    def test_late_answer(self) -> None:
        """
        If the first server was only stopped for long, its client gets its own answer, which
        changes nothing in the store.
        """
        first, second = self.one.ask(), self.two.ask()
        self.one.alive = False
        self.two.look()
        self.one.alive = True
        self.one.turns[0].callback(ANSWER)
        self.assertEqual(self.successResultOf(first), (ANSWER, False))
        self.assertNoResult(second)
        self.two.turns[0].callback(OTHER)
        self.assertEqual(self.successResultOf(second), (OTHER, False))
        self.assertEqual(self.successResultOf(self.one.ask()), (OTHER, True))

    def test_deadline(self) -> None:
        """
        A client that waits for another server waits until its own deadline, and others longer.
        """
        self.one.ask()
        waiting = [self.two.ask(timeout=1.0), self.two.ask(timeout=2.0)]
        for waiter, limit in zip(waiting, (1.0, 2.0), strict=True):
            self.clock.advance(0.9)
            self.assertNoResult(waiter)
            self.clock.advance(0.1)
            self.assertEqual(self.failureResultOf(waiter, RequestTimedOut).value.limit, limit)
        self.assertEqual(self.two.turns, [])

    def test_deadline_after_waiting(self) -> None:
        """
        A request that is executed after it has waited has the rest of its time only.
        """
        self.one.ask()
        second = self.two.ask(timeout=5.0)
        self.clock.advance(4.0)
        self.one.turns[0].callback(BUSY)
        self.assertEqual(len(self.two.turns), 1)
        self.clock.advance(1.0)
        self.failureResultOf(second, RequestTimedOut)
        self.assertTrue(self.two.turns[0].called)
        self.assertEqual(self.rows, {})

    def test_mismatch(self) -> None:
        """
        Another request under the same key is rejected at once, and leaves the key alone.
        """
        first = self.one.ask()
        self.failureResultOf(self.two.ask("another"), IdempotencyKeyMismatch)
        self.one.turns[0].callback(ANSWER)
        self.failureResultOf(self.two.ask("another"), IdempotencyKeyMismatch)
        self.assertEqual(self.successResultOf(first), (ANSWER, False))
        self.assertEqual(self.successResultOf(self.two.ask()), (ANSWER, True))

    def test_change_while_read(self) -> None:
        """
        A change that comes before the store has answered counts.
        """
        self.one.ask()
        self.two.held = []
        second = self.two.ask()
        self.one.turns[0].callback(ANSWER)
        for _ in range(2):
            self.two.held.pop(0).callback(None)
        self.assertEqual(self.successResultOf(second), (ANSWER, True))

    def test_database_away(self) -> None:
        """
        Without the database nothing is executed; an answer is given nevertheless, and stored later.
        """
        first, second = self.one.ask(), self.two.ask()
        self.two.failing = True
        self.two.look()
        self.failureResultOf(second, StorageUnavailable)
        self.failureResultOf(self.two.ask(), StorageUnavailable)
        self.assertEqual(self.two.turns, [])
        self.two.heal()
        self.one.failing = True
        second = self.two.ask()
        self.one.turns[0].callback(ANSWER)
        self.clock.advance(1.0)
        self.assertEqual(self.successResultOf(first), (ANSWER, False))
        self.assertNoResult(second)
        self.one.heal()
        self.assertEqual(self.successResultOf(second), (ANSWER, True))

    def test_anything(self) -> None:
        """
        Whatever fails in a way that is not replayed, whoever goes and whichever server dies, every
        other client is answered, and while no server dies one turn runs at a time and one answer
        is given.
        """
        for seed in range(100):
            self.setUp()
            self.run_anything(Random(seed), may_die=seed % 2 == 0)

    def run_anything(self, random: Random, *, may_die: bool) -> None:
        servers = [self.one, self.two]
        asked: list[Deferred[tuple[StoredResponse, bool]]] = []
        gone: list[Deferred[tuple[StoredResponse, bool]]] = []
        answers = 0

        def running() -> list[Deferred[StoredResponse]]:
            return [turn for server in servers for turn in server.turns if not turn.called]

        for _ in range(30):
            match random.choice(["ask", "ask", "busy", "answer", "go", "die", "look"]):
                case "ask":
                    asked.append(random.choice(servers).ask())
                case "busy" if running():
                    random.choice(running()).callback(BUSY)
                case "answer" if running():
                    random.choice(running()).callback(ANSWER)
                    answers += 1
                case "go" if asked:
                    gone.append(asked.pop(random.randrange(len(asked))))
                    gone[-1].addErrback(lambda failure: failure.trap(CancelledError))
                    gone[-1].cancel()
                case "die" if may_die:
                    random.choice(servers).alive = random.random() < 0.5
                case "look":
                    random.choice(servers).look()
            if not may_die:
                self.assertLessEqual(len(running()), 1)
                self.assertLessEqual(answers, 1)
        for _ in range(20):
            for turn in running():
                turn.callback(ANSWER)
            for server in servers:
                server.look()
        for each in asked:
            self.assertIn(self.successResultOf(each)[0], (ANSWER, BUSY))
        self.assertEqual(self.clock.getDelayedCalls(), [])
