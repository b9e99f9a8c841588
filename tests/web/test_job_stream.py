"""
Tests for `kiroworkers.web.job_stream`.
"""

from __future__ import annotations

import json
import re
from random import Random
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.errors import ErrorCode, InvalidInput
from kiroworkers.jobs.job import Job, JobAnswer, JobFailure, JobState
from kiroworkers.jobs.job_events import JobEvents
from kiroworkers.jobs.sqlite_store import SqliteStore
from kiroworkers.pool.progress import PartialText, Retrying, Started
from kiroworkers.web.events import MAX_UNREAD
from kiroworkers.web.job_stream import JobStream
from tests.jobs.support import UNLIMITED, HeldExecutor, memory_store, new_job
from tests.web.streams import streamed_request

_EVENT = re.compile(r"id: (\S+)\nevent: (\w+)\ndata: (.*)\n\n")


class Stream:
    """
    Request the events of a job.

    Attributes:
        request: The request.
        done: Fires when its response is complete.
    """

    def __init__(
        self, stream: JobStream, job: Job, last: str | None = None, query: str | None = None
    ) -> None:
        self.request = streamed_request()
        self.request.method = b"GET"
        if last is not None:
            self.request.requestHeaders.setRawHeaders(b"last-event-id", [last.encode()])
        if query is not None:
            self.request.args = {b"after": [query.encode()]}
        self.done: Deferred[bytes] = Deferred.fromCoroutine(stream.respond(self.request, job))

    def events(self, size: int | None = None) -> list[tuple[str, str, Any]]:
        """
        Return the complete events among the first `size` bytes of the response.
        """
        text = self.request.sent()[:size].decode("utf-8", "ignore")
        return [(id, name, json.loads(data)) for id, name, data in _EVENT.findall(text)]

    def names(self) -> list[str]:
        return [name for _, name, _ in self.events()]


