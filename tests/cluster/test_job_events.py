"""
Tests for `kiroworkers.cluster.job_events`, on a table of events in memory.
"""

from __future__ import annotations

from random import Random

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.cluster.event_cursor import BEGUN_ANEW
from kiroworkers.cluster.job_events import ClusterJobEvents
from kiroworkers.jobs.job import Job, JobState
from kiroworkers.jobs.job_events import ENDED, MAX_JOB_BYTES, TOO_MANY, UNKNOWN, JobEvent
from kiroworkers.pool.progress import AgentNotice, PartialText, Retrying, Started
from tests.cluster.memory_events import EventDatabase, MemoryEventTable

#: Seconds between two looks of a server, and enough of them for everything to be stored.
_INTERVAL, _SOON = 3.0, 0.3


class Server:
    """
    Represent a server of the cluster.
    """

    def __init__(self, clock: Clock, database: EventDatabase) -> None:
        self.topics = database.new_topics()
        self.table = MemoryEventTable(database)
        self.events = ClusterJobEvents(clock, self.table, self.topics, _INTERVAL)
        self._database = database

    def claim(self, id: str) -> int:
        """
        Claim a job, as the runner does, and return the number of its claims.
        """
        job, claims, watched = self._database.claim(id)
        self.events.begin(job, claims, watched)
        return claims

    def release(self, id: str, claims: int) -> None:
        """
        Give a job back.
        """
        self.events.release(id)
        self.table.put_back(id, claims)

    def end(self, id: str, claims: int) -> None:
        """
        End a job.
        """

        def on_ended(job: Job | None) -> None:
            if job is None:
                self.events.forget(id)
            else:
                self.events.end(job)

        self.events.complete(id)
        self.table.end(id, claims).addCallback(on_ended)


class Listener:
    """
    Listen to a job on a server, and collect its events.

    Attributes:
        events: The events.
        ended: Fires at the end.
    """

    def __init__(self, server: Server, job: Job, after: str | None = None) -> None:
        self.events: list[JobEvent] = []
        self.ended: Deferred[Job | None] = server.events.listen(job, after, self.events.append)

    @property
    def last(self) -> str:
        return str(self.events[-1].id)

    def seen(self) -> list[str]:
        """
        Return the identifier, the name and, of a gap or a text, the words of each event.
        """
        return [
            " ".join(
                [str(event.id), event.name]
                + [event.data[name] for name in ("reason", "text") if name in event.data]
            )
            for event in self.events
        ]

    def leave(self) -> None:
        self.ended.addErrback(lambda failure: failure.trap(CancelledError))
        self.ended.cancel()


