"""
Tests for opening databases of other versions with `kiroworkers.jobs.schema`.
"""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

from attrs import evolve
from treq.testing import StubTreq
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.agents import Agent
from kiroworkers.conversations import load_dialect
from kiroworkers.errors import CannotStart, ErrorCode, JobsTooLarge
from kiroworkers.jobs.job import Job, JobAnswer, JobFailure, Webhook
from kiroworkers.jobs.paths import jobs_file
from kiroworkers.jobs.sqlite_store import SqliteStore
from kiroworkers.jobs.stored_response import IdempotencyKey
from kiroworkers.pool.agent_groups import AgentGroup, AgentGroups
from kiroworkers.tasks import builtin_tasks
from kiroworkers.testing import MemoryKiro, MemoryReactor
from kiroworkers.web.app import Application
from kiroworkers.web.auth import Authorizer
from kiroworkers.web.tokens import read_tokens
from tests import fakekiro
from tests.jobs import schema1
from tests.jobs.support import UNLIMITED, job_service_in, memory_store, new_job
from tests.memory import dispatcher_in

TOKEN = "a-token-of-the-tests"


class MigrationTests(SynchronousTestCase):
    """
    Tests for databases that other versions wrote.
    """

    def setUp(self) -> None:
        self.state = Path(self.mktemp())
        self.state.mkdir()
        self.file = jobs_file(self.state)

    def opened(self) -> SqliteStore:
        store = memory_store(Clock(), lambda: 2000.0, self.file)
        self.addCleanup(store.close)
        return store

    def stored(self, store: SqliteStore, id: str) -> Job:
        job = self.successResultOf(store.get(id))
        assert job is not None
        return job

    def token_file(self) -> Path:
        file = self.state / "tokens"
        file.write_text(f"ann ask {TOKEN}\n")
        return file

    def test_over_http(self) -> None:
        """
        Every job of a database with version 1 of the schema reads over HTTP as it did, those
        that had not ended run, and stored responses are replayed.
        """
        reactor = MemoryReactor(lambda: MemoryKiro(fakekiro.answer_text))
        dispatcher = dispatcher_in(reactor, workers=1)
        agent = Agent(load_dialect("kiro-classic"), "chosen", "/bin/kiro", (), {})
        groups, tasks = AgentGroups([AgentGroup(agent, dispatcher)]), builtin_tasks()
        expected = schema1.write_database(self.file, "ann", groups.default.name, reactor.seconds())
        job_service = job_service_in(reactor, groups, tasks, self.state)
        self.addCleanup(job_service.close)
        authorizer = Authorizer()
        authorizer.tokens = tuple(read_tokens(self.token_file()))
        application = Application(reactor, groups, tasks, authorizer, job_service)
        client: Any = StubTreq(application.resource())
        dispatcher.startService()
        reactor.pump([1] * 100)

        def send(method: str, path: str, **kwargs: Any) -> tuple[Any, Any]:
            headers = {"Authorization": f"Bearer {TOKEN}", **kwargs.pop("headers", {})}
            pending = client.request(method, f"http://localhost{path}", headers=headers, **kwargs)
            client.flush()
            response = self.successResultOf(pending)
            return response, json.loads(self.successResultOf(response.content()))

        read = {id: send("GET", f"/jobs/{id}")[1] for id in expected}
        self.assertEqual(read, expected)
        for id in ("queued", "running"):
            _, job = send("GET", f"/jobs/{id}")
            self.assertEqual((job["state"], job["result"]["title"]), ("done", "An idea"))
        self.assertEqual(len(send("GET", "/jobs")[1]["jobs"]), len(expected) + 2)
        response, story = send(
            "POST",
            "/kiro/generate-story",
            json={"idea": "An idea"},
            headers={"Idempotency-Key": "k1"},
        )
        self.assertEqual((response.code, story), (200, {"title": "x"}))
        for name, value in [
            ("idempotency-replayed", "true"),
            ("x-kiroworkers-worker", "worker1"),
            ("x-kiroworkers-attempts", "1"),
        ]:
            self.assertEqual(response.headers.getRawHeaders(name), [value])

    def test_stored(self) -> None:
        """
        The responses of jobs become results once, and those under idempotency keys stay.
        """
        schema1.write_database(self.file, "ann", "kiro")
        for store in (self.opened(), self.opened()):
            done, failed = self.stored(store, "done"), self.stored(store, "answer_unfit")
            assert isinstance(done.result, JobAnswer) and isinstance(failed.result, JobFailure)
            self.assertEqual(
                (done.result.value["big"], done.result.worker), (12345678901234567890, None)
            )
            self.assertIs(failed.result.code, ErrorCode.ANSWER_UNFIT)
            self.assertEqual(set(failed.result.details), {"reasons", "worker", "request"})
            key = IdempotencyKey("ann", "generate-story", "k1")
            record = self.successResultOf(store.find_record(key))
            assert record is not None and record.response is not None
            self.assertEqual(record.response.body, {"title": "x"})
            self.assertEqual(record.response.headers["Worker"], "worker1")

    def test_unreadable(self) -> None:
        """
        A job that cannot be read is set aside, with its key, and the others are migrated.
        """
        schema1.write_database(self.file, "ann", "kiro")
        with sqlite3.connect(self.file) as db:
            db.execute("UPDATE jobs SET said = '{' WHERE id = 'fault'")
            db.execute("UPDATE jobs SET said = ? WHERE id = 'unknown_task'", (b"\xff",))
            db.execute("UPDATE jobs SET asked = 'x' WHERE id = 'queued'")
        db.close()
        store = self.opened()
        for id in ("fault", "unknown_task", "queued"):
            self.assertIsNone(self.successResultOf(store.get(id)))
        self.assertEqual(self.stored(store, "done").state, "done")
        self.assertEqual([job.id for job in self.successResultOf(store.unfinished())], ["running"])
        db = sqlite3.connect(self.file)
        self.addCleanup(db.close)
        aside = dict(db.execute("SELECT id, said FROM unreadable_jobs"))
        self.assertEqual(aside.keys(), {"fault", "unknown_task", "queued"})
        self.assertEqual(aside["fault"], "{")

    def test_version_2(self) -> None:
        """
        A database with version 2 of the schema reads as it did, without the inputs of jobs
        that have ended; the sizes of the jobs count, and the file can shrink.
        """
        script = Path(__file__).with_name("schema2.sql").read_text(encoding="utf-8")
        with sqlite3.connect(self.file) as db:
            db.executescript(script)
        db.close()
        store = self.opened()
        states = {
            "done": 1, "failed": 1, "cancelled": 0, "queued": 0, "running": 1,
        }  # fmt: skip
        for id, attempts in states.items():
            job = self.stored(store, id)
            self.assertEqual((job.state, job.attempts), (id, attempts))
            self.assertEqual(job.payload, {"idea": "An idea"} if job.unfinished else {})
        self.assertEqual(
            self.stored(store, "done").result, JobAnswer({"title": "x"}, "worker1", 1, 0, 2.5)
        )
        failed = self.stored(store, "failed")
        self.assertEqual((failed.priority, failed.timeout, failed.ended), (9, 1.5, 1006.0))
        self.assertEqual(failed.callback, Webhook("https://hooks.example.com/", 0, 1006.0))
        for key, expected in [("k1", "done"), ("k2", None)]:
            record = self.successResultOf(
                store.find_record(IdempotencyKey("ann", "generate-story", key))
            )
            assert record is not None
            self.assertEqual(
                (record.job, record.response is None), (expected, expected is not None)
            )
        limits = evolve(UNLIMITED, client_bytes=230)
        self.failureResultOf(store.add(new_job("new"), limits), JobsTooLarge)
        self.successResultOf(store.add(new_job("new", client="bob"), limits))
        db = sqlite3.connect(self.file)
        self.addCleanup(db.close)
        self.assertEqual(db.execute("PRAGMA auto_vacuum").fetchone(), (2,))

    def test_newer(self) -> None:
        """
        The file records the version of its schema; a file of a newer server, or one that is
        no database, is refused with the reason.
        """
        self.opened().close()
        db = sqlite3.connect(self.file)
        [version] = db.execute("PRAGMA user_version").fetchone()
        self.assertEqual(version, 5)
        db.execute(f"PRAGMA user_version = {version + 1}")
        db.close()
        with self.assertRaises(CannotStart) as raised:
            self.opened()
        self.assertEqual(
            str(raised.exception),
            f"kiroworkers: cannot open the jobs in {self.file}: "
            "they were written by a newer server (schema version 6)",
        )
        self.file.write_text("This is no database, however long it may be." * 100)
        with self.assertRaises(CannotStart):
            self.opened()

    def test_unknown_code(self) -> None:
        """
        A failure whose code only a later version knows reads as a bug of the server.
        """
        store = self.opened()
        store.add(new_job("a"), UNLIMITED)
        store.mark_ended("a", "failed", JobFailure(ErrorCode.SESSION_LOST, "It ended"), 5.0)
        db = sqlite3.connect(self.file, isolation_level=None)
        self.addCleanup(db.close)
        db.execute("UPDATE jobs SET result = replace(result, 'session_lost', 'session_melted')")
        self.assertEqual(self.stored(store, "a").result, JobFailure(ErrorCode.FAULT, "It ended"))