class JobStreamTests(SynchronousTestCase):
    """
    Tests for `JobStream`, on a store in memory.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.store = memory_store(self.clock)
        self.addCleanup(self.store.close)
        self.begin(1)

    def begin(self, server: int) -> None:
        """
        Start server number `server`, with the jobs of the last one.
        """
        self.job_events = JobEvents(self.clock)
        self.job_events.server = server
        self.stream = JobStream(self.clock, self.store, self.job_events)

    def add(self, id: str = "a") -> Job:
        job, _ = self.successResultOf(
            self.store.add(new_job(id, request_id=f"request-{id}"), UNLIMITED)
        )
        return job

    def stored(self, id: str = "a") -> Job:
        job = self.successResultOf(self.store.get(id))
        assert job is not None
        return job

    def end(self, state: JobState, result: Any = None, id: str = "a") -> None:
        """
        End a job, as the runner does.
        """
        if state == "cancelled":
            ending = self.store.cancel(id, 5.0)
        else:
            ending = self.store.mark_ended(id, state, result, 5.0)
        self.note_end(self.successResultOf(ending))

    def note_end(self, job: Job | None) -> None:
        assert job is not None
        self.job_events.end(job)

    def test_answer(self) -> None:
        """
        A client gets the events of a job as they happen, and the answer as the last one.
        """
        stream = Stream(self.stream, self.add())
        self.job_events.report("a", Started("worker1", 1))
        self.job_events.report("a", PartialText("Zoë\n"))
        self.assertNoResult(stream.done)
        self.end("done", JobAnswer({"title": "x"}))
        self.successResultOf(stream.done)
        self.assertEqual(
            stream.events(),
            [
                ("1-1", "queued", {"position": 1, "estimate": None}),
                ("1-2", "started", {"worker": "worker1", "attempt": 1}),
                ("1-3", "text", {"text": "Zoë\n"}),
                ("end", "answer", {"title": "x"}),
            ],
        )
        self.assertEqual(self.clock.getDelayedCalls()[0].getTime(), 60.0)
        again = Stream(self.stream, self.stored(), "end")
        self.assertEqual(self.successResultOf(again.done), b"")
        self.assertEqual((again.request.responseCode, again.request.sent()), (204, b""))

    def test_other_ends(self) -> None:
        """
        A job that fails ends with the error that its request would have got, with the request's
        identifier; one that is cancelled, with that.
        """
        failure = JobFailure(ErrorCode.SESSION_LOST, "It ended")
        for id, state, result, last in [
            ("a", "failed", failure, ("end", "error", {
                "status": 502, "error": "It ended", "code": "session_lost",
                "requestId": "request-a",
            })),
            ("b", "cancelled", None, ("end", "cancelled", {})),
        ]:  # fmt: skip
            stream = Stream(self.stream, self.add(id))
            self.end(state, result, id)  # type: ignore[arg-type]
            self.successResultOf(stream.done)
            self.assertEqual(stream.events()[-1], last)
            late = Stream(self.stream, self.stored(id))
            self.successResultOf(late.done)
            self.assertEqual(late.events(), stream.events())

    def test_cut(self) -> None:
        """
        A client whose connection is cut ten times, at random bytes, gets every event once, and
        the job goes on meanwhile.
        """
        for seed in range(20):
            self.setUp()
            random = Random(seed)
            always = Stream(self.stream, self.add())
            seen: list[tuple[str, str, Any]] = []
            for number in range(11):
                stream = Stream(self.stream, self.stored(), seen[-1][0] if seen else None)
                for piece in range(random.randrange(5)):
                    self.job_events.report("a", PartialText(f"<{number}.{piece}>é\n"))
                    if random.random() < 0.5:
                        self.clock.advance(0.1)
                    if random.random() < 0.2:
                        self.job_events.report("a", Retrying("again", "same_turn"))
                if number < 10:
                    size = random.randint(0, len(stream.request.sent()))
                    seen += stream.events(size)
                    stream.done.cancel()
                    self.failureResultOf(stream.done, CancelledError)
            self.end("done", JobAnswer({"title": "x"}))
            self.successResultOf(stream.done)
            self.assertEqual(seen + stream.events(), always.events())
            self.assertEqual(self.stored().state, "done")

    def test_cut_at_the_end(self) -> None:
        """
        A client that loses its connection while the job ends gets the rest, for a minute exactly,
        and later the answer after a gap.
        """
        stream = Stream(self.stream, self.add())
        self.job_events.report("a", PartialText("x"))
        last = stream.events()[-1][0]
        stream.done.cancel()
        self.failureResultOf(stream.done, CancelledError)
        self.end("done", JobAnswer({"title": "x"}))
        for query in (False, True):
            again = Stream(self.stream, self.stored(), *([None, last] if query else [last]))
            self.successResultOf(again.done)
            self.assertEqual(again.names(), ["text", "answer"])
        self.clock.advance(61)
        late = Stream(self.stream, self.stored(), last)
        self.successResultOf(late.done)
        self.assertEqual(late.names(), ["gap", "answer"])
        again = Stream(self.stream, self.stored(), late.events()[0][0])
        self.successResultOf(again.done)
        self.assertEqual(again.names(), ["answer"])

    def test_restart(self) -> None:
        """
        If the server is restarted in the middle, the client's stream ends without a last event,
        and continues after a gap; a job that ends while it does not listen still has its answer.
        """
        stream = Stream(self.stream, self.add())
        self.job_events.report("a", Started("worker1", 1))
        self.job_events.report("a", PartialText("half"))
        self.job_events.close()
        self.successResultOf(stream.done)
        self.assertEqual(stream.names(), ["queued", "started"])
        self.begin(2)
        self.job_events.resume(new_job("a", attempts=1))
        again = Stream(self.stream, self.stored(), stream.events()[-1][0])
        self.assertEqual(again.names(), ["gap", "queued"])
        self.end("done", JobAnswer({"title": "x"}))
        self.successResultOf(again.done)
        self.begin(3)
        late = Stream(self.stream, self.stored(), again.events()[0][0])
        self.successResultOf(late.done)
        self.assertEqual(late.names(), ["gap", "answer"])

    def test_ends_before_anybody_listens(self) -> None:
        """
        A job that ends between its look-up and the first event is answered all the same, and
        nothing of it is kept.
        """
        job = self.add()
        self.end("done", JobAnswer({"title": "x"}))
        stream = Stream(self.stream, job)
        self.successResultOf(stream.done)
        self.assertEqual(stream.names(), ["gap", "answer"])
        self.assertEqual(self.job_events._unfinished, {})

    def test_ends_while_it_is_read(self) -> None:
        """
        A job that ends while the store is still asked about it is answered once.
        """
        executor = HeldExecutor()
        self.store = SqliteStore(self.clock, self.clock.seconds, executor)
        self.store.open(None)
        self.begin(1)
        job = new_job("a")
        adding = self.store.add(job, UNLIMITED)
        executor.run()
        self.successResultOf(adding)
        stream = Stream(self.stream, job)
        self.job_events.report("a", Started("worker1", 1))
        ending = self.store.mark_ended("a", "done", JobAnswer({"title": "x"}), 5.0)
        ending.addCallback(self.note_end)
        executor.run()
        executor.run()
        self.clock.advance(0)
        self.successResultOf(stream.done)
        self.assertEqual(stream.names(), ["queued", "started", "answer"])

    def test_deleted(self) -> None:
        """
        If the job is gone, the stream ends.
        """
        job = self.add()
        self.store.delete("a")
        stream = Stream(self.stream, job)
        self.successResultOf(stream.done)
        self.assertEqual(stream.events(), [])

    def test_hangs_up(self) -> None:
        """
        A client that hangs up does not cancel the job, whenever it does, and leaves no timer.
        """
        executor = HeldExecutor()
        self.store = SqliteStore(self.clock, self.clock.seconds, executor)
        self.store.open(None)
        self.begin(1)
        adding = self.store.add(new_job("a"), UNLIMITED)
        executor.run()
        self.successResultOf(adding)
        stream = Stream(self.stream, new_job("a"))
        stream.done.cancel()
        self.failureResultOf(stream.done, CancelledError)
        self.assertEqual(self.job_events._unfinished, {})
        timers = self.clock.getDelayedCalls()
        # What the store runs may take as long as it likes.
        self.assertLessEqual(len(timers), 1)

    def test_slow(self) -> None:
        """
        A client that does not read is dropped when too much waits for it; another client of the
        same job gets everything meanwhile.
        """
        slow, quick = Stream(self.stream, self.add()), Stream(self.stream, self.stored())
        slow.request.producer.pauseProducing()
        pieces = 2 * MAX_UNREAD // 10_000
        for _ in range(pieces):
            self.job_events.report("a", PartialText("x" * 10_000))
            self.clock.advance(0.1)
        self.assertTrue(slow.request.transport.disconnected or slow.request.transport.aborting)
        slow.done.cancel()
        self.failureResultOf(slow.done, CancelledError)
        self.end("done", JobAnswer({"title": "x"}))
        self.successResultOf(quick.done)
        text = "".join(data["text"] for _, name, data in quick.events() if name == "text")
        self.assertEqual(len(text), pieces * 10_000)

    def test_invalid_id(self) -> None:
        """
        What cannot be the identifier of an event is refused by the name of its header or
        parameter; an empty one is none.
        """
        job = self.add()
        for last, query, field in [
            ("nonsense", None, "Last-Event-ID"), (None, "1", "after"), ("é", None, "Last-Event-ID"),
            ("1-1", "x", "after"),
        ]:  # fmt: skip
            stream = Stream(self.stream, job, last, query)
            error = self.failureResultOf(stream.done, InvalidInput)
            self.assertEqual(error.value.field, field)
            self.assertEqual(stream.request.sent(), b"")
        stream = Stream(self.stream, job, "", "")
        self.assertEqual(stream.names(), ["queued"])

    def test_head(self) -> None:
        """
        HEAD gets the headers at once.
        """
        job = self.add()
        request = streamed_request()
        request.method = b"HEAD"
        done = Deferred.fromCoroutine(self.stream.respond(request, job))
        self.successResultOf(done)
        self.assertEqual(
            request.responseHeaders.getRawHeaders("content-type"), ["text/event-stream"]
        )
        self.assertEqual(self.job_events._unfinished, {})