class ClusterJobEventsTests(SynchronousTestCase):
    """
    Tests for `ClusterJobEvents`.
    """

    def setUp(self) -> None:
        self.clock, self.database = Clock(), EventDatabase()
        self.one, self.two, self.three = (Server(self.clock, self.database) for _ in range(3))
        self.job = self.database.add("a")

    def text(self, server: Server, *texts: str) -> None:
        for text in texts:
            server.events.report("a", PartialText(text))

    def settle(self) -> None:
        self.clock.pump([0.1] * 3)

    def end(self, state: JobState) -> None:
        """
        End the job on the third server, which does not run it.
        """
        job = self.database.end("a", self.database.jobs["a"].claims, state)
        assert job is not None
        self.three.events.end(job)

    def close(self) -> None:
        """
        Stop all servers, and check that nothing is left.
        """
        for server in (self.one, self.two, self.three):
            server.events.close()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_everywhere(self) -> None:
        """
        Listeners on every server get the same events, from the beginning to the end, whether they
        come before the job runs or while it does.
        """
        early = [Listener(server, self.job) for server in (self.one, self.two)]
        self.assertEqual(early[1].seen(), ["0-1 queued"])
        claims = self.one.claim("a")
        self.one.events.report("a", Started("worker1", 1))
        self.text(self.one, "a", "b")
        self.settle()
        late = Listener(self.three, self.job)
        self.text(self.one, "c")
        self.settle()
        self.one.events.report("a", AgentNotice("stall", "It is silent"))
        self.text(self.one, "d")
        self.one.end("a", claims)
        expected = [
            "0-1 queued", "1-1 started", "1-2 text ab", "1-3 text c", "1-4 notice", "1-5 text d",
        ]  # fmt: skip
        for listener in (*early, late):
            self.assertEqual(listener.seen(), expected)
            job = self.successResultOf(listener.ended)
            assert job is not None
            self.assertEqual(job.state, "done")
        again = Listener(self.two, self.job, "1-3")
        self.assertEqual(again.seen(), expected[4:])
        self.successResultOf(again.ended)
        self.close()

    def test_nobody_listens(self) -> None:
        """
        Nothing is stored of a job to which nobody listens.
        """
        claims = self.one.claim("a")
        self.text(self.one, "a")
        self.settle()
        self.one.end("a", claims)
        self.assertEqual(self.database.jobs["a"].events, {})
        late = Listener(self.two, self.job)
        self.assertEqual(late.seen(), ["1-999999999 gap " + ENDED])
        self.successResultOf(late.ended)
        again = Listener(self.one, self.job, late.last)
        self.successResultOf(again.ended)
        self.assertEqual(again.events, [])
        self.close()

    def test_begins_to_listen(self) -> None:
        """
        Somebody who begins to listen gets the events so far, also when the job was claimed a moment
        ago and its server does not know that yet.
        """
        claims = self.one.claim("a")
        self.one.events.report("a", Started("worker1", 1))
        self.text(self.one, "a")
        listener = Listener(self.two, self.job)
        self.settle()
        self.assertEqual(listener.seen(), ["0-1 queued", "1-1 started", "1-2 text a"])
        self.one.end("a", claims)
        other = self.database.add("b")
        job, claims, watched = self.database.claim("b")
        listener = Listener(self.two, other)
        self.one.events.begin(job, claims, watched)
        self.one.events.report("b", Started("worker1", 1))
        self.settle()
        self.assertEqual(listener.seen(), ["0-1 queued", "1-1 started"])
        self.close()

    def test_retry(self) -> None:
        """
        Nothing is missing if a server gives a job back after it has said that it is run again, or
        before it has asked anybody.
        """
        listener = Listener(self.two, self.job)
        claims = self.one.claim("a")
        self.one.events.report("a", Started("worker1", 1))
        self.text(self.one, "a")
        self.one.events.retry("a", "it failed")
        self.one.events.queue_again("a")
        self.one.release("a", claims)
        claims = self.two.claim("a")
        self.two.release("a", claims)
        claims = self.three.claim("a")
        self.text(self.three, "b")
        self.settle()
        self.assertEqual(
            listener.seen(),
            [
                "0-1 queued", "1-1 started", "1-2 text a", "1-3 retry it failed", "1-4 queued",
                "3-1 text b",
            ],
        )  # fmt: skip
        self.close()

    def test_interrupted(self) -> None:
        """
        A gap is declared if a server gives a job back that it has asked somebody to do, and has
        not said that it is run again, because it stops.
        """
        listener = Listener(self.two, self.job)
        claims = self.one.claim("a")
        self.text(self.one, "a")
        self.one.release("a", claims)
        self.two.claim("a")
        self.text(self.two, "b")
        self.settle()
        self.assertEqual(
            listener.seen(),
            ["0-1 queued", "1-1 text a", "2-0 gap " + BEGUN_ANEW, "2-1 text b"],
        )
        self.close()

    def test_server_dies(self) -> None:
        """
        When another server begins the job anew, a gap is declared once, and what the first one
        still has to say is ignored.
        """
        listener = Listener(self.three, self.job)
        late = self.one.claim("a")
        self.text(self.one, "half")
        self.settle()
        self.text(self.one, " an ans")
        self.database.put_back("a")
        claims = self.two.claim("a")
        self.settle()
        self.two.events.report("a", Started("worker1", 2))
        self.settle()
        self.one.end("a", late)
        self.two.end("a", claims)
        self.assertEqual(
            listener.seen(),
            ["0-1 queued", "1-1 text half", "2-0 gap " + BEGUN_ANEW, "2-1 started"],
        )
        job = self.successResultOf(listener.ended)
        assert job is not None
        self.assertEqual(job, self.database.jobs["a"].job)
        for after, count in [("1-1", 2), ("2-0", 1), ("2-1", 0)]:
            again = Listener(self.one, self.job, after)
            self.assertEqual(again.events, listener.events[4 - count :], after)
        self.close()

    def test_late_result(self) -> None:
        """
        Nothing is missing if a server ends the job late, but nobody has begun it anew.
        """
        listener = Listener(self.three, self.job)
        claims = self.one.claim("a")
        self.text(self.one, "a")
        self.database.put_back("a")
        self.one.end("a", claims)
        self.assertEqual(listener.seen(), ["0-1 queued", "1-1 text a"])
        self.successResultOf(listener.ended)
        self.close()

    def test_cancelled(self) -> None:
        """
        Listeners everywhere learn that the job was cancelled on any server, whether it waits or
        runs.
        """
        waiting = Listener(self.two, self.job)
        self.end("cancelled")
        self.successResultOf(waiting.ended)
        self.assertEqual(waiting.seen(), ["0-1 queued"])
        job = self.database.add("a")
        running = Listener(self.two, job)
        self.one.claim("a")
        self.text(self.one, "a")
        self.settle()
        self.end("cancelled")
        self.successResultOf(running.ended)
        self.assertEqual(running.seen(), ["0-1 queued", "1-1 text a"])
        self.one.events.forget("a")
        self.close()

    def test_deleted(self) -> None:
        """
        If the job is gone, there are no more events, and no job.
        """
        listener = Listener(self.two, self.job)
        self.database.delete("a")
        self.assertIsNone(self.successResultOf(listener.ended))
        self.close()

    def test_database_away(self) -> None:
        """
        While the database is away listening goes on, and later nothing is missing.
        """
        listener = Listener(self.two, self.job)
        claims = self.one.claim("a")
        for server in (self.one, self.two):
            server.table.break_()
        self.text(self.one, "a")
        newcomer = Listener(self.two, self.job)
        self.settle()
        self.text(self.one, "b")
        self.settle()
        self.one.end("a", claims)
        self.clock.advance(_INTERVAL)
        self.assertEqual((listener.seen(), newcomer.seen()), (["0-1 queued"], []))
        for server in (self.one, self.two):
            server.table.heal()
        self.clock.advance(_INTERVAL)
        for each in (listener, newcomer):
            self.assertEqual(each.seen(), ["0-1 queued", "1-1 text a", "1-2 text b"])
            self.successResultOf(each.ended)
        self.close()

    def test_database_back(self) -> None:
        """
        When the database is back, events are stored, and listeners get them, although nothing
        happens to the job.
        """
        self.one.claim("a")
        self.two.table.break_()
        newcomer = Listener(self.two, self.job)
        self.two.table.heal()
        self.clock.advance(_INTERVAL)
        self.assertEqual(newcomer.seen(), ["0-1 queued"])
        self.clock.advance(_INTERVAL)
        self.one.table.break_()
        self.text(self.one, "a")
        self.settle()
        self.one.table.heal()
        self.assertEqual(newcomer.seen(), ["0-1 queued"])
        self.clock.pump([_INTERVAL, _SOON])
        self.assertEqual(newcomer.seen(), ["0-1 queued", "1-1 text a"])
        self.close()

    def test_answer_lost(self) -> None:
        """
        Events are stored once, although it was not known whether they were stored.
        """
        listener = Listener(self.two, self.job)
        claims = self.one.claim("a")
        self.one.table.held = True
        self.text(self.one, "a")
        self.settle()
        self.one.table.break_(answers_lost=1)
        self.one.table.held = False
        self.one.table.heal()
        self.text(self.one, "b")
        self.settle()
        self.one.end("a", claims)
        self.assertEqual(listener.seen(), ["0-1 queued", "1-1 text a", "1-2 text b"])
        self.close()

    def test_crash(self) -> None:
        """
        Events that the database has lost in a crash are stored again.
        """
        listener = Listener(self.two, self.job)
        self.one.claim("a")
        self.text(self.one, "a")
        self.settle()
        self.database.crash()
        self.one.topics.reconnect()
        self.settle()
        self.text(self.one, "b")
        self.settle()
        expected = ["0-1 queued", "1-1 text a", "1-2 text b"]
        self.assertEqual(listener.seen(), expected)
        self.assertEqual(Listener(self.three, self.job).seen(), expected)
        self.close()

    def test_notifications_lost(self) -> None:
        """
        What was not notified is found at the next look, or when notifications come again.
        """
        for server in (self.one, self.two):
            server.topics.connected = False
        claims = self.one.claim("a")
        self.text(self.one, "a")
        listener = Listener(self.two, self.job)
        self.settle()
        self.assertEqual(listener.seen(), ["0-1 queued"])
        self.clock.pump([_INTERVAL, _SOON, _INTERVAL])
        self.assertEqual(listener.seen(), ["0-1 queued", "1-1 text a"])
        self.text(self.one, "b")
        self.settle()
        self.two.topics.reconnect()
        self.assertEqual(listener.seen()[2:], ["1-2 text b"])
        self.two.topics.connected = False
        self.one.end("a", claims)
        self.assertNoResult(listener.ended)
        self.clock.advance(_INTERVAL)
        self.successResultOf(listener.ended)
        self.close()

    def test_too_many(self) -> None:
        """
        Of a job with very many events the first are dropped, also from the database.
        """
        self.one.claim("a")
        self.text(self.one, *["x" * 10_000] * 200)
        listener = Listener(self.two, self.job)
        self.settle()
        self.assertEqual(listener.events[1].data["reason"], TOO_MANY)
        for _ in range(3):
            self.text(self.one, *["x" * 10_000] * 100)
            self.settle()
        kept = self.database.jobs["a"].events
        self.assertLessEqual(sum(len(row.data) for row in kept.values()), MAX_JOB_BYTES)
        self.assertGreater(len(kept), 10)
        self.close()

    def test_unknown(self) -> None:
        """
        Somebody who names an event that nobody can have sent gets a gap, then everything.
        """
        Listener(self.two, self.job)
        self.one.claim("a")
        self.text(self.one, "a")
        self.settle()
        for after in ("1-9", "9-1", "end"):
            listener = Listener(self.three, self.job, after)
            self.assertEqual(
                listener.seen(), ["0-0 gap " + UNKNOWN, "0-1 queued", "1-1 text a"], after
            )
        self.close()

    def test_leaves(self) -> None:
        """
        Somebody who leaves gets no more events, even in the middle of some, and the others do.
        """
        leaving: list[JobEvent] = []

        def leave(event: JobEvent) -> None:
            leaving.append(event)
            if event.name == "text":
                ended.cancel()

        ended = self.two.events.listen(self.job, None, leave)
        first, second = Listener(self.two, self.job), Listener(self.two, self.job)
        first.leave()
        self.one.claim("a")
        self.one.events.report("a", Started("worker1", 1))
        self.text(self.one, "a")
        self.one.events.report("a", Retrying("again", "same_turn"))
        self.settle()
        self.failureResultOf(ended, CancelledError)
        self.assertEqual(len(leaving), 3)
        self.assertEqual((len(first.events), len(second.events)), (1, 4))
        self.close()

    def test_listener_fails(self) -> None:
        """
        A listener that fails is logged, and gets the next events.
        """
        calls: list[JobEvent] = []

        def fail(event: JobEvent) -> None:
            calls.append(event)
            raise ZeroDivisionError

        self.two.events.listen(self.job, None, fail)
        self.one.claim("a")
        self.text(self.one, "a")
        self.settle()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)
        self.assertEqual(len(calls), 2)
        self.close()

    def test_server_stops(self) -> None:
        """
        When a server stops, its listeners' streams end without the job, and its events are stored.
        """
        here, there = Listener(self.one, self.job), Listener(self.two, self.job)
        self.one.claim("a")
        self.text(self.one, "a")
        self.one.events.close()
        self.assertIsNone(self.successResultOf(here.ended))
        self.assertEqual(there.seen(), ["0-1 queued", "1-1 text a"])
        self.assertIsNone(self.successResultOf(Listener(self.one, self.job).ended))
        self.close()

    def test_idle(self) -> None:
        """
        A server without jobs and listeners asks the database for nothing.
        """
        claims = self.one.claim("a")
        Listener(self.two, self.job).leave()
        self.one.end("a", claims)
        self.clock.advance(_INTERVAL)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_anything(self) -> None:
        """
        Whatever happens, somebody who hops between servers gets each event once, with the same
        identifier as others do, and is told where events are missing; if no server dies and none is
        cut off for good, none are.
        """
        for seed in range(60):
            self.setUp()
            Anything(self, Random(seed), may_die=seed % 2 == 0).run()


