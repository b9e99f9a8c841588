"""
Tests for `kiroworkers.jobs.job_events`.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.jobs.job import Job
from kiroworkers.jobs.job_events import MAX_JOB_BYTES, EventId, JobEvent, JobEvents
from kiroworkers.pool.progress import AgentNotice, PartialText, Queued, Retrying, Started
from tests.jobs.support import new_job


class Listener:
    """
    Listen to a job, and collect its events.

    Attributes:
        events: The events.
        ended: Fires at the end.
    """

    def __init__(self, job_events: JobEvents, job: Job, after: str | None = None) -> None:
        self.events: list[JobEvent] = []
        self.ended: Deferred[Job | None] = job_events.listen(job, after, self.events.append)

    @property
    def last(self) -> str | None:
        return str(self.events[-1].id) if self.events else None

    def seen(self) -> list[tuple[str, str, Any]]:
        """
        Return the identifier, the name and the decisive fact of each event.
        """
        return [
            (str(event.id), event.name, next(iter(event.data.values()))) for event in self.events
        ]


class JobEventsTests(SynchronousTestCase):
    """
    Tests for `JobEvents`.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.begin(1)

    def begin(self, server: int) -> None:
        """
        Start server number `server`.
        """
        self.events = JobEvents(self.clock)
        self.events.server = server
        self.job = new_job("a", position=3)

    def replay(self, after: str | None) -> list[JobEvent]:
        """
        Return the events of the job, which has ended.
        """
        events: list[JobEvent] = []
        self.successResultOf(self.events.replay(self.job, after, events.append))
        return events

    def report_text(self, *pieces: str) -> None:
        for piece in pieces:
            self.events.report("a", PartialText(piece))

    def test_all(self) -> None:
        """
        A listener gets the events that it has missed, and then each as it happens; texts that
        come at the same time are one event.
        """
        self.events.report("a", Queued(1, 2.55))
        self.events.report("a", Started("worker1", 1))
        self.report_text("a", "b")
        listener = Listener(self.events, self.job)
        self.assertEqual(
            listener.seen(),
            [
                ("1-1", "queued", None), ("1-2", "queued", 1), ("1-3", "started", "worker1"),
                ("1-4", "text", "ab"),
            ],
        )  # fmt: skip
        listener.events.clear()
        self.report_text("c", "d")
        self.assertEqual(listener.events, [])
        self.clock.advance(0.1)
        self.report_text("e")
        self.events.report("a", AgentNotice("stall", "It is silent"))
        self.events.report("a", Retrying("it ended", "new_conversation"))
        self.events.queue_again("a")
        self.assertEqual(
            listener.seen(),
            [
                ("1-5", "text", "cd"), ("1-6", "text", "e"), ("1-7", "notice", "stall"),
                ("1-8", "retry", "it ended"), ("1-9", "queued", None),
            ],
        )  # fmt: skip
        self.report_text("f")
        self.events.end(self.job)
        self.assertEqual(listener.seen()[-1], ("1-10", "text", "f"))
        self.assertIs(self.successResultOf(listener.ended), self.job)

    def test_position(self) -> None:
        """
        Somebody who listens to a job that waits is told its position, each time that it does.
        """
        for _ in range(2):
            listener = Listener(self.events, self.job)
            self.assertEqual(listener.seen(), [("1-1", "queued", 3)])
            listener.ended.cancel()
            self.failureResultOf(listener.ended, CancelledError)
        self.assertEqual(self.events._unfinished, {})

    def test_leaves(self) -> None:
        """
        Somebody who leaves gets no more events, and the others do.
        """
        first, second = Listener(self.events, self.job), Listener(self.events, self.job)
        first.ended.cancel()
        self.failureResultOf(first.ended, CancelledError)
        self.events.report("a", Started("worker1", 1))
        self.assertEqual((len(first.events), len(second.events)), (1, 2))

    def test_listener_fails(self) -> None:
        """
        A listener that fails is logged, and the others get the event.
        """
        calls: list[JobEvent] = []

        def fail(event: JobEvent) -> None:
            calls.append(event)
            if len(calls) > 1:
                raise ZeroDivisionError

        self.events.listen(self.job, None, fail)
        listener = Listener(self.events, self.job)
        self.events.report("a", Started("worker1", 1))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(len(listener.events), 2)

    @given(st.data())
    def test_cut(self, data: Any) -> None:
        """
        However often somebody loses the connection, also after the end of the job, nothing is
        lost and nothing is repeated.
        """
        self.setUp()
        always = Listener(self.events, self.job)
        seen: list[JobEvent] = []
        now: Listener | None = None
        text = 0
        for step in data.draw(
            st.lists(st.sampled_from(["text", "retry", "wait", "cut", "listen"]), max_size=40)
        ):
            match step:
                case "text":
                    text += 1
                    self.report_text(f"{text} ")
                case "retry":
                    self.events.report("a", Retrying("again", "same_turn"))
                case "wait":
                    self.clock.advance(0.1)
                case "cut" if now is not None:
                    now.ended.cancel()
                    self.failureResultOf(now.ended, CancelledError)
                    # The connection may have lost some.
                    seen += now.events[: data.draw(st.integers(0, len(now.events)))]
                    now = None
                case "listen" if now is None:
                    now = Listener(self.events, self.job, str(seen[-1].id) if seen else None)
        self.events.end(self.job)
        if now is not None:
            seen += now.events
        seen += self.replay(str(seen[-1].id) if seen else None)
        self.assertEqual(seen, always.events)
        words = [word for event in seen for word in str(event.data.get("text", "")).split()]
        self.assertEqual(words, [*map(str, range(1, text + 1))])

    def test_too_many(self) -> None:
        """
        Of a job with very many events the first are dropped, and somebody who has not seen them
        gets a gap, but not again.
        """
        self.report_text(*["x" * 10_000] * 200)
        listener = Listener(self.events, self.job)
        kept = self.events._unfinished["a"]
        self.assertLessEqual(kept.size, MAX_JOB_BYTES)
        self.assertEqual(listener.events[0].name, "gap")
        self.assertEqual(
            listener.events[0].data["reason"], "There were more events than the server keeps"
        )
        first = listener.events[1].id
        self.assertEqual(listener.events[0].id, EventId(1, first.number - 1))
        for after, names in [
            ("1-1", ["gap", "text"]), (str(listener.events[0].id), ["text", "text"]),
            (str(first), ["text", "text"]), (listener.last, []),
        ]:  # fmt: skip
            again = Listener(self.events, self.job, after)
            self.assertEqual([event.name for event in again.events[:2]], names, after)

    def test_unknown_id(self) -> None:
        """
        Somebody who names an event that this server cannot have sent gets a gap, then everything.
        """
        self.events.report("a", Started("worker1", 1))
        for after in ("1-9", "2-1", "end"):
            listener = Listener(self.events, self.job, after)
            self.assertEqual(
                [event.name for event in listener.events], ["gap", "queued", "started"]
            )

    def test_restart(self) -> None:
        """
        After a restart of the server, identifiers continue to grow, and a gap is declared once.
        """
        self.events.report("a", Started("worker1", 1))
        self.report_text("half an ans")
        before = Listener(self.events, self.job)
        self.begin(2)
        self.events.resume(new_job("a", attempts=1, state="running"))
        after = Listener(self.events, self.job, before.last)
        self.assertEqual(
            after.seen()[:2],
            [("2-0", "gap", "The server was restarted"), ("2-1", "queued", None)],
        )
        self.assertLess(before.events[-1].id, after.events[0].id)
        for id in ("2-0", "2-1"):
            again = Listener(self.events, self.job, id)
            self.assertNotIn("gap", [event.name for event in again.events], id)
        self.assertEqual(Listener(self.events, self.job).events[0].name, "gap")

    def test_restart_before_it_ran(self) -> None:
        """
        Somebody who listens for the first time after a restart misses nothing of a job that had
        not run before.
        """
        self.events.resume(self.job)
        self.assertEqual(Listener(self.events, self.job).seen(), [("1-1", "queued", 3)])

    def test_ended(self) -> None:
        """
        The events of a job that has ended are kept for a minute if somebody has listened.
        """
        listener = Listener(self.events, self.job)
        self.events.report("a", Started("worker1", 1))
        self.events.end(self.job)
        self.assertEqual(self.replay(None), listener.events)
        self.assertEqual(self.replay(listener.last), [])
        self.clock.advance(61)
        for after in (None, listener.last):
            [gap] = self.replay(after)
            self.assertEqual(gap.name, "gap")
            self.assertEqual(self.replay(str(gap.id)), [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_nobody_listens(self) -> None:
        """
        Nothing is kept of a job to which nobody has listened, and no timer runs.
        """
        self.events.report("a", Started("worker1", 1))
        self.report_text("x", "y")
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.events.end(self.job)
        self.assertEqual((self.events._unfinished, len(self.events._ended)), ({}, 0))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_many_ended(self) -> None:
        """
        The events of jobs that have ended take a bounded number of bytes.
        """
        for number in range(30):
            job = new_job(str(number))
            Listener(self.events, job)
            for _ in range(100):
                self.events.report(job.id, PartialText("x" * 20_000))
            self.events.end(job)
        self.assertEqual(len(self.events._ended), 8)
        self.events.close()
        self.assertEqual(self.events._ended_bytes, 0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_close(self) -> None:
        """
        When the server stops, listening ends without the job, and no timer is left.
        """
        listener = Listener(self.events, self.job)
        self.report_text("x")
        self.events.close()
        self.assertIsNone(self.successResultOf(listener.ended))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_ids(self) -> None:
        """
        An identifier reads as it is written; later ones are greater; nothing else is one.
        """
        id = EventId(2, 17)
        self.assertEqual(EventId.parse(str(id)), id)
        self.assertLess(EventId(2, 9), id)
        self.assertLess(EventId(1, 18), id)
        for text in ("", "end", "2", "2-", "-2-1", "2-1 ", "2-1\n", "٢-1", "1" * 10 + "-1"):
            self.assertIsNone(EventId.parse(text), text)
