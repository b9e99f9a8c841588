"""
Tests for `kiroworkers.jobs.store`: what holds for every `JobStore`.

Whoever subclasses `StoreContract` opens a store in ``setUp``, and says how its jobs are run.  The
tests of this module alone are not collected.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from kiroworkers.errors import ErrorCode, IdempotencyKeyMismatch, JobsTooLarge, TooManyJobs
from kiroworkers.jobs.job import Job, JobAnswer, JobFailure, JobState, Webhook
from kiroworkers.jobs.store import JobLimits, JobStore, QueueStore, StorageStatus
from kiroworkers.jobs.stored_response import IdempotencyKey, StoredResponse
from tests.jobs.support import UNLIMITED, new_job

KEY = IdempotencyKey("ann", "generate-story", "k1")

ANSWER = JobAnswer({"title": "x"}, "worker1", 2, 1, 3.5, 0.25, 3.5)

#: The size of a large payload, in characters.
_LARGE = 900_000


class StoreContract(TestCase):
    """
    Test what every store must do.

    Attributes:
        store: An empty store.
    """

    store: JobStore

    async def start(self, id: str) -> None:
        """
        Give the job `id`, which must be the next one, to a worker.
        """
        raise NotImplementedError

    async def put_back(self, id: str) -> None:
        """
        Put the job `id`, which was started and asked its agent, back into the queue.
        """
        raise NotImplementedError

    async def finish(self, id: str, state: JobState, result: JobAnswer | JobFailure) -> Job | None:
        """
        Record the end of a job, and return it, or None if it is not unfinished any more.

        Its result need not be returned.
        """
        raise NotImplementedError

    async def add(self, id: str, key: IdempotencyKey | None = None, **fields: object) -> Job:
        job, _ = await self.store.add(new_job(id, **fields), UNLIMITED, key, "print")
        return job

    async def stored(self, id: str) -> Job:
        job = await self.store.get(id)
        assert job is not None
        return job

    async def refused(self, adding: Deferred[Any]) -> JobsTooLarge:
        """
        Return the error of a job that is too large.
        """
        error: Any = await self.assertFailure(adding, JobsTooLarge)
        assert isinstance(error, JobsTooLarge)
        return error

    async def ids(self, client: str | None = None, before: int | None = None) -> list[str]:
        return [job.id for job in await self.store.list_jobs(client, before, 9)]

    async def test_added(self) -> None:
        """
        A job is stored with every field as it was, and recorded under its key.
        """
        job = new_job(
            "a",
            payload={"idea": "\ud800é"},
            priority=9,
            timeout=1.5,
            callback=Webhook("http://x/"),
            model="gpt-5",
            request_id="request-1",
            traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        )
        stored, is_new = await self.store.add(job, UNLIMITED, KEY, "print")
        self.assertEqual((stored, is_new), (evolve(job, number=1, position=1), True))
        self.assertEqual(await self.store.get("a"), stored)
        record = await self.store.find_record(KEY)
        assert record is not None
        self.assertEqual((record.fingerprint, record.job), ("print", "a"))
        self.assertIsNone(await self.store.find_record(evolve(KEY, client="bob")))
        self.assertIsNone(await self.store.get("b"))

    async def test_added_once(self) -> None:
        """
        One job is added for each key, whatever its state; another request under the key is
        rejected.
        """
        adding = [self.store.add(new_job(id), UNLIMITED, KEY, "print") for id in ("a", "b")]
        self.assertEqual([(await added)[1] for added in adding], [True, False])
        await self.finish("a", "done", ANSWER)
        job, is_new = await self.store.add(new_job("c"), UNLIMITED, KEY, "print")
        self.assertEqual((job.id, job.state, is_new), ("a", "done", False))
        other = self.store.add(new_job("d"), UNLIMITED, KEY, "another")
        await self.assertFailure(other, IdempotencyKeyMismatch)
        self.assertEqual(await self.ids(), ["a"])

    async def test_life(self) -> None:
        """
        A job counts its attempts, and keeps its result; its payload is deleted when it ends.
        """
        for id in ("a", "b", "c"):
            await self.add(id)
        self.assertEqual([(await self.stored(id)).position for id in "abc"], [1, 2, 3])
        await self.start("a")
        job = await self.stored("a")
        self.assertEqual((job.state, job.attempts, job.position), ("running", 1, None))
        self.assertEqual((await self.stored("c")).position, 2)
        await self.put_back("a")
        job = await self.stored("a")
        self.assertEqual((job.state, job.attempts, job.payload), ("queued", 1, {"idea": "a"}))
        ended = await self.finish("b", "done", ANSWER)
        assert ended is not None
        self.assertEqual(evolve(ended, result=ANSWER), await self.stored("b"))
        self.assertIsNotNone(ended.ended)
        self.assertEqual(ended.payload, {})
        failure = JobFailure(
            ErrorCode.ANSWER_UNFIT, "It does not fit", 4, {"reasons": ["no title"]}
        )
        await self.finish("c", "failed", failure)
        await self.store.cancel("a", 6.0)
        job = await self.stored("a")
        self.assertEqual((job.state, job.result, job.payload), ("cancelled", None, {}))
        self.assertEqual((await self.stored("c")).result, failure)

    async def test_ended_for_good(self) -> None:
        """
        Nothing changes the end of a job, also if it is recorded late.
        """
        await self.add("a")
        await self.start("a")
        cancelled = await self.store.cancel("a", 5.0)
        assert cancelled is not None
        self.assertEqual(cancelled, await self.stored("a"))
        self.assertIsNone(await self.finish("a", "done", ANSWER))
        self.assertIsNone(await self.store.cancel("a", 6.0))
        await self.put_back("a")
        job = await self.stored("a")
        self.assertEqual((job.state, job.ended, job.attempts), ("cancelled", 5.0, 1))
        self.assertIsNone(await self.finish("b", "done", ANSWER))
        self.assertIsNone(await self.store.cancel("b", 6.0))

    async def test_late_result(self) -> None:
        """
        A result is kept that arrives after its job was put back, if nobody has begun anew.
        """
        await self.add("a")
        await self.start("a")
        await self.put_back("a")
        await self.finish("a", "done", ANSWER)
        job = await self.stored("a")
        self.assertEqual((job.state, job.result, job.attempts), ("done", ANSWER, 1))

    async def test_deleted_while_running(self) -> None:
        """
        A job that is deleted while it runs has no result, and does not count as unfinished.
        """
        await self.add("a")
        await self.start("a")
        await self.store.withdraw("a")
        self.assertIsNone(await self.finish("a", "done", ANSWER))
        self.assertEqual(await self.ids(), [])
        await self.store.add(new_job("b"), evolve(UNLIMITED, unfinished=1))

    async def test_listed(self) -> None:
        """
        Jobs are listed by page, newest first, of one client or of all, without payloads
        and results.
        """
        for id, client in [("a", "ann"), ("b", "bob"), ("c", "ann")]:
            await self.add(id, client=client)
        await self.finish("a", "done", ANSWER)
        listed = await self.store.list_jobs(None, 3, 2)
        self.assertEqual([(job.id, job.result, job.payload) for job in listed],
                         [("b", None, {}), ("a", None, {})])  # fmt: skip
        self.assertEqual(await self.ids(), ["c", "b", "a"])
        self.assertEqual(await self.ids("ann"), ["c", "a"])
        self.assertEqual(await self.ids("ann", 3), ["a"])

    async def test_deleted(self) -> None:
        """
        A job is deleted with its key, and so is one that nobody knows of yet.
        """
        await self.add("a", KEY)
        await self.store.delete("a")
        await self.add("b", KEY)
        await self.store.withdraw("b")
        self.assertIsNone(await self.store.find_record(KEY))
        self.assertEqual(await self.ids(), [])

    async def test_webhooks(self) -> None:
        """
        A webhook is pending from the end of its job until no further attempt is due.
        """
        await self.add("a", callback=Webhook("http://x/"))
        await self.add("b")
        for id in ("a", "b"):
            await self.store.cancel(id, 5.0)
        [pending] = await self.store.pending_webhooks()
        self.assertEqual(pending.callback, Webhook("http://x/", 0, 5.0))
        attempted = await self.store.record_webhook_attempt("a", 9.0)
        assert attempted is not None
        self.assertEqual(attempted.callback, Webhook("http://x/", 1, 9.0))
        self.assertEqual((await self.stored("a")).callback, Webhook("http://x/", 1, 9.0))
        await self.store.record_webhook_attempt("a", None)
        self.assertEqual(await self.store.pending_webhooks(), [])
        self.assertIsNone(await self.store.record_webhook_attempt("gone", 9.0))

    async def test_responses(self) -> None:
        """
        A response is found under its key, as it was; no job can be added under that key.
        """
        response = StoredResponse(200, {"title": "\ud800"}, {"Worker": "worker1"}, cacheable=True)
        await self.store.save_response(KEY, "print", response, 4.0)
        record = await self.store.find_record(KEY)
        assert record is not None
        self.assertEqual((record.fingerprint, record.job), ("print", None))
        self.assertEqual(record.response, response)
        job = self.store.add(new_job("a"), UNLIMITED, KEY, "another")
        await self.assertFailure(job, IdempotencyKeyMismatch)
        self.assertEqual(await self.ids(), [])

    async def test_reserved(self) -> None:
        """
        The server that reserves a key executes the request, and again if the key was released;
        once there is a response or a job, everybody who reserves the key learns of it.
        """
        self.assertIsNone(await self.store.reserve_key(KEY, "print"))
        self.assertIsNone(await self.store.find_record(KEY))
        await self.store.release_key(KEY)
        self.assertIsNone(await self.store.reserve_key(KEY, "another"))
        response = StoredResponse(200, {"title": "x"}, cacheable=True)
        await self.store.save_response(KEY, "another", response, 4.0)
        await self.store.release_key(KEY)
        record = await self.store.reserve_key(KEY, "print")
        assert record is not None
        self.assertEqual(record, await self.store.find_record(KEY))
        self.assertEqual((record.fingerprint, record.job), ("another", None))
        self.assertEqual((record.response, record.in_progress), (response, False))
        other = evolve(KEY, key="k2")
        await self.add("a", other)
        record = await self.store.reserve_key(other, "print")
        assert record is not None
        self.assertEqual((record.job, record.in_progress), ("a", False))
        await self.store.release_key(other)
        self.assertIsNotNone(await self.store.find_record(other))

    async def test_released_for_job(self) -> None:
        """
        A job can be added under a key that was reserved and released.
        """
        await self.store.reserve_key(KEY, "print")
        await self.store.release_key(KEY)
        await self.add("a", KEY)
        record = await self.store.find_record(KEY)
        assert record is not None
        self.assertEqual(record.job, "a")

    async def test_any_text(self) -> None:
        """
        Texts may contain NUL characters, backslashes and quotes, and values lone surrogates.
        """
        text = "a\0b\\u0000'\"%s é\n"
        value = {"idea": text + "\ud800", "\udfff\0": [1e300, 2**70, None]}
        webhook = Webhook(f"http://x/{text}")
        job = new_job(
            f"id-{text}",
            client=text,
            task=text,
            model=text,
            payload=value,
            callback=webhook,
            request_id=text,
            traceparent=text,
        )
        key = IdempotencyKey(text, text, text)
        stored, _ = await self.store.add(job, UNLIMITED, key, "print")
        self.assertEqual(stored, evolve(job, number=1, position=1))
        self.assertEqual(await self.store.get(job.id), stored)
        self.assertEqual(await self.ids(text), [job.id])
        self.assertIsNone(await self.store.get("id-a"))
        again, is_new = await self.store.add(
            new_job("b", client=text, task=text), UNLIMITED, key, "print"
        )
        self.assertEqual((again, is_new), (stored, False))
        answer = JobAnswer(value, text)
        await self.finish(job.id, "done", answer)
        self.assertEqual((await self.stored(job.id)).result, answer)
        [pending] = await self.store.pending_webhooks()
        assert pending.callback is not None
        self.assertEqual((pending.id, pending.callback.url), (job.id, webhook.url))
        other = evolve(key, key=f"{text}2")
        self.assertIsNone(await self.store.reserve_key(other, "print"))
        response = StoredResponse(200, value, {"Worker": text}, cacheable=True)
        await self.store.save_response(other, "print", response, 5.0)
        record = await self.store.find_record(other)
        assert record is not None
        self.assertEqual(record.response, response)
        await self.store.delete(job.id)
        self.assertEqual(await self.ids(), [])

    async def test_large(self) -> None:
        """
        Payloads, results and responses of several megabytes are stored.
        """
        value = {"idea": "xé\ud800" * (_LARGE // 3)}
        await self.add("a", payload=value)
        self.assertEqual((await self.stored("a")).payload, value)
        await self.finish("a", "done", JobAnswer(value))
        self.assertEqual((await self.stored("a")).result, JobAnswer(value))
        response = StoredResponse(200, value, cacheable=True)
        await self.store.save_response(KEY, "print", response, 5.0)
        record = await self.store.reserve_key(KEY, "print")
        assert record is not None
        self.assertEqual(record.response, response)

    async def test_expired(self) -> None:
        """
        Old jobs, their keys and old responses are deleted; unfinished jobs and those with
        a pending webhook are not.
        """
        await self.add("old", KEY)
        await self.add("untold", callback=Webhook("http://x/"))
        await self.add("waits")
        other = evolve(KEY, key="k2")
        await self.store.save_response(other, "print", StoredResponse(200, {}), 4.0)
        self.assertEqual(await self.store.oldest(), 4.0)
        for id in ("old", "untold"):
            await self.store.cancel(id, 5.0)
        self.assertTrue(await self.store.delete_expired(4.0))
        self.assertIsNone(await self.store.find_record(other))
        self.assertIsNotNone(await self.store.find_record(KEY))
        self.assertEqual(await self.store.oldest(), 5.0)
        await self.store.delete_expired(5.0)
        self.assertIsNone(await self.store.find_record(KEY))
        self.assertEqual(await self.ids(), ["waits", "untold"])
        self.assertIsNone(await self.store.oldest())

    async def test_expired_in_batches(self) -> None:
        """
        The number of records that one call deletes is limited.
        """
        for id in ("a", "b", "c"):
            await self.add(id)
            await self.store.cancel(id, 5.0)
            key = evolve(KEY, key=id)
            await self.store.save_response(key, "print", StoredResponse(200, {}), 5.0)
        await self.store.delete_expired(5.0, limit=2)
        self.assertEqual(await self.ids(), ["c"])
        self.assertEqual(await self.store.oldest(), 5.0)
        await self.store.delete_expired(5.0, limit=2)
        self.assertIsNone(await self.store.oldest())

    async def test_limited_number(self) -> None:
        """
        The number of unfinished jobs is limited, also if they are added at the same time.
        """
        limits = evolve(UNLIMITED, unfinished=2)
        adding = [self.store.add(new_job(id), limits) for id in "abc"]
        await adding[0]
        await adding[1]
        await self.assertFailure(adding[2], TooManyJobs)
        await self.store.cancel("a", 5.0)
        await self.store.add(new_job("d"), limits)
        self.assertEqual(await self.ids(), ["d", "b", "a"])

    async def test_limited_size(self) -> None:
        """
        The size of the jobs is limited, for each client and in all; it counts the inputs
        of unfinished jobs and the results of the others, until they are deleted.
        """
        limits = JobLimits(100, total_bytes=400, client_bytes=250)
        payload = {"idea": "x" * 86}
        for id in ("a", "b"):
            await self.store.add(new_job(id, payload=payload), limits)
        third = await self.refused(self.store.add(new_job("c", payload=payload), limits))
        self.assertEqual((third.limit, third.whose), (250, "client"))
        for client in ("bob", "cat"):
            await self.store.add(new_job(client, payload=payload, client=client), limits)
        fifth = await self.refused(
            self.store.add(new_job("e", payload=payload, client="eve"), limits)
        )
        self.assertEqual((fifth.limit, fifth.whose), (400, "server"))
        await self.store.cancel("cat", 5.0)
        await self.finish("a", "done", JobAnswer({"title": "x" * 200}))
        await self.refused(self.store.add(new_job("c", payload=payload), limits))
        await self.store.delete("a")
        await self.store.add(new_job("c", payload=payload), limits)

    async def test_status(self) -> None:
        """
        The storage works.
        """
        await self.add("a")
        self.assertEqual(self.store.status, StorageStatus())
        self.store.check_available()


class QueueStoreContract(StoreContract):
    """
    Run the jobs of a `QueueStore`, whose server counts the attempts.
    """

    store: QueueStore

    async def start(self, id: str) -> None:
        self.attempts[id] += 1
        await self.store.mark_started(id, self.attempts[id])

    async def put_back(self, id: str) -> None:
        await self.store.requeue(id)

    async def finish(self, id: str, state: JobState, result: JobAnswer | JobFailure) -> Job | None:
        return await self.store.mark_ended(id, state, result, 5.0)

    def setUp(self) -> None:
        self.attempts: Counter[str] = Counter()

    async def test_unfinished(self) -> None:
        """
        The jobs that are queued or running are those that a next server runs, oldest first.
        """
        for id in ("a", "b", "c"):
            await self.add(id)
        await self.start("a")
        await self.finish("b", "done", ANSWER)
        unfinished = await self.store.unfinished()
        self.assertEqual([(job.id, job.state) for job in unfinished],
                         [("a", "running"), ("c", "queued")])  # fmt: skip
        await self.store.cancel("a", 5.0)
        await self.start("a")
        self.assertEqual([job.id for job in await self.store.unfinished()], ["c"])
