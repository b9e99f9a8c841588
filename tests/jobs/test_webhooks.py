"""
Tests for `kiroworkers.jobs.webhooks`, on a clock.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TypeVar

from attrs import frozen
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock, deferLater
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.errors import StorageUnavailable
from kiroworkers.jobs.job import Job, Webhook
from kiroworkers.jobs.sqlite_store import SqliteStore
from kiroworkers.jobs.store import JobLimits
from kiroworkers.jobs.webhook_sender import HostUnreachable, TargetRefused
from kiroworkers.jobs.webhooks import Webhooks, signature
from tests.jobs.support import new_job

T = TypeVar("T")

#: The time of day when a test begins.
NOON = 1_800_000_000.0

LIMITS = JobLimits(unfinished=1000, total_bytes=10**9, client_bytes=10**9)


class NextTurn:
    """
    Run what waits for the disk in a later turn of the reactor; this is an `Executor`.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def call(self, function: Callable[[], T]) -> Deferred[T]:
        return deferLater(self._clock, 0, function)

    def stop(self) -> None:
        pass


@frozen
class Posted:
    """
    Hold a call that was made, and the Deferred of its response.
    """

    url: str
    headers: Mapping[str, str]
    body: bytes
    tries: int
    status: Deferred[int]

    @property
    def job(self) -> str:
        id: str = json.loads(self.body)["id"]
        return id


