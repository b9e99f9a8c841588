"""
Tests for `kiroworkers.telemetry.observers`.
"""

from __future__ import annotations

from attrs import define, field
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.request_record import RequestEvent, RequestRecord
from kiroworkers.session.observer import SessionInfo, SessionObserver
from kiroworkers.session.state import SessionState
from kiroworkers.telemetry.observers import RequestObservers, observe_all


@define
class EventList:
    """
    Keep the events of requests.
    """

    events: list[RequestEvent] = field(factory=list)

    def request_event(self, record: RequestRecord, event: RequestEvent) -> None:
        self.events.append(event)


class Broken:
    """
    An observer of requests, or of a session, that always fails.
    """

    def request_event(self, record: RequestRecord, event: RequestEvent) -> None:
        raise RuntimeError("broken")

    def state_changed(self, old: SessionState, new: SessionState, reason: str) -> None:
        raise RuntimeError("broken")

    def output(self, data: bytes) -> None:
        raise RuntimeError("broken")

    stderr = typed = output

    def asked(self, record: RequestRecord | None, prompt: str) -> None:
        raise RuntimeError("broken")

    def replied(self, text: str) -> None:
        raise RuntimeError("broken")


@define
class CallList:
    """
    Keep what happens in a session.
    """

    calls: list[tuple[object, ...]] = field(factory=list)

    def state_changed(self, old: SessionState, new: SessionState, reason: str) -> None:
        self.calls.append((old, new, reason))

    def output(self, data: bytes) -> None:
        self.calls.append(("output", data))

    def stderr(self, data: bytes) -> None:
        self.calls.append(("stderr", data))

    def typed(self, data: bytes) -> None:
        self.calls.append(("typed", data))

    def asked(self, record: RequestRecord | None, prompt: str) -> None:
        self.calls.append((record, prompt))

    def replied(self, text: str) -> None:
        self.calls.append((text,))


class RequestObserversTests(SynchronousTestCase):
    """
    Tests for `RequestObservers`.
    """

    def setUp(self) -> None:
        self.clock, self.seen = Clock(), EventList()

    def test_times(self) -> None:
        """
        Each event has the time at which it happened, and the record has the time until the
        first output.
        """
        record = RequestRecord(on_event=RequestObservers(self.clock, [self.seen]))
        self.clock.advance(10)
        record.report("received")
        for seconds in (2, 3):
            self.clock.advance(seconds)
            record.report("first_output", worker="worker1")
        self.assertEqual([event.at for event in self.seen.events], [10, 12, 15])
        self.assertEqual(self.seen.events[2].data, {"worker": "worker1"})
        self.assertEqual(record.first_output, 2)

    def test_end(self) -> None:
        """
        The end of a request has the time at which its response was complete, even if it is
        reported later.
        """
        record = RequestRecord(on_event=RequestObservers(self.clock, [self.seen]))
        self.clock.advance(10)
        record.completed_at = self.clock.seconds()
        self.clock.advance(0.01)
        record.report("cleared")
        record.report("ended")
        self.assertEqual(
            [(event.name, event.at) for event in self.seen.events],
            [("cleared", 10.01), ("ended", 10)],
        )

    def test_some(self) -> None:
        """
        An observer may learn of some events only, before those that learn of all.
        """
        observers, some = RequestObservers(self.clock, [self.seen]), EventList()
        observers.add(some, ("started", "ended"))
        record = RequestRecord(on_event=observers)
        for name in ("received", "started", "ended"):
            record.report(name)
        self.assertEqual([event.name for event in some.events], ["started", "ended"])
        self.assertEqual(self.seen.events[1:], some.events)
        self.assertEqual(record.events, self.seen.events)

    def test_failure(self) -> None:
        """
        An observer that fails is logged, and the others still learn of the event.
        """
        observers = RequestObservers(self.clock, [Broken(), self.seen])
        RequestRecord(on_event=observers).report("received")
        self.assertEqual(len(self.seen.events), 1)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)


class SessionObserversTests(SynchronousTestCase):
    """
    Tests for `observe_all`.
    """

    info = SessionInfo("worker1", "kiro", (24, 80))

    def test_none(self) -> None:
        """
        A session that nothing observes has no observer.
        """
        self.assertIsNone(observe_all([])(self.info))
        self.assertIsNone(observe_all([lambda info: None])(self.info))

    def test_all(self) -> None:
        """
        All observers learn of everything, in the order in which it happens, even if one of
        them fails.
        """
        first, second, broken = CallList(), CallList(), Broken()
        made: list[SessionObserver | None] = [first, None, broken, second]
        observer = observe_all([lambda info, one=one: one for one in made])(self.info)  # type: ignore[misc]
        assert observer is not None
        record = RequestRecord()
        observer.state_changed(SessionState.IDLE, SessionState.BUSY, "")
        observer.asked(record, "prompt")
        observer.typed(b"a")
        observer.output(b"b")
        observer.stderr(b"c")
        observer.replied("text")
        expected = [
            (SessionState.IDLE, SessionState.BUSY, ""),
            (record, "prompt"),
            ("typed", b"a"),
            ("output", b"b"),
            ("stderr", b"c"),
            ("text",),
        ]
        self.assertEqual((first.calls, second.calls), (expected, expected))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), len(expected))