class Anything:
    """
    Run one job on three servers, and let anything happen.
    """

    def __init__(self, test: ClusterJobEventsTests, random: Random, *, may_die: bool) -> None:
        self.test, self.random, self.may_die = test, random, may_die
        self.servers = [test.one, test.two, test.three]
        for server in self.servers:
            server.table.held = True
        # If the owner does not learn in time that somebody listens, events are missing, too.
        test.database.jobs["a"].watched = not may_die
        self.owner: Server | None = None
        self.claims = 0
        self.words: list[str] = []
        self.hopper = Listener(random.choice(self.servers), test.job)
        self.seen: list[JobEvent] = []

    def run(self) -> None:
        for _ in range(120):
            self.step()
            self.operate(self.random.randrange(4))
        self.finish()
        self.check()

    def operate(self, count: int) -> None:
        for _ in range(count):
            server = self.random.choice(self.servers)
            if not server.table.run():
                self.test.clock.advance(self.random.choice([0.0, 0.05, 0.1, 1.0]))

    def step(self) -> None:
        test, random = self.test, self.random
        steps = ["text"] * 4 + ["hop", "cut off", "heal", "deaf", "hear", "claim", "retry"]
        match random.choice([*steps, "die"] if self.may_die else steps):
            case "text" if self.owner is not None:
                self.words.append(f"{self.claims}.{len(self.words)}")
                test.text(self.owner, self.words[-1] + " ")
            case "claim" if self.owner is None and test.database.jobs["a"].job.state == "queued":
                self.owner = random.choice(self.servers)
                self.claims = self.owner.claim("a")
                self.words = []
                self.owner.events.report("a", Started("worker1", self.claims))
            # The events of two runs are kept.
            case "retry" if self.owner is not None and (self.may_die or self.claims < 2):
                self.owner.events.retry("a", "it failed")
                self.owner.events.queue_again("a")
                self.owner.release("a", self.claims)
                self.owner = None
            case "die" if self.owner is not None:
                # Its lease passes; it may still go on for a while.
                test.database.put_back("a")
                self.owner = None
            case "hop":
                self.hop()
            case "cut off":
                random.choice(self.servers).table.break_(random.randrange(3))
            case "heal":
                random.choice(self.servers).table.heal()
            case "deaf":
                random.choice(self.servers).topics.connected = False
            case "hear":
                random.choice(self.servers).topics.reconnect()

    def hop(self) -> None:
        """
        Lose the connection, and some of the last events, and continue elsewhere.
        """
        self.hopper.leave()
        self.seen += self.hopper.events[: self.random.randint(0, len(self.hopper.events))]
        after = str(self.seen[-1].id) if self.seen else None
        job = self.test.database.jobs["a"].job
        self.hopper = Listener(self.random.choice(self.servers), job, after)

    def finish(self) -> None:
        """
        Repair everything, and end the job.
        """
        for server in self.servers:
            server.table.held = False
            server.table.heal()
            server.topics.reconnect()
        if self.owner is None:
            self.owner = self.servers[0]
            self.claims = self.owner.claim("a")
            self.words = []
        self.owner.end("a", self.claims)
        self.test.clock.pump([_INTERVAL] * 5)
        self.seen += self.hopper.events

    def check(self) -> None:
        test = self.test
        test.assertEqual(test.successResultOf(self.hopper.ended), test.database.jobs["a"].job)
        ids = [event.id for event in self.seen]
        test.assertEqual(ids, sorted(set(ids)))
        always = Listener(self.servers[2], test.job)
        events = {event.id: event for event in always.events}
        gaps = [event for event in self.seen if event.name == "gap"]
        for event in self.seen:
            if event.id.run >= self.claims and event.name != "gap":
                test.assertEqual(event, events[event.id])
        for before, after in zip(self.seen, self.seen[1:], strict=False):
            if after.name != "gap" and after.id.run == before.id.run:
                test.assertEqual(after.id.number, before.id.number + 1)
        last_run = [event for event in self.seen if event.id.run == self.claims]
        words = "".join(str(event.data.get("text", "")) for event in last_run).split()
        if not [event for event in gaps if event.id.run == self.claims and event.id.number]:
            test.assertEqual(words, self.words)
        if not self.may_die:
            test.assertEqual(gaps, [])
        test.close()
