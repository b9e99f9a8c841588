"""
Pass what happens to requests and in sessions on to everything that observes them.

Observers decide nothing.  One that fails is logged, and disturbs neither the request nor
the other observers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
        observers: The observers.

    Args:
        clock: Tells when an event happens.
        observers: The first observers.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, observers: Sequence[RequestObserver] = ()) -> None:
        self._seconds = clock.seconds
        self.observers = [*observers]

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
        for observer in self.observers:
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
        self._observers = tuple(observers)

    def state_changed(self, old: SessionState, new: SessionState, reason: str) -> None:
        """
        Pass on a change of the session's state.
        """
        self._pass_on(lambda observer: observer.state_changed(old, new, reason))

    def output(self, data: bytes) -> None:
        """
        Pass on what the agent has printed.
        """
        for observer in self._observers:
            try:
                observer.output(data)
            except Exception:
                self._report_failure()

    def stderr(self, data: bytes) -> None:
        """
        Pass on what the agent has printed to its standard error.
        """
        self._pass_on(lambda observer: observer.stderr(data))

    def typed(self, data: bytes) -> None:
        """
        Pass on what was typed into the agent.
        """
        self._pass_on(lambda observer: observer.typed(data))

    def asked(self, record: RequestRecord | None, prompt: str) -> None:
        """
        Pass on that the agent is being asked.
        """
        self._pass_on(lambda observer: observer.asked(record, prompt))

    def replied(self, text: str) -> None:
        """
        Pass on the agent's reply.
        """
        self._pass_on(lambda observer: observer.replied(text))

    def _pass_on(self, call: Callable[[SessionObserver], None]) -> None:
        for observer in self._observers:
            try:
                call(observer)
            except Exception:
                self._report_failure()

    def _report_failure(self) -> None:
        self._log.failure("internal error while observing a session")
