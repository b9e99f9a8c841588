"""
Tests for `kiroworkers.jobs.store`, with real files.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.errors import ErrorCode
from kiroworkers.jobs.job import Job, JobAnswer, JobFailure, Webhook
from kiroworkers.jobs.store import JobStore
from kiroworkers.jobs.stored_response import IdempotencyKey, StoredResponse
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

    def stored(self, id: str) -> Job:
        job = self.store.get(id)
        assert job is not None
        return job

    def test_kept(self) -> None:
        """
        A job is in the file for the next store that opens it, even if the first one was
        not closed, with every field as it was.
        """
        job = new_job(
            "a", payload={"idea": "\ud800é"}, priority=9, timeout=1.5, callback=Webhook("http://x/")
        )
        self.store.add(job, KEY, "print")
        self.store = self.opened()
        self.assertEqual(self.stored("a"), evolve(job, number=1))
        record = self.store.find_record(KEY)
        assert record is not None
        self.assertEqual((record.fingerprint, record.job), ("print", "a"))
        self.assertIsNone(self.store.find_record(evolve(KEY, client="bob")))

    def test_life(self) -> None:
        """
        A job is unfinished until it has ended, counts its attempts, and keeps its result.
        """
        for id in ("a", "b", "c"):
            self.store.add(new_job(id))
        self.assertEqual([self.store.position(self.stored(id)) for id in "abc"], [1, 2, 3])
        self.store.mark_started("a")
        self.store.mark_started("a")
        self.assertEqual(self.store.position(self.stored("c")), 2)
        self.store.requeue("a")
        self.assertEqual((self.stored("a").state, self.stored("a").attempts), ("queued", 2))
        answer = JobAnswer({"title": "x"}, "worker1", 2, 1, 3.5)
        self.store.mark_ended("b", "done", answer, 5.0)
        self.assertEqual((self.stored("b").result, self.stored("b").ended), (answer, 5.0))
        self.assertEqual([job.id for job in self.store.unfinished()], ["a", "c"])
        self.assertEqual(self.store.count_unfinished(), 2)
        failure = JobFailure(
            ErrorCode.ANSWER_UNFIT, "It does not fit", 4, {"reasons": ["no title"]}
        )
        self.store.mark_ended("c", "failed", failure, 6.0)
        self.store.mark_ended("a", "cancelled", None, 6.0)
        self.assertEqual((self.stored("c").result, self.stored("a").result), (failure, None))
        self.assertEqual(self.store.count_unfinished(), 0)

    def test_listed(self) -> None:
        """
        Jobs are listed by page, newest first, of one client or of all, without results.
        """
        for id, client in [("a", "ann"), ("b", "bob"), ("c", "ann")]:
            self.store.add(new_job(id, client=client))
        self.store.mark_ended("a", "done", JobAnswer({"title": "x"}), 5.0)
        self.assertIsNone(self.store.list_jobs(None, 2, 2)[0].result)
        self.assertEqual([job.id for job in self.store.list_jobs(None, None, 2)], ["c", "b"])
        self.assertEqual([job.id for job in self.store.list_jobs(None, 2, 2)], ["a"])
        self.assertEqual([job.id for job in self.store.list_jobs("ann", None, 9)], ["c", "a"])

    def test_callbacks(self) -> None:
        """
        A webhook is pending from the end of its job until no further attempt is due.
        """
        self.store.add(new_job("a", callback=Webhook("http://x/")))
        self.store.add(new_job("b"))
        for id in ("a", "b"):
            self.store.mark_ended(id, "cancelled", None, 5.0)
        [pending] = self.store.pending_webhooks()
        self.assertEqual(pending.callback, Webhook("http://x/", 0, 5.0))
        self.store.record_webhook_attempt("a", 9.0)
        self.assertEqual(self.stored("a").callback, Webhook("http://x/", 1, 9.0))
        self.store.record_webhook_attempt("a", None)
        self.assertEqual(self.store.pending_webhooks(), [])

    def test_expired(self) -> None:
        """
        Old jobs, their keys and old responses are deleted; unfinished jobs and those with
        a pending webhook are not.
        """
        self.store.add(new_job("old"), KEY, "print")
        self.store.add(new_job("untold", callback=Webhook("http://x/")))
        self.store.add(new_job("waits"))
        other = evolve(KEY, key="k2")
        self.store.save_response(other, "print", StoredResponse(200, {}), 4.0)
        self.assertEqual(self.store.oldest(), 4.0)
        for id in ("old", "untold"):
            self.store.mark_ended(id, "cancelled", None, 5.0)
        self.store.delete_expired(4.0)
        self.assertIsNone(self.store.find_record(other))
        self.assertIsNotNone(self.store.find_record(KEY))
        self.assertEqual(self.store.oldest(), 5.0)
        self.store.delete_expired(5.0)
        self.assertIsNone(self.store.find_record(KEY))
        self.assertEqual(
            [job.id for job in self.store.list_jobs(None, None, 9)], ["waits", "untold"]
        )
        self.assertIsNone(self.store.oldest())

    def test_expired_in_batches(self) -> None:
        """
        The number of records that one call deletes is limited.
        """
        for id in ("a", "b", "c"):
            self.store.add(new_job(id))
            self.store.mark_ended(id, "cancelled", None, 5.0)
            self.store.save_response(evolve(KEY, key=id), "print", StoredResponse(200, {}), 5.0)
        self.store.delete_expired(5.0, limit=2)
        self.assertEqual([job.id for job in self.store.list_jobs(None, None, 9)], ["c"])
        self.assertEqual(self.store.oldest(), 5.0)
        self.store.delete_expired(5.0, limit=2)
        self.assertIsNone(self.store.oldest())

    def test_all_or_nothing(self) -> None:
        """
        A job that cannot be added leaves no key.
        """
        self.store.add(new_job("a"))
        with self.assertRaises(sqlite3.IntegrityError):
            self.store.add(new_job("a"), KEY, "print")
        self.assertIsNone(self.store.find_record(KEY))
        self.store.add(new_job("b"), KEY, "print")
