"""
Tests for `kiroworkers.jobs.store`, with real files.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.errors import CannotStart
from kiroworkers.jobs.job import IdempotencyKey, Job, StoredResponse, Webhook
from kiroworkers.jobs.store import JobStore
from tests.jobs.support import new_job

KEY = IdempotencyKey("ann", "generate-story", "k1")


class StoreTests(SynchronousTestCase):
    """
    Tests for `JobStore`.
    """

    def setUp(self) -> None:
        self.file = Path(self.mktemp())
        self.store = self.opened()

    def opened(self) -> JobStore:
        store = JobStore()
        store.open(self.file)
        self.addCleanup(store.close)
        return store

    def found(self, id: str) -> Job:
        job = self.store.get(id)
        assert job is not None
        return job

    def test_kept(self) -> None:
        """
        What was added is there for the next who opens the file, though nobody
        closed it, with every field as it was.
        """
        job = new_job(
            "a", payload={"idea": "\ud800é"}, priority=9, timeout=1.5, callback=Webhook("http://x/")
        )
        self.store.add(job, KEY, "print")
        self.store = self.opened()
        self.assertEqual(self.found("a"), evolve(job, number=1))
        record = self.store.record(KEY)
        assert record is not None
        self.assertEqual((record.fingerprint, record.job), ("print", "a"))
        self.assertIsNone(self.store.record(evolve(KEY, client="bob")))

    def test_life(self) -> None:
        """
        A job is unfinished until it has ended, and counts how often it was asked.
        """
        for id in ("a", "b", "c"):
            self.store.add(new_job(id))
        self.assertEqual([self.store.position(self.found(id)) for id in "abc"], [1, 2, 3])
        self.store.started("a")
        self.store.started("a")
        self.assertEqual(self.store.position(self.found("c")), 2)
        self.store.waits("a")
        self.assertEqual((self.found("a").state, self.found("a").attempts), ("queued", 2))
        said = StoredResponse(200, {"title": "x"}, cacheable=True)
        self.store.ended("b", "done", said, 5.0)
        self.assertEqual((self.found("b").said, self.found("b").ended), (said, 5.0))
        self.assertEqual([each.id for each in self.store.unfinished()], ["a", "c"])
        self.assertEqual(self.store.count_unfinished(), 2)

    def test_listed(self) -> None:
        """
        Jobs are listed by page, the newest first, of one client or of all.
        """
        for id, client in [("a", "ann"), ("b", "bob"), ("c", "ann")]:
            self.store.add(new_job(id, client=client))
        self.assertEqual([each.id for each in self.store.listed(None, None, 2)], ["c", "b"])
        self.assertEqual([each.id for each in self.store.listed(None, 2, 2)], ["a"])
        self.assertEqual([each.id for each in self.store.listed("ann", None, 9)], ["c", "a"])

    def test_callbacks(self) -> None:
        """
        The end of a job is to be told from then on, until there is no next time.
        """
        self.store.add(new_job("a", callback=Webhook("http://x/")))
        self.store.add(new_job("b"))
        for id in ("a", "b"):
            self.store.ended(id, "cancelled", None, 5.0)
        [told] = self.store.to_call_back()
        self.assertEqual(told.callback, Webhook("http://x/", 0, 5.0))
        self.store.called_back("a", 9.0)
        self.assertEqual(self.found("a").callback, Webhook("http://x/", 1, 9.0))
        self.store.called_back("a", None)
        self.assertEqual(self.store.to_call_back(), [])

    def test_forgotten(self) -> None:
        """
        What is old is forgotten, a job's key with it; what is unfinished or still
        to be told is not.
        """
        self.store.add(new_job("old"), KEY, "print")
        self.store.add(new_job("untold", callback=Webhook("http://x/")))
        self.store.add(new_job("waits"))
        other = evolve(KEY, key="k2")
        self.store.keep(other, "print", StoredResponse(200, {}), 4.0)
        self.assertEqual(self.store.oldest(), 4.0)
        for id in ("old", "untold"):
            self.store.ended(id, "cancelled", None, 5.0)
        self.store.forget(4.0)
        self.assertIsNone(self.store.record(other))
        self.assertIsNotNone(self.store.record(KEY))
        self.assertEqual(self.store.oldest(), 5.0)
        self.store.forget(5.0)
        self.assertIsNone(self.store.record(KEY))
        self.assertEqual(
            [each.id for each in self.store.listed(None, None, 9)], ["waits", "untold"]
        )
        self.assertIsNone(self.store.oldest())

    def test_forgotten_by_and_by(self) -> None:
        """
        Not more than so much is forgotten at once.
        """
        for id in ("a", "b", "c"):
            self.store.add(new_job(id))
            self.store.ended(id, "cancelled", None, 5.0)
            self.store.keep(evolve(KEY, key=id), "print", StoredResponse(200, {}), 5.0)
        self.store.forget(5.0, limit=2)
        self.assertEqual([each.id for each in self.store.listed(None, None, 9)], ["c"])
        self.assertEqual(self.store.oldest(), 5.0)
        self.store.forget(5.0, limit=2)
        self.assertIsNone(self.store.oldest())

    def test_all_or_nothing(self) -> None:
        """
        A job that cannot be added leaves no key.
        """
        self.store.add(new_job("a"))
        with self.assertRaises(sqlite3.IntegrityError):
            self.store.add(new_job("a"), KEY, "print")
        self.assertIsNone(self.store.record(KEY))
        self.store.add(new_job("b"), KEY, "print")

    def test_versions(self) -> None:
        """
        The file says which version of the schema it has; one of a newer server, or
        one that is no database, is left alone.
        """
        self.store.close()
        db = sqlite3.connect(self.file)
        self.assertEqual(db.execute("PRAGMA user_version").fetchone(), (1,))
        db.execute("PRAGMA user_version = 99")
        db.close()
        with self.assertRaises(CannotStart) as raised:
            self.opened()
        self.assertIn("of a newer server", str(raised.exception))
        self.file.write_text("This is no database, however long it may be." * 100)
        with self.assertRaises(CannotStart):
            self.opened()