class WebhooksTests(SynchronousTestCase):
    """
    Tests for `Webhooks`.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.step = 0.0
        self.store = SqliteStore(self.clock, self.now, NextTurn(self.clock))
        self.store.open(None)
        self.addCleanup(self.store.close)
        self.posted: list[Posted] = []
        self.callbacks = self.started()

    def now(self) -> float:
        return NOON + self.clock.seconds() + self.step

    def started(self) -> Webhooks:
        def post(url: str, headers: Mapping[str, str], body: bytes, tries: int) -> Deferred[int]:
            self.posted.append(Posted(url, headers, body, tries, Deferred()))
            return self.posted[-1].status

        callbacks = Webhooks(
            self.clock,
            self.now,
            self.store,
            post,
            lambda job: {"id": job.id, "state": job.state},
            b"secret",
        )
        callbacks.startService()
        return callbacks

    def store_ended(
        self, id: str, host: str = "x.example", client: str = "ann", **fields: str
    ) -> Job:
        """
        Store a job that has ended, and return it.
        """
        job = new_job(id, client=client, callback=Webhook(f"http://{host}/"), **fields)
        self.stored(self.store.add(job, LIMITS))
        ended = self.stored(self.store.cancel(id, self.now()))
        assert ended is not None
        return ended

    def end(self, id: str, host: str = "x.example", client: str = "ann") -> None:
        """
        End a job whose webhook is on `host`.
        """
        self.callbacks.schedule(self.store_ended(id, host, client))
        self.clock.advance(0)

    def pending(self) -> list[str]:
        return [job.id for job in self.stored(self.store.pending_webhooks())]

    def stored(self, operation: Deferred[T]) -> T:
        """
        Wait for the disk, and return the result of an operation of the store.
        """
        self.clock.advance(0)
        return self.successResultOf(operation)

    def respond(self, number: int, status: int | Exception) -> None:
        """
        Respond to the call that was made as the `number`th.
        """
        if isinstance(status, int):
            self.posted[number].status.callback(status)
        else:
            self.posted[number].status.errback(status)
        self.clock.advance(0)

    def test_delivered(self) -> None:
        """
        The job is posted with a signature, and once only if the call succeeds.
        """
        self.end("a")
        [call] = self.posted
        self.assertEqual(
            (call.url, json.loads(call.body)["state"]), ("http://x.example/", "cancelled")
        )
        self.assertEqual(call.headers["X-Kiroworkers-Signature"], signature(b"secret", call.body))
        self.respond(0, 204)
        self.assertEqual(self.pending(), [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_request(self) -> None:
        """
        A call has the identifier and the trace of the request that created the job; without
        them, it has no such headers.
        """
        trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        self.callbacks.schedule(self.store_ended("a", request_id="request-1", traceparent=trace))
        self.clock.advance(0)
        self.end("b")
        first, second = self.posted
        self.assertEqual(
            [first.headers.get(name) for name in ("X-Request-ID", "traceparent")],
            ["request-1", trace],
        )
        self.assertEqual({*first.headers} - {*second.headers}, {"X-Request-ID", "traceparent"})

    def test_counts(self) -> None:
        """
        Calls are counted by their result, and webhooks are pending until they are delivered or
        abandoned.
        """
        for id in ("a", "b", "c"):
            self.end(id, host=f"{id}.example")
        self.assertEqual(self.callbacks.pending, 3)
        self.respond(0, 204)
        self.respond(1, 500)
        self.respond(2, 410)
        self.assertEqual(self.callbacks.calls, {"delivered": 1, "failed": 1, "abandoned": 1})
        self.assertEqual(self.callbacks.pending, 1)

    def test_retried(self) -> None:
        """
        A call that fails, by its status, a redirect or an error, is made again, each time
        after twice as long, ten times in all.
        """
        self.end("a")
        delay = 2.0
        for number in range(10):
            self.assertEqual([call.tries for call in self.posted], [*range(number + 1)])
            self.respond(-1, (OSError("refused"), 500, 302)[number % 3])
            self.clock.advance(delay - 0.1)
            self.assertEqual(len(self.posted), number + 1)
            self.clock.advance(0.1)
            delay *= 2
        self.assertEqual(len(self.posted), 10)
        self.assertEqual(self.pending(), [])

    def test_log(self) -> None:
        """
        Each failed call is logged with its receiver, and with what comes next.
        """
        self.end("a")
        with capturedLogs() as logs:
            self.respond(-1, 500)
            self.clock.advance(2)
            self.respond(-1, 410)
        self.assertEqual(
            [formatEvent(event).partition(" to ")[2] for event in logs],
            [
                "x.example:80 failed (500); attempt 1 of 10, the next one in 2 s",
                "x.example:80 failed (410); attempt 2 of 10, giving up",
            ],
        )

    def test_gone(self) -> None:
        """
        A receiver that answers 410 is not called again.
        """
        self.end("a")
        self.respond(0, 410)
        self.assertEqual(self.pending(), [])

    def test_next_server(self) -> None:
        """
        Calls that are outstanding when a server stops are made by the next one when they
        are due.
        """
        self.end("under way")
        self.end("due later")
        self.respond(1, 500)
        self.callbacks.stopService()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.callbacks = self.started()
        self.clock.advance(0)
        self.assertEqual([call.job for call in self.posted[2:]], ["under way"])
        self.clock.advance(2)
        self.assertEqual(self.posted[3].job, "due later")

    def test_many_stored(self) -> None:
        """
        All calls that an earlier server left are made, those that end meanwhile once.
        """
        self.callbacks.stopService()
        jobs = [self.store_ended(str(number)) for number in range(450)]
        self.callbacks = self.started()
        for job in jobs[::7]:
            self.callbacks.schedule(job)
        self.clock.advance(0)
        for number in range(450):
            self.respond(number, 200)
        self.assertEqual(sorted(int(call.job) for call in self.posted), [*range(450)])
        self.assertEqual(self.pending(), [])

    def test_clock_was_ahead(self) -> None:
        """
        A call that is due in a distant future, because the clock was wrong when it was
        stored, is made after the delay that follows the earlier attempts.
        """
        self.step = 3600.0 * 24 * 365
        self.end("a")
        self.respond(0, 500)
        self.clock.advance(2)
        self.respond(1, 500)
        self.callbacks.stopService()
        self.step = 0.0
        self.callbacks = self.started()
        self.clock.advance(0)
        self.clock.advance(3.9)
        self.assertEqual(len(self.posted), 2)
        self.clock.advance(0.1)
        self.assertEqual(len(self.posted), 3)

    def test_clock_is_set_back(self) -> None:
        """
        The first call is made at once even if the clock was set back since the job ended.
        """
        job = self.store_ended("a")
        self.step = -3600.0
        self.callbacks.schedule(job)
        self.clock.advance(0)
        self.assertEqual(len(self.posted), 1)

    def test_clock_is_set_back_while_stored(self) -> None:
        """
        A clock that is set back while a failed call is being recorded postpones nothing.
        """
        self.end("a")
        self.posted[0].status.callback(500)
        self.step = -3600.0
        self.clock.advance(0)
        self.clock.advance(2)
        self.assertEqual(len(self.posted), 2)

    def test_clock_is_set(self) -> None:
        """
        A clock that is set while a call waits does not change when it is made.
        """
        for step in (3600.0, -3600.0):
            self.end(f"a{step}")
            self.respond(-1, 500)
            self.step += step
            made = len(self.posted)
            self.clock.advance(1.9)
            self.assertEqual(len(self.posted), made)
            self.clock.advance(0.1)
            self.assertEqual(len(self.posted), made + 1)
            self.respond(-1, 200)

    def test_share(self) -> None:
        """
        A client has half of the senders at most, so another client's call is made at once.
        """
        for number in range(200):
            self.end(str(number), f"host{number}.example")
        self.assertEqual(len(self.posted), 4)
        self.end("b", client="bob")
        self.assertEqual([call.job for call in self.posted[4:]], ["b"])
        self.respond(0, 200)
        self.assertEqual([call.job for call in self.posted[5:]], ["4"])

    def test_tarpit(self) -> None:
        """
        A host that never answers is called by one call at a time, while other hosts are
        called at once; each of its jobs fails ten times.
        """
        for number in range(60):
            self.end(str(number), "tarpit.example")
        seconds, healthy = 0, 0
        while self.pending():
            seconds += 1
            self.clock.advance(1)
            under_way = [n for n, call in enumerate(self.posted) if not call.status.called]
            if seconds > 10:
                self.assertLessEqual(len(under_way), 1)
            for number in under_way:
                # The sender gives up after ten seconds.
                if seconds % 10 == 0:
                    self.respond(number, TimeoutError("no response"))
            if seconds % 100 == 5:
                healthy += 1
                self.end(f"healthy{healthy}", "healthy.example", client="bob")
                self.assertEqual(self.posted[-1].url, "http://healthy.example/")
                self.respond(-1, 200)
        calls = [call for call in self.posted if "tarpit" in call.url]
        # Ten attempts for the first four jobs, and one for the others together.
        self.assertLess(len(calls), 60)
        self.assertLess(seconds, 2000)

    def test_unreachable(self) -> None:
        """
        A host that cannot be reached is tried once for all paths and clients; a host that
        one client is refused is called for another.
        """
        self.end("a", "down.example/1")
        self.respond(0, HostUnreachable("refused"))
        self.end("b", "down.example/2", client="bob")
        self.assertEqual(len(self.posted), 1)
        self.end("c", "up.example/1")
        self.respond(1, TargetRefused("the URL is ambiguous"))
        self.end("d", "up.example/2", client="bob")
        self.assertEqual([call.job for call in self.posted], ["a", "c", "d"])

    def test_recovers(self) -> None:
        """
        When a host answers again, the jobs that waited for it are reported at once.
        """
        for number in range(3):
            self.end(str(number), "tarpit.example")
        for number in range(3):
            self.respond(number, TimeoutError("no response"))
        for number in range(3, 6):
            self.end(str(number), "tarpit.example")
        self.assertEqual(len(self.posted), 3)
        self.clock.advance(2)
        self.assertEqual(len(self.posted), 4)
        self.respond(3, 200)
        # The first three are due again at the same time.
        for number in range(4, 9):
            self.respond(number, 200)
        self.assertEqual(self.pending(), [])

    def test_storage_fails(self) -> None:
        """
        If a job cannot be read, it is reported when the storage works again.
        """
        get = self.store.get
        failure = StorageUnavailable("disk I/O error", 3)
        self.patch(self.store, "get", lambda id: fail(failure))
        self.end("a")
        self.assertEqual(self.posted, [])
        self.patch(self.store, "get", get)
        self.clock.advance(3)
        self.assertEqual([call.job for call in self.posted], ["a"])

    def test_forgotten(self) -> None:
        """
        The webhook of a job that was deleted is not called again.
        """
        self.end("a")
        self.stored(self.store.delete("a"))
        self.respond(0, 500)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_deleted_before(self) -> None:
        """
        The webhook of a job that is deleted before its first call is not called.
        """
        job = self.store_ended("a")
        self.stored(self.store.delete("a"))
        self.callbacks.schedule(job)
        self.clock.advance(0)
        self.assertEqual(self.posted, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])
