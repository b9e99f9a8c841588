"""
Tests for `kiroworkers.cluster.store`, with real databases.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Sequence
from typing import Any

from attrs import evolve
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from kiroworkers.cluster.claimed_job import ClaimedJob
from kiroworkers.errors import IdempotencyKeyMismatch, StorageUnavailable, TooManyJobs
from kiroworkers.jobs.executor import ThreadExecutor
from kiroworkers.jobs.job import Job, JobAnswer, JobFailure, JobState, Webhook
from kiroworkers.jobs.operation_queue import Operation
from kiroworkers.jobs.store import StorageStatus
from kiroworkers.jobs.stored_response import IdempotencyRecord, StoredResponse
from tests import postgres
from tests.jobs import store_contract
from tests.jobs.store_contract import ANSWER, KEY
from tests.jobs.support import UNLIMITED, new_job

if postgres.SKIP is None:
    from psycopg import OperationalError
    from psycopg.errors import DuplicateObject

    from kiroworkers.cluster import migrate, statements
    from kiroworkers.cluster.engine import Connection, PostgresEngine, PostgresQueue
    from kiroworkers.cluster.store import PostgresStore

    class _LossyEngine(PostgresEngine):
        """
        Represent a connection that breaks after a statement was committed, before its answer.

        Attributes:
            losses: How many answers are lost.
        """

        losses = 0

        def run_together(self, batch: Sequence[Operation[Connection]]) -> None:
            super().run_together(batch)
            for operation in batch:
                if self.losses:
                    self.losses -= 1
                    operation.result = Failure(OperationalError("the answer is lost"))


#: Seconds for which the lease of a server lasts in these tests.
_LEASE = 3600.0


class _Server:
    """
    Represent a server with a store.

    Attributes:
        queue: Runs the operations of the store.
        number: Its number; 0 until it is registered.
        store: The store.
        claims: The claims of its jobs, by their ids.

    Args:
        address: The address of the database.
        engine: Runs operations; None for a new one.
    """

    def __init__(self, address: str, engine: PostgresEngine | None = None) -> None:
        real: Any = reactor
        engine = engine or PostgresEngine(address, 10.0)
        self.queue = PostgresQueue(real, time.time, ThreadExecutor(real), engine)
        self.number = 0
        self.store = PostgresStore(self.queue, lambda: self.number)
        self.claims: dict[str, ClaimedJob] = {}

    async def register(self, lease: float = _LEASE) -> None:
        self.number = await self.queue.write(
            lambda db: statements.register_server(db, lease, "a", "1", "here", "", "running", {})
        )

    async def claim(self, number: int = 1) -> list[str]:
        """
        Claim jobs, and return their ids.
        """
        claimed = await self.queue.write(
            lambda db: statements.claim_jobs(db, self.number, {"kiro": number})
        )
        self.claims.update((one.job.id, one) for one in claimed)
        return [one.job.id for one in claimed]

    def release(self, id: str) -> Deferred[None]:
        held = self.claims[id]
        return self.queue.keep(
            lambda db: statements.release_job(
                db, self.number, id, held.claims, held.job.attempts, held.failures, first=False
            )
        )

    def end(self, id: str, state: JobState, result: JobAnswer | JobFailure) -> Deferred[Job | None]:
        held = self.claims.get(id)
        claims, attempts = (0, 0) if held is None else (held.claims, held.job.attempts)
        return self.queue.keep(
            lambda db: statements.end_job(db, self.number, id, claims, attempts, state, result)
        )


def add_role(case: postgres.DatabaseTestCase) -> str:
    """
    Return the name of a role that has the rights of servers, and no others.
    """
    with contextlib.suppress(DuplicateObject):
        case.postgres.execute("CREATE ROLE store LOGIN")
    migrate.grant(case.connect(), "store")
    return "store"


class PostgresStoreTests(postgres.DatabaseTestCase, store_contract.StoreContract):
    """
    Run the contract of all stores on PostgreSQL, as a role that has the rights of servers only.
    """

    async def setUp(self) -> None:  # type: ignore[override]
        super().setUp()
        self.server = _Server(self.postgres.address(self.database, add_role(self)))
        self.addCleanup(self.server.queue.close)
        await self.server.register()
        self.store = self.server.store

    async def start(self, id: str) -> None:
        self.assertEqual(await self.server.claim(), [id])

    async def put_back(self, id: str) -> None:
        await self.server.release(id)

    async def finish(self, id: str, state: JobState, result: JobAnswer | JobFailure) -> Job | None:
        return await self.server.end(id, state, result)

    async def test_not_registered(self) -> None:
        """
        A server that is not registered yet reserves no keys and cancels nothing.
        """
        await self.add("a")
        self.server.number = 0
        await self.assertFailure(self.store.cancel("a", 5.0), StorageUnavailable)
        await self.assertFailure(self.store.reserve_key(KEY, "print"), StorageUnavailable)
        self.assertEqual((await self.stored("a")).state, "queued")
        self.assertEqual(self.store.status, StorageStatus())


class SeveralServersTests(postgres.DatabaseTestCase):
    """
    Tests for `PostgresStore` on several servers.
    """

    async def setUp(self) -> None:  # type: ignore[override]
        super().setUp()
        self.first, self.second = _Server(self.address), _Server(self.address)
        for server in (self.first, self.second):
            self.addCleanup(server.queue.close)
            await server.register()

    async def lose_lease(self, server: _Server) -> None:
        await self.first.queue.write(lambda db: statements.leave_server(db, server.number))

    async def test_key_in_progress(self) -> None:
        """
        A key that one server has reserved is in progress for others, until it is released or
        there is a response.
        """
        in_progress = IdempotencyRecord("print", in_progress=True)
        self.assertIsNone(await self.first.store.reserve_key(KEY, "print"))
        self.assertIsNone(await self.first.store.find_record(KEY))
        self.assertEqual(await self.second.store.find_record(KEY), in_progress)
        self.assertEqual(await self.second.store.reserve_key(KEY, "print"), in_progress)
        for server in (self.first, self.second):
            adding = server.store.add(new_job("a"), UNLIMITED, KEY, "print")
            await self.assertFailure(adding, IdempotencyKeyMismatch)
        await self.second.store.release_key(KEY)
        self.assertEqual(await self.second.store.reserve_key(KEY, "print"), in_progress)
        await self.first.store.release_key(KEY)
        self.assertIsNone(await self.second.store.reserve_key(KEY, "print"))
        response = StoredResponse(200, {"title": "x"}, cacheable=True)
        await self.second.store.save_response(KEY, "print", response, 5.0)
        record = await self.first.store.reserve_key(KEY, "print")
        self.assertEqual(record, IdempotencyRecord("print", response=response))

    async def test_key_reserved_at_once(self) -> None:
        """
        Of two servers that reserve a key at the same time, one executes the request.
        """
        for number in range(20):
            key = evolve(KEY, key=f"{number}")
            reserving = [
                server.store.reserve_key(key, "print") for server in (self.first, self.second)
            ]
            records = [await record for record in reserving]
            self.assertEqual(records.count(None), 1)
            self.assertIn(IdempotencyRecord("print", in_progress=True), records)

    async def test_key_of_lost_server(self) -> None:
        """
        The key of a server whose lease has passed can be reserved by another; then the late
        response of the first one changes nothing, before and after there is another.
        """
        early, late = (StoredResponse(200, {"n": n}, cacheable=True) for n in (1, 2))
        await self.first.store.reserve_key(KEY, "print")
        await self.lose_lease(self.first)
        self.assertIsNone(await self.second.store.reserve_key(KEY, "print"))
        await self.first.store.save_response(KEY, "print", late, 5.0)
        await self.first.store.release_key(KEY)
        self.assertIsNone(await self.second.store.find_record(KEY))
        await self.second.store.save_response(KEY, "print", early, 5.0)
        await self.first.store.save_response(KEY, "print", late, 6.0)
        record = await self.second.store.find_record(KEY)
        self.assertEqual(record, IdempotencyRecord("print", response=early))

    async def test_late_response(self) -> None:
        """
        The response of a server whose lease has passed is kept if no other has begun anew.
        """
        response = StoredResponse(200, {"title": "x"}, cacheable=True)
        await self.first.store.reserve_key(KEY, "print")
        await self.lose_lease(self.first)
        await self.first.store.save_response(KEY, "print", response, 5.0)
        record = await self.second.store.reserve_key(KEY, "print")
        self.assertEqual(record, IdempotencyRecord("print", response=response))

    async def test_job_for_key_of_lost_server(self) -> None:
        """
        A job can be added under the key of a server whose lease has passed.
        """
        await self.first.store.reserve_key(KEY, "another")
        await self.lose_lease(self.first)
        job, is_new = await self.second.store.add(new_job("a"), UNLIMITED, KEY, "print")
        self.assertEqual((job.id, is_new), ("a", True))
        record = await self.first.store.find_record(KEY)
        self.assertEqual(record, IdempotencyRecord("print", "a"))

    async def test_one_job_for_key(self) -> None:
        """
        Servers that add a job under the same key at the same time add one.
        """
        for number in range(20):
            key = evolve(KEY, key=f"{number}")
            adding = [
                server.store.add(new_job(f"{name}{number}"), UNLIMITED, key, "print")
                for name, server in (("a", self.first), ("b", self.second))
            ]
            added = [await job for job in adding]
            self.assertEqual(sorted(is_new for _, is_new in added), [False, True])
            self.assertEqual(len({job.id for job, _ in added}), 1)

    async def test_limits_of_all(self) -> None:
        """
        The limits count the jobs that all servers have accepted.
        """
        limits = evolve(UNLIMITED, unfinished=1)
        await self.first.store.add(new_job("a"), limits)
        await self.assertFailure(self.second.store.add(new_job("b"), limits), TooManyJobs)
        await self.second.store.cancel("a", 5.0)
        await self.first.store.add(new_job("b"), limits)

    async def test_webhooks(self) -> None:
        """
        The server that has ended a job calls its webhook, until others adopt it because the
        server is lost.
        """
        for id in ("a", "b"):
            await self.first.store.add(new_job(id, callback=Webhook("http://x/")), UNLIMITED)
        await self.first.store.cancel("a", 5.0)
        await self.second.claim()
        await self.second.end("b", "done", ANSWER)
        for server, id in ((self.first, "a"), (self.second, "b")):
            [pending] = await server.store.pending_webhooks()
            self.assertEqual(pending.id, id)
        await self.lose_lease(self.second)
        await self.first.queue.write(lambda db: statements.sweep(db, self.first.number))
        adopted = await self.first.store.pending_webhooks()
        self.assertEqual([job.id for job in adopted], ["a", "b"])
        self.assertEqual(await self.second.store.pending_webhooks(), [])

    async def test_expiry_is_exclusive(self) -> None:
        """
        One server at a time deletes what has expired; another one is told so, and goes on.
        """
        await self.first.store.add(new_job("a"), UNLIMITED)
        await self.first.store.cancel("a", 5.0)
        connection = self.connect()
        with connection.transaction():
            connection.execute("SELECT delete_expired(0, 1)")
            self.assertFalse(await self.first.store.delete_expired(5.0))
            self.assertIsNotNone(await self.first.store.get("a"))
        self.assertTrue(await self.first.store.delete_expired(5.0))
        self.assertIsNone(await self.first.store.get("a"))

    async def test_abandoned_keys_expire(self) -> None:
        """
        Keys that a lost server has reserved are deleted; those of others are not.
        """
        other = evolve(KEY, key="k2")
        await self.first.store.reserve_key(KEY, "print")
        await self.second.store.reserve_key(other, "print")
        await self.lose_lease(self.first)
        await self.second.store.delete_expired(0.0)
        keys = self.connect().execute("SELECT key FROM keys").fetchall()
        self.assertEqual(keys, [("k2",)])


class LostAnswerTests(postgres.DatabaseTestCase):
    """
    Tests for `PostgresStore` when the answer of a statement that was committed is lost.
    """

    async def setUp(self) -> None:  # type: ignore[override]
        super().setUp()
        self.engine = _LossyEngine(self.address, 10.0)
        self.server = _Server(self.address, engine=self.engine)
        self.addCleanup(self.server.queue.close)
        await self.server.register()
        self.store = self.server.store

    async def lost(self, waiting: Deferred[Any]) -> None:
        """
        Wait until `waiting` has failed, and then until the storage works again.
        """
        await self.assertFailure(waiting, StorageUnavailable)
        await self.server.queue.keep(lambda db: None)

    async def test_add(self) -> None:
        """
        A job of which its client knows nothing is withdrawn, and its key with it.
        """
        self.engine.losses = 1
        await self.lost(self.store.add(new_job("a"), UNLIMITED, KEY, "print"))
        self.assertEqual(await self.store.list_jobs(None, None, 9), [])
        self.assertIsNone(await self.store.find_record(KEY))

    async def test_perhaps_begun(self) -> None:
        """
        The error says that the job may have been begun, unless nothing was written.
        """
        self.engine.losses = 1
        adding = self.store.add(new_job("a"), UNLIMITED)
        lost: Any = await self.assertFailure(adding, StorageUnavailable)
        refused: Any = await self.assertFailure(
            self.store.add(new_job("b"), UNLIMITED), StorageUnavailable
        )
        self.assertEqual((lost.perhaps_begun, refused.perhaps_begun), (True, False))
        await self.server.queue.keep(lambda db: None)

    async def test_add_asked_again(self) -> None:
        """
        A job is not withdrawn once a retry of its request has got it from another server.
        """
        other = _Server(self.address)
        self.addCleanup(other.queue.close)
        await other.register()
        self.engine.losses = 1
        await self.assertFailure(
            self.store.add(new_job("a"), UNLIMITED, KEY, "print"), StorageUnavailable
        )
        job, _ = await other.store.add(new_job("b"), UNLIMITED, KEY, "print")
        await self.server.queue.keep(lambda db: None)
        self.assertIsNotNone(await other.store.get(job.id))

    async def test_add_claimed(self) -> None:
        """
        A job with a key is not withdrawn once a server has begun it: a retry gets it.
        """
        other = _Server(self.address)
        self.addCleanup(other.queue.close)
        await other.register()
        await self.store.add(new_job("a"), UNLIMITED, KEY, "print")
        await self.store.add(new_job("b"), UNLIMITED)
        self.assertEqual(await other.claim(2), ["a", "b"])
        await self.store.withdraw("a")
        await self.store.withdraw("b")
        job, is_new = await other.store.add(new_job("c"), UNLIMITED, KEY, "print")
        self.assertEqual((job.id, is_new), ("a", False))
        self.assertIsNone(await self.store.get("b"))

    async def test_reserve(self) -> None:
        """
        A key that nobody uses is released.
        """
        self.engine.losses = 1
        await self.lost(self.store.reserve_key(KEY, "print"))
        self.assertEqual(self.connect().execute("SELECT * FROM keys").fetchall(), [])

    async def test_cancelled(self) -> None:
        """
        What a client that has left has added or reserved is removed.
        """
        waiting: list[Deferred[Any]] = [
            self.store.add(new_job("a"), UNLIMITED),
            self.store.reserve_key(KEY, "print"),
        ]
        for one in waiting:
            one.cancel()
            await self.assertFailure(one, CancelledError)
        self.assertEqual(await self.store.list_jobs(None, None, 9), [])
        self.assertEqual(self.connect().execute("SELECT * FROM keys").fetchall(), [])

    async def test_cancel(self) -> None:
        """
        The webhook of a job that was cancelled all the same is still to be called.
        """
        await self.store.add(new_job("a", callback=Webhook("http://x/")), UNLIMITED)
        self.engine.losses = 1
        await self.lost(self.store.cancel("a", 5.0))
        [pending] = await self.store.pending_webhooks()
        self.assertEqual((pending.id, pending.state), ("a", "cancelled"))

    async def test_end(self) -> None:
        """
        The end of a job is reported once, although it is stored twice.
        """
        await self.store.add(new_job("a", callback=Webhook("http://x/")), UNLIMITED)
        await self.server.claim()
        self.engine.losses = 2
        ended = await self.server.end("a", "done", ANSWER)
        assert ended is not None
        stored = await self.store.get("a")
        assert stored is not None
        self.assertEqual((stored.state, stored.result, stored.attempts), ("done", ANSWER, 1))
        self.assertEqual(ended, stored)

    async def test_webhook_attempt(self) -> None:
        """
        An attempt to call a webhook counts once.
        """
        await self.store.add(new_job("a", callback=Webhook("http://x/")), UNLIMITED)
        await self.store.cancel("a", 5.0)
        self.engine.losses = 2
        job = await self.store.record_webhook_attempt("a", 9.0)
        assert job is not None
        self.assertEqual(job.callback, Webhook("http://x/", 1, 9.0))
        job = await self.store.record_webhook_attempt("a", None)
        assert job is not None
        self.assertEqual(job.callback, Webhook("http://x/", 2, None))

    async def test_response(self) -> None:
        """
        A response is stored, and its key is not released by a release that is repeated.
        """
        await self.store.reserve_key(KEY, "print")
        response = StoredResponse(200, {"title": "x"}, cacheable=True)
        self.engine.losses = 2
        await self.store.save_response(KEY, "print", response, 5.0)
        await self.store.release_key(KEY)
        record = await self.store.find_record(KEY)
        self.assertEqual(record, IdempotencyRecord("print", response=response))


class FailureTests(postgres.DatabaseTestCase):
    """
    Tests for `PostgresStore` while the database fails in one way or another.
    """

    async def setUp(self) -> None:  # type: ignore[override]
        super().setUp()
        self.cutter = postgres.Cutter(self.postgres.port)
        self.addCleanup(self.cutter.close)
        address = self.postgres.address(self.database, add_role(self), self.cutter.port)
        # Long enough for a slow machine, and short enough for a test that waits for it.
        self.server = _Server(address, PostgresEngine(f"{address}?connect_timeout=2", 2.0))
        self.addCleanup(self.server.queue.close)
        await self.server.register()
        self.store = self.server.store

    def start_postgres(self) -> None:
        if not self.postgres.running:
            self.postgres.start()

    def allow_connections(self, value: bool) -> None:
        self.postgres.execute(f"ALTER DATABASE {self.database} ALLOW_CONNECTIONS {value}")
        self.disconnect()

    def disconnect(self) -> None:
        """
        Let the database end all its sessions, and wait until they have ended.
        """
        self.postgres.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity "
            f"WHERE datname = '{self.database}'"
        )

    async def backend(self) -> int:
        """
        Return the id of the process that executes the statements; it has a lock until it ends.
        """
        [[pid, _]] = await self.server.queue.read(
            lambda db: db.execute("SELECT pg_backend_pid(), pg_advisory_lock(1)").fetchall()
        )
        return int(pid)

    def set_read_only(self, value: str) -> None:
        self.postgres.execute(
            f"ALTER DATABASE {self.database} SET default_transaction_read_only = {value}"
        )
        self.disconnect()

    async def check_outage(
        self, begin: Callable[[], None], end: Callable[[], None], reason: str
    ) -> None:
        """
        Check what is refused and what is kept from `begin` until `end`.
        """
        store, server = self.store, self.server
        other = evolve(KEY, key="k2")
        for id in ("a", "b", "c", "d"):
            await store.add(new_job(id, callback=Webhook("http://x/")), UNLIMITED)
        self.assertEqual(await server.claim(2), ["a", "b"])
        await store.cancel("d", 5.0)
        for key in (KEY, other):
            self.assertIsNone(await store.reserve_key(key, "print"))
        begin()
        await self.assertFailure(store.add(new_job("e"), UNLIMITED), StorageUnavailable)
        self.assertEqual(store.status.reason, reason)
        with self.assertRaises(StorageUnavailable):
            store.check_available()
        response = StoredResponse(200, {"title": "x"}, cacheable=True)
        kept: list[Deferred[Any]] = [
            server.end("a", "done", ANSWER),
            server.release("b"),
            store.record_webhook_attempt("d", 9.0),
            store.save_response(KEY, "print", response, 5.0),
            store.release_key(other),
            store.withdraw("c"),
        ]
        refused: list[Deferred[Any]] = [
            store.add(new_job("e"), UNLIMITED),
            store.cancel("b", 5.0),
            store.delete("b"),
            store.reserve_key(evolve(KEY, key="k3"), "print"),
            store.delete_expired(9.0),
        ]
        for waiting in refused:
            await self.assertFailure(waiting, StorageUnavailable)
        self.assertEqual([waiting for waiting in kept if waiting.called], [])
        end()
        for waiting in kept:
            await waiting
        self.assertEqual(store.status, StorageStatus())
        jobs = await store.list_jobs(None, None, 9)
        self.assertEqual([(job.id, job.state, job.attempts) for job in jobs],
                         [("d", "cancelled", 0), ("b", "queued", 1), ("a", "done", 1)])  # fmt: skip
        self.assertEqual(jobs[0].callback, Webhook("http://x/", 1, 9.0))
        ended = await store.get("a")
        assert ended is not None
        self.assertEqual(ended.result, ANSWER)
        db = self.connect()
        keys = db.execute("SELECT key, response IS NULL FROM keys").fetchall()
        self.assertEqual(keys, [("k1", False)])
        counts = db.execute("SELECT waiting, running FROM queues").fetchall()
        self.assertEqual(counts, [(1, 0)])
        sizes = db.execute("SELECT bytes, (SELECT sum(size) FROM jobs) FROM usage").fetchone()
        assert sizes is not None
        self.assertEqual(sizes[0], sizes[1])
        await store.add(new_job("e"), UNLIMITED)

    async def test_restarted(self) -> None:
        """
        Jobs are refused while PostgreSQL is stopped, and what must be kept is stored later.
        """
        self.addCleanup(self.start_postgres)
        await self.check_outage(
            self.postgres.stop, self.postgres.start, "the database cannot be reached"
        )

    async def test_crashed(self) -> None:
        """
        What must be kept survives a crash of PostgreSQL.
        """
        self.addCleanup(self.start_postgres)
        await self.check_outage(
            lambda: self.postgres.stop(signal.SIGQUIT),
            self.postgres.start,
            "the database cannot be reached",
        )

    async def test_read_only(self) -> None:
        """
        What must be kept is stored when a read-only database can be written; it can be read before.
        """

        def begin() -> None:
            self.set_read_only("on")

        await self.store.add(new_job("first"), UNLIMITED)
        begin()
        await self.assertFailure(self.store.add(new_job("x"), UNLIMITED), StorageUnavailable)
        self.assertIsNotNone(await self.store.get("first"))
        self.set_read_only("off")
        await self.store.withdraw("first")
        await self.check_outage(
            begin, lambda: self.set_read_only("off"), "the database is read-only"
        )

    async def test_refused(self) -> None:
        """
        What must be kept is stored when the database accepts connections again.
        """
        self.addCleanup(self.allow_connections, True)
        await self.check_outage(
            lambda: self.allow_connections(False),
            lambda: self.allow_connections(True),
            "the database cannot be reached",
        )

    async def test_cut_off(self) -> None:
        """
        What must be kept is stored when the network forwards connections again.
        """
        await self.check_outage(self.cutter.cut, self.cutter.heal, "the database cannot be reached")

    async def test_silent(self) -> None:
        """
        A statement that hangs in a silent network is given up, and what must be kept is kept.
        """
        await self.check_outage(
            self.cutter.silence, self.cutter.heal, "the database cannot be reached"
        )

    async def test_disk_full(self) -> None:
        """
        What must be kept is stored when a full disk has space again.
        """
        db = self.connect()
        self.addCleanup(
            self.postgres.execute, "DROP FUNCTION kiroworkers.fail CASCADE", self.database
        )
        db.execute(
            "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$"
        )

        def begin() -> None:
            for table in ("jobs", "keys"):
                db.execute(
                    f"CREATE TRIGGER full_disk BEFORE INSERT OR UPDATE OR DELETE ON {table} "
                    "FOR EACH STATEMENT EXECUTE FUNCTION fail()"
                )

        def end() -> None:
            for table in ("jobs", "keys"):
                db.execute(f"DROP TRIGGER full_disk ON {table}")

        await self.check_outage(begin, end, "the database's disk is full")

    async def test_stopped_server(self) -> None:
        """
        What must be kept is stored when processes of PostgreSQL that hung go on.
        """
        pids = [self.postgres.pid, await self.backend()]

        def signal_all(number: signal.Signals) -> None:
            for pid in pids:
                # The process of a session may have ended before the cleanup.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)

        self.addCleanup(signal_all, signal.SIGCONT)
        await self.check_outage(
            lambda: signal_all(signal.SIGSTOP),
            lambda: signal_all(signal.SIGCONT),
            "the database cannot be reached",
        )

    async def test_stopped_backend(self) -> None:
        """
        A statement that hung is not executed when the process that has it goes on: nobody knows
        of its job any more.
        """
        pid = await self.backend()
        os.kill(pid, signal.SIGSTOP)
        try:
            await self.assertFailure(self.store.add(new_job("a"), UNLIMITED), StorageUnavailable)
            # By another process; the job is withdrawn before.
            await self.server.queue.keep(lambda db: None)
        finally:
            os.kill(pid, signal.SIGCONT)
        # The process has ended when it releases its lock.
        self.connect().execute("SELECT pg_advisory_lock(1)")
        self.assertEqual(await self.store.list_jobs(None, None, 9), [])
