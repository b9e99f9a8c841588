"""
Tests for `kiroworkers.jobs.sqlite_store` and `schema`, with real files.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import sys
from pathlib import Path
from typing import Any

from attrs import evolve
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase

from kiroworkers.errors import CannotStart, StorageUnavailable
from kiroworkers.jobs.executor import ThreadExecutor
from kiroworkers.jobs.job import Job, JobAnswer, Webhook
from kiroworkers.jobs.schema import check_locks
from kiroworkers.jobs.sqlite_store import SqliteStore
from kiroworkers.jobs.store import StorageStatus
from kiroworkers.jobs.stored_response import IdempotencyKey
from tests.jobs.support import UNLIMITED, InlineExecutor, memory_store, new_job

KEY = IdempotencyKey("ann", "generate-story", "k1")

#: Holds a lock on the database that it is given until its input ends.
_LOCKER = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.read()
database.execute("ROLLBACK")
"""


class _SmallDisk(sqlite3.Connection):
    """
    Represent a database that may have 60 pages of 4 KiB.
    """

    def set_limit(self, pages: int) -> None:
        self.execute(f"PRAGMA max_page_count = {pages}")


class _Impatient(sqlite3.Connection):
    """
    Represent a connection that hardly waits for locks.
    """

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **{**keywords, "timeout": 0.01})


class FileTests(SynchronousTestCase):
    """
    Tests for `SqliteStore`, whose executor runs everything at once.
    """

    def setUp(self) -> None:
        self.clock, self.file = Clock(), Path(self.mktemp())
        self.store = self.opened()

    def opened(self, factory: type[sqlite3.Connection] = sqlite3.Connection) -> SqliteStore:
        store = memory_store(self.clock, lambda: 2000.0, self.file, factory)
        self.addCleanup(store.close)
        return store

    def add(self, id: str, size: int = 10) -> Deferred[tuple[Job, bool]]:
        return self.store.add(new_job(id, payload={"idea": "x" * size}), UNLIMITED)

    def test_outlives(self) -> None:
        """
        A job is in the file for the next store that opens it, even if the first one was
        not closed.
        """
        job, _ = self.successResultOf(self.store.add(new_job("a"), UNLIMITED, KEY, "print"))
        self.store = self.opened()
        self.assertEqual(self.successResultOf(self.store.get("a")), job)
        record = self.successResultOf(self.store.find_record(KEY))
        assert record is not None
        self.assertEqual((record.fingerprint, record.job), ("print", "a"))

    def test_file_is_removed(self) -> None:
        """
        While the file is not where the next server looks for it, nothing is accepted, and
        what must not be lost is kept; what is in it can still be read.
        """
        self.successResultOf(self.add("a"))
        for away in (self.file.rename(self.mktemp()), Path(self.mktemp())):
            if not away.exists():
                self.file.rename(away)
                self.file.touch()
            self.failureResultOf(self.add("b"), StorageUnavailable)
            self.assertEqual(
                self.store.status.reason, "the file of the jobs was removed or replaced"
            )
            started = self.store.mark_started("a", 1)
            self.assertNoResult(started)
            self.assertIsNotNone(self.successResultOf(self.store.get("a")))
            away.replace(self.file)
            self.clock.advance(5)
            self.successResultOf(started)
            self.assertIsNone(self.store.status.reason)

    def test_webhooks_disabled(self) -> None:
        """
        A server without webhooks cancels those that an earlier server left.
        """
        for id in ("a", "b"):
            job = new_job(id, callback=Webhook("http://x/"))
            self.store.add(job, UNLIMITED)
        self.store.cancel("a", 5.0)
        self.store.close()
        store = SqliteStore(self.clock, lambda: 2000.0, InlineExecutor())
        store.open(self.file, keep_webhooks=False)
        self.addCleanup(store.close)
        self.assertEqual(self.successResultOf(store.pending_webhooks()), [])
        stored = self.successResultOf(store.get("a"))
        assert stored is not None
        self.assertEqual(stored.callback, Webhook("http://x/"))

    def test_space(self) -> None:
        """
        The space of an input is given back when its job ends, or is cancelled or deleted.
        """
        size = 1024**2
        for number in range(30):
            id = f"{number}"
            self.successResultOf(self.add(id, size))
            if number % 3 == 0:
                self.store.mark_ended(id, "done", JobAnswer({"title": "x"}), 5.0)
            elif number % 3 == 1:
                self.store.cancel(id, 5.0)
            else:
                self.store.withdraw(id)
        self.successResultOf(self.store.close())
        self.assertLess(self.file.stat().st_size, size)

    def test_really_full(self) -> None:
        """
        When SQLite itself finds no space, jobs are refused and what must be kept is; both
        are stored when there is space.
        """
        self.store = self.opened(_SmallDisk)
        engine: Any = self.store._queue._engine
        database = engine._database
        database.set_limit(60)
        self.successResultOf(self.add("a"))
        error = self.failureResultOf(self.add("b", 1024**2), StorageUnavailable).value
        self.assertEqual(error.reason, "database or disk is full")
        answer = JobAnswer({"title": "x" * 1024**2})
        ended = self.store.mark_ended("a", "done", answer, 5.0)
        self.clock.pump([1] * 20)
        self.assertNoResult(ended)
        job = self.successResultOf(self.store.get("a"))
        assert job is not None
        self.assertEqual(job.state, "queued")
        database.set_limit(10_000)
        self.clock.pump([1] * 10)
        job = self.successResultOf(ended)
        assert job is not None
        self.assertEqual((job.state, job.result), ("done", answer))
        self.successResultOf(self.add("b", 1024**2))
        self.assertEqual(self.store.status, StorageStatus())

    def test_damaged(self) -> None:
        """
        A damaged file stops the server at its start, with SQLite's reason in one line.
        """
        for number in range(200):
            self.add(f"{number}", 1000)
        self.successResultOf(self.store.close())
        with self.file.open("r+b") as file:
            file.seek(4096)
            file.write(b"\xff" * 4096 * 40)
        with self.assertRaises(CannotStart) as raised:
            self.opened()
        self.assertEqual(
            str(raised.exception),
            f"kiroworkers: cannot open the jobs in {self.file}: database disk image is malformed",
        )

    def test_no_locks(self) -> None:
        """
        A file system without locks is named as such.
        """

        def lock(descriptor: int, operation: int) -> None:
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

        with self.assertRaises(ValueError) as raised:
            check_locks(self.file.parent, lock)
        self.assertEqual(str(raised.exception), "this file system has no locks: No locks available")
        check_locks(self.file.parent)

    def test_unusable_folder(self) -> None:
        """
        A folder in which no file can be created stops the server, in one line.
        """
        with self.assertRaises(CannotStart) as raised:
            memory_store(self.clock, file=self.file / "jobs")
        self.assertIn("cannot open the jobs", str(raised.exception))


