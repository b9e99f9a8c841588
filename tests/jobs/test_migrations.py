"""
Tests for opening databases of other versions with `kiroworkers.jobs.store`.
"""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

from treq.testing import StubTreq
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.agents import Agent
from kiroworkers.conversations import load_dialect
from kiroworkers.errors import CannotStart, ErrorCode
from kiroworkers.jobs.job import JobAnswer, JobFailure
from kiroworkers.jobs.paths import jobs_file
from kiroworkers.jobs.store import JobStore
from kiroworkers.jobs.stored_response import IdempotencyKey
from kiroworkers.pool.agent_groups import AgentGroup, AgentGroups
from kiroworkers.tasks import builtin_tasks
from kiroworkers.testing import MemoryKiro, MemoryReactor
from kiroworkers.web.app import Application
from kiroworkers.web.auth import Authorizer
from kiroworkers.web.tokens import read_tokens
from tests import fakekiro
from tests.jobs import schema1
from tests.jobs.support import job_service_in, new_job
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

    def opened(self) -> JobStore:
        store = JobStore()
        store.open(self.file)
        self.addCleanup(store.close)
        return store

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
            done, failed = store.get("done"), store.get("answer_unfit")
            assert done is not None and failed is not None
            assert isinstance(done.result, JobAnswer) and isinstance(failed.result, JobFailure)
            self.assertEqual(
                (done.result.value["big"], done.result.worker), (12345678901234567890, None)
            )
            self.assertIs(failed.result.code, ErrorCode.ANSWER_UNFIT)
            self.assertEqual(set(failed.result.details), {"reasons", "worker", "request"})
            record = store.find_record(IdempotencyKey("ann", "generate-story", "k1"))
            assert record is not None and record.response is not None
            self.assertEqual(record.response.body, {"title": "x"})
            self.assertEqual(record.response.headers["Worker"], "worker1")

    def test_all_or_nothing(self) -> None:
        """
        A database that cannot be migrated is refused, and stays as it was.
        """
        schema1.write_database(self.file, "ann", "kiro")
        with sqlite3.connect(self.file) as db:
            db.execute("UPDATE jobs SET said = '{' WHERE id = 'fault'")
            before = [*db.iterdump()]
        db.close()
        with self.assertRaises(CannotStart) as raised:
            self.opened()
        self.assertIn(str(self.file), str(raised.exception))
        db = sqlite3.connect(self.file)
        self.addCleanup(db.close)
        self.assertEqual(db.execute("PRAGMA user_version").fetchone(), (1,))
        self.assertEqual([*db.iterdump()], before)

    def test_newer(self) -> None:
        """
        The file records the version of its schema; a file of a newer server, or one that is
        no database, is refused with the reason.
        """
        self.opened().close()
        db = sqlite3.connect(self.file)
        [version] = db.execute("PRAGMA user_version").fetchone()
        self.assertEqual(version, 2)
        db.execute(f"PRAGMA user_version = {version + 1}")
        db.close()
        with self.assertRaises(CannotStart) as raised:
            self.opened()
        self.assertEqual(
            str(raised.exception),
            f"kiroworkers: cannot open the jobs in {self.file}: "
            "they were written by a newer server (schema version 3)",
        )
        self.file.write_text("This is no database, however long it may be." * 100)
        with self.assertRaises(CannotStart):
            self.opened()

    def test_unknown_code(self) -> None:
        """
        A failure whose code only a later version knows reads as a bug of the server.
        """
        store = self.opened()
        store.add(new_job("a"))
        store.mark_ended("a", "failed", JobFailure(ErrorCode.SESSION_LOST, "It ended"), 5.0)
        db = sqlite3.connect(self.file, isolation_level=None)
        self.addCleanup(db.close)
        db.execute("UPDATE jobs SET result = replace(result, 'session_lost', 'session_melted')")
        job = store.get("a")
        assert job is not None
        self.assertEqual(job.result, JobFailure(ErrorCode.FAULT, "It ended"))
