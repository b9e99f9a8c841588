"""
Tests for events of jobs and idempotency keys of several servers, on a real database.
"""

from __future__ import annotations

import signal
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred

from kiroworkers.jobs.job import Job, JobAnswer
from kiroworkers.jobs.stored_response import IdempotencyKey, StoredResponse
from kiroworkers.pool.progress import OnProgress, PartialText, Started
from kiroworkers.web.job_stream import JobStream
from kiroworkers.web.mcp.task_subscription import TaskSubscription
from tests import postgres
from tests.jobs.support import UNLIMITED, new_job
from tests.web.streams import streamed_request

if postgres.SKIP is None:
    from tests.cluster.live_server import LiveListener, LiveServer

KEY = IdempotencyKey("ann", "generate-story", "k1")
ANSWER = StoredResponse(200, {"title": "x"}, {"Worker": "worker1"}, cacheable=True)
OTHER = StoredResponse(200, {"title": "y"}, {"Worker": "worker2"}, cacheable=True)
BUSY = StoredResponse(503, {"code": "all_workers_busy"})


class _WithServers(postgres.DatabaseTestCase):
    timeout = 30.0

    async def setUp(self) -> None:  # type: ignore[override]
        super().setUp()
        servers = [LiveServer(self.address) for _ in range(3)]
        self.one, self.two, self.three = servers
        for server in servers:
            self.addCleanup(lambda server=server: Deferred.fromCoroutine(server.stop()))
            await server.start()


class LiveEventsTests(_WithServers):
    """
    Tests for `ClusterJobEvents` with PostgreSQL.
    """

    async def add(self) -> Job:
        job, _ = await self.one.store.add(new_job("a"), UNLIMITED)
        return job

    def report(self, server: LiveServer, *texts: str) -> None:
        for text in texts:
            server.events.report("a", PartialText(text))

    async def test_everywhere(self) -> None:
        """
        A client that loses its connection continues on another server, without a gap, and gets the
        same events as others.
        """
        job = await self.add()
        always, hopping = LiveListener(self.two, job), LiveListener(self.three, job)
        running = await self.one.claim()
        self.one.events.report("a", Started("worker1", 1))
        self.report(self.one, "Zoë \ud800\0 ")
        await hopping.until("Zoë")
        hopping.ended.addErrback(lambda failure: failure.trap(CancelledError))
        hopping.ended.cancel()
        self.report(self.one, "b")
        await always.until("b")
        # The server that runs the job is one of those that it may come to.
        again = LiveListener(self.one, running, hopping.ids[-1])
        await again.until("b")
        self.report(self.one, "c")
        self.assertTrue(await self.one.end("a"))
        for listener in (always, again):
            ended = await listener.ended
            assert ended is not None
            self.assertEqual(ended.result, JobAnswer({"title": "a"}))
        self.assertEqual(always.text, "Zoë \ud800\0 bc")
        self.assertEqual(hopping.events + again.events, always.events)
        self.assertEqual(always.ids, ["0-1", "1-1", "1-2", "1-3", "1-4"])

    async def test_stream(self) -> None:
        """
        The HTTP stream of another server has the events and the answer, also after the end.
        """
        job = await self.add()
        real: Any = reactor
        stream = JobStream(real, self.two.store, self.two.events)
        requests = [streamed_request(), streamed_request()]
        for request in requests:
            request.method = b"GET"
        watched: Deferred[str] = Deferred()
        self.one.notifications.subscribe("watch", watched.callback)
        done = Deferred.fromCoroutine(stream.respond(requests[0], job))
        # Otherwise the job may end before anybody listens.
        await watched
        await self.one.claim()
        self.report(self.one, "a")
        await self.one.end("a")
        await done
        ended = await self.three.store.get("a")
        assert ended is not None
        requests[1].requestHeaders.setRawHeaders(b"last-event-id", [b"0-1"])
        await stream.respond(requests[1], ended)
        rest = (
            b'id: 1-1\nevent: text\ndata: {"text":"a"}\n\n'
            b'id: end\nevent: answer\ndata: {"title":"a"}\n\n'
        )
        for request in requests:
            self.assertTrue(request.sent().endswith(rest), request.sent())
            self.assertNotIn(b"gap", request.sent())

    async def test_task(self) -> None:
        """
        A subscription to a task on another server gets each of its states.
        """
        await self.add()
        sent: list[Job] = []
        queued: Deferred[None] = Deferred()
        running: Deferred[None] = Deferred()

        def send(job: Job) -> None:
            sent.append(job)
            reached = {"queued": queued, "running": running}.get(job.state)
            if reached is not None:
                reached.callback(None)

        async def drained() -> None:
            return None

        subscription = TaskSubscription(
            self.two.store,
            self.two.events,
            send,
            lambda: Deferred.fromCoroutine(drained()),
        )
        done = Deferred.fromCoroutine(subscription.run(["a"]))
        await queued
        await self.one.claim()
        self.one.events.report("a", Started("worker1", 1))
        await running
        await self.one.end("a")
        await done
        self.assertEqual([job.state for job in sent], ["queued", "running", "done"])

    async def test_begun_anew(self) -> None:
        """
        When another server begins the job anew, listeners get a gap, and not what the first one
        still has to say.
        """
        job = await self.add()
        listener = LiveListener(self.three, job)
        await self.one.claim()
        self.report(self.one, "half")
        await listener.until("half")
        await self.one.put_back("a")
        await self.two.claim()
        self.report(self.one, " an answer")
        self.report(self.two, "anew")
        await listener.until("anew")
        self.assertFalse(await self.one.end("a"))
        self.assertTrue(await self.two.end("a"))
        await listener.ended
        self.assertEqual(listener.ids, ["0-1", "1-1", "2-0", "2-1"])
        self.assertEqual(listener.names, ["queued", "text", "gap", "text"])

    async def test_database_restarted(self) -> None:
        """
        Streams stay open while the database restarts, and nothing is missing or repeated, even if
        it has crashed and lost all events.
        """
        job = await self.add()
        listener = LiveListener(self.two, job)
        await self.one.claim()
        self.report(self.one, "a")
        await listener.until("a")
        for how, text in ((signal.SIGINT, "b"), (signal.SIGQUIT, "c")):
            self.postgres.stop(how)
            self.report(self.one, text)
            self.postgres.start()
            await listener.until(text)
        newcomer = LiveListener(self.three, job)
        await newcomer.until("c")
        await self.one.end("a")
        for each in (listener, newcomer):
            await each.ended
            self.assertEqual((each.text, "gap" in each.names), ("abc", False))

    async def test_cut_off(self) -> None:
        """
        Streams of a server that is cut off from the database stay open, and go on when it is not
        any more.
        """
        cutter = postgres.Cutter(self.postgres.port)
        self.addCleanup(cutter.close)
        four = LiveServer(self.postgres.address(self.database, port=cutter.port))
        self.addCleanup(lambda: Deferred.fromCoroutine(four.stop()))
        await four.start()
        job = await self.add()
        cut_off, other = LiveListener(four, job), LiveListener(self.two, job)
        await self.one.claim()
        self.report(self.one, "a")
        await cut_off.until("a")
        cutter.cut()
        self.report(self.one, "b")
        await other.until("b")
        await self.one.end("a")
        await other.ended
        self.assertEqual(cut_off.text, "a")
        cutter.heal()
        await cut_off.ended
        self.assertEqual(cut_off.events, other.events)