class _Locker(ProcessProtocol):
    """
    Run a process that holds a lock, and tell when it holds it and when it has ended.
    """

    def __init__(self) -> None:
        self.locked: Deferred[None] = Deferred()
        self.unlocked: Deferred[None] = Deferred()

    def release(self) -> None:
        """
        Let the process release the lock and end.
        """
        assert self.transport is not None
        self.transport.closeStdin()

    def outReceived(self, data: bytes) -> None:
        if not self.locked.called:
            self.locked.callback(None)

    def processEnded(self, reason: Any) -> None:
        reason.trap(ProcessDone)
        self.unlocked.callback(None)


class ThreadTests(TestCase):
    """
    Tests for `SqliteStore` with a thread, and a process that locks its file.
    """

    def setUp(self) -> None:
        self.file = Path(self.mktemp())
        self.real: Any = reactor

    def opened(self, factory: type[sqlite3.Connection] = sqlite3.Connection) -> SqliteStore:
        store = SqliteStore(self.real, lambda: 2000.0, ThreadExecutor(self.real), factory)
        store.open(self.file)
        self.addCleanup(store.close)
        return store

    async def lock(self) -> _Locker:
        locker = _Locker()
        command = [sys.executable, "-c", _LOCKER, str(self.file)]
        self.real.spawnProcess(locker, command[0], command, env=None)
        await locker.locked
        return locker

    async def test_loop_goes_on(self) -> None:
        """
        While a job waits for another process's lock, the event loop goes on; the job is
        stored when the lock is released.
        """
        store = self.opened()
        locker = await self.lock()
        adding = store.add(new_job("a"), UNLIMITED)
        for _ in range(100):
            await deferLater(self.real, 0)
        self.assertFalse(adding.called)
        locker.release()
        job, _ = await adding
        self.assertEqual(job.id, "a")
        await locker.unlocked

    async def test_locked_for_long(self) -> None:
        """
        A job that waits too long for the lock is refused; what must be kept is stored when
        the lock is released.
        """
        store = self.opened(_Impatient)
        await store.add(new_job("a"), UNLIMITED)
        locker = await self.lock()
        adding: Any = await self.assertFailure(
            store.add(new_job("b"), UNLIMITED), StorageUnavailable
        )
        self.assertEqual(adding.reason, "database is locked")
        ended = store.mark_ended("a", "done", JobAnswer({}), 5.0)
        job = await store.get("a")
        assert job is not None
        self.assertEqual(job.state, "queued")
        self.assertFalse(ended.called)
        locker.release()
        await locker.unlocked
        job = await ended
        assert job is not None
        self.assertEqual(job, evolve(job, state="done", ended=5.0))
