"""
Pass what happens to requests and in sessions on to everything that observes them.

Observers decide nothing.  One that fails is logged, and disturbs neither the request nor
the other observers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from kiroworkers.request_record import EventData, EventName, RequestEvent, RequestRecord
from kiroworkers.session.observer import SessionInfo, SessionObserver
from kiroworkers.session.state import SessionState


class RequestObserver(Protocol):
    """
    Define what observes requests.
    """

    def request_event(self, record: RequestRecord, event: RequestEvent) -> None:
        """
        Take note of an event.

        Args:
            record: The facts about the request that are known so far.
            event: What has happened.
        """


class RequestObservers:
    """
    Pass the events of requests on to all observers, as an `OnRequestEvent`.

    Attributes:
        observers: Those that observe all events.

    Args:
        clock: Tells when an event happens.
        observers: The first observers.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, observers: Sequence[RequestObserver] = ()) -> None:
        self._seconds = clock.seconds
        self.observers = [*observers]
        self._by_name: dict[EventName, list[RequestObserver]] = {}

    def add(self, observer: RequestObserver, names: Iterable[EventName]) -> None:
        """
        Add an observer of the events `names` only, which comes before those of all events.
        """
        for name in names:
            self._by_name.setdefault(name, []).append(observer)

    def __call__(self, record: RequestRecord, name: EventName, data: EventData) -> None:
        """
        Pass on that the event `name` has happened to the request of `record`, which keeps it.
        """
        at = self._seconds()
        match name:
            case "received":
                record.received_at = at
            case "ended" if record.completed_at is not None:
                at = record.completed_at
            case "first_output" if record.first_output is None and record.received_at is not None:
                record.first_output = at - record.received_at
        event = RequestEvent(name, at, data)
        record.keep(event)
        for observer in (*self._by_name.get(name, ()), *self.observers):
            try:
                observer.request_event(record, event)
            except Exception:
                self._log.failure("internal error while observing requests")


#: Returns an observer for a new session, or None.
ObserveSession = Callable[[SessionInfo], SessionObserver | None]


def observe_all(factories: Sequence[ObserveSession]) -> ObserveSession:
    """
    Return a function that makes one observer of a session from those of all `factories`.
    """

    def observe(info: SessionInfo) -> SessionObserver | None:
        observers = [made for made in (factory(info) for factory in factories) if made is not None]
        return SessionObservers(observers) if observers else None

    return observe


class SessionObservers:
    """
    Pass what happens in one session on to several observers.
    """

    _log = Logger()

    def __init__(self, observers: Sequence[SessionObserver]) -> None:
        # The methods, so that none is looked up for each piece of output.
        self._state_changed = [observer.state_changed for observer in observers]
        self._output = [observer.output for observer in observers]
        self._stderr = [observer.stderr for observer in observers]
        self._typed = [observer.typed for observer in observers]
        self._asked = [observer.asked for observer in observers]
        self._replied = [observer.replied for observer in observers]

    def state_changed(self, old: SessionState, new: SessionState, reason: str) -> None:
        """
        Pass on a change of the session's state.
        """
        for take in self._state_changed:
            try:
                take(old, new, reason)
            except Exception:
                self._report_failure()

    def output(self, data: bytes) -> None:
        """
        Pass on what the agent has printed.
        """
        for take in self._output:
            try:
                take(data)
            except Exception:
                self._report_failure()

    def stderr(self, data: bytes) -> None:
        """
        Pass on what the agent has printed to its standard error.
        """
        for take in self._stderr:
            try:
                take(data)
            except Exception:
                self._report_failure()

    def typed(self, data: bytes) -> None:
        """
        Pass on what was typed into the agent.
        """
        for take in self._typed:
            try:
                take(data)
            except Exception:
                self._report_failure()

    def asked(self, record: RequestRecord | None, prompt: str) -> None:
        """
        Pass on that the agent is being asked.
        """
        for take in self._asked:
            try:
                take(record, prompt)
            except Exception:
                self._report_failure()

    def replied(self, text: str) -> None:
        """
        Pass on the agent's reply.
        """
        for take in self._replied:
            try:
                take(text)
            except Exception:
                self._report_failure()

    def _report_failure(self) -> None:
        self._log.failure("internal error while observing a session")