class LiveKeysTests(_WithServers):
    """
    Tests for `IdempotencyCache` with PostgreSQL.
    """

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.turns: dict[LiveServer, Deferred[StoredResponse]] = {}
        self.begun: dict[LiveServer, Deferred[None]] = {
            server: Deferred() for server in (self.one, self.two)
        }

    def ask(self, server: LiveServer) -> Deferred[tuple[StoredResponse, bool]]:
        async def turn(on_progress: OnProgress | None) -> StoredResponse:
            self.assertNotIn(server, self.turns)
            self.turns[server] = Deferred()
            # Not at once: the test may cancel this.
            real: Any = reactor
            real.callLater(0, self.begun[server].callback, None)
            return await self.turns[server]

        return Deferred.fromCoroutine(server.cache.run(KEY, "print", turn, None))

    async def test_once(self) -> None:
        """
        The same key on two servers runs once.
        """
        first = self.ask(self.one)
        await self.begun[self.one]
        second = self.ask(self.two)
        self.turns[self.one].callback(ANSWER)
        self.assertEqual(await first, (ANSWER, False))
        self.assertEqual(await second, (ANSWER, True))
        self.assertEqual(await self.ask(self.three), (ANSWER, True))

    async def test_released(self) -> None:
        """
        The second server executes the request if the first one has failed, or its client has gone.
        """
        for go in (False, True):
            await self.setUpKeys()
            first = self.ask(self.one)
            await self.begun[self.one]
            second = self.ask(self.two)
            if go:
                first.cancel()
                await self.assertFailure(first, CancelledError)
            else:
                self.turns[self.one].callback(BUSY)
                self.assertEqual(await first, (BUSY, False))
            await self.begun[self.two]
            self.turns[self.two].callback(OTHER)
            self.assertEqual(await second, (OTHER, False))

    async def setUpKeys(self) -> None:
        """
        Forget what was asked.
        """
        await self.one.queue.write(lambda db: db.execute("DELETE FROM keys"))
        self.turns.clear()
        self.begun = {server: Deferred() for server in (self.one, self.two)}

    async def test_lease_passed(self) -> None:
        """
        The second server executes the request once the lease of the first one has passed.  The
        late answer of the first one is for its own client only.
        """
        first = self.ask(self.one)
        await self.begun[self.one]
        second = self.ask(self.two)
        await self.one.lose_lease()
        await self.begun[self.two]
        self.turns[self.one].callback(ANSWER)
        self.assertEqual(await first, (ANSWER, False))
        self.turns[self.two].callback(OTHER)
        self.assertEqual(await second, (OTHER, False))
        self.assertEqual(await self.ask(self.three), (OTHER, True))
