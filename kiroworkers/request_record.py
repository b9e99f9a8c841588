"""
Define the record of a request: the facts about it, and the events that happen to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple, Protocol, TypeAlias

from attrs import Factory, define

from kiroworkers.trace_context import TraceContext

#: How a request ended.
Outcome: TypeAlias = Literal["answered", "accepted", "replayed", "failed", "cancelled", "rejected"]

#: The status of a request whose client hung up before its response began, as in nginx's log.
CLIENT_CLOSED_REQUEST = 499

#: The lowest HTTP status of a failure.
_FIRST_ERROR = 400

#: What happens to a request, in the usual order; docs/how-to/follow-a-request.rst explains each.
#: `cleared` may come after `ended`: the agent forgets a conversation after its answer was sent.
EventName: TypeAlias = Literal[
    "received",
    "checked",
    "queued",
    "started",
    "submitted",
    "first_output",
    "tool_asked",
    "tool_decided",
    "tool_used",
    "notice",
    "retry",
    "answered",
    "repaired",
    "failed",
    "cancelled",
    "interrupted",
    "cleared",
    "ended",
]

#: The number of events of a request that its record keeps: the first ones, and the last ones.
MAX_FIRST, MAX_LAST = 100, 100

#: The events that may have long texts, and the longest text that is kept, in characters.
EVENTS_WITH_TEXT: frozenset[EventName] = frozenset(
    ("tool_asked", "tool_used", "notice", "retry", "failed", "received")
)
_MAX_TEXT = 500

#: The facts of an event, by name.
EventData: TypeAlias = Mapping[str, str | int | float | bool | None]


class RequestEvent(NamedTuple):
    """
    Report that something has happened to a request.

    It is a tuple because each request makes several, and a tuple is made in a sixth of the time
    that a frozen class takes.

    Attributes:
        name: The kind of the event.
        at: When it happened, in seconds on the clock of the reactor.
        data: Its facts.
    """

    name: EventName
    at: float
    data: EventData


class OnRequestEvent(Protocol):
    """
    Define a function that is called with the events of requests.
    """

    def __call__(self, record: RequestRecord, name: EventName, data: EventData, /) -> None:
        """
        Take note that the event `name` has happened to the request of `record`.
        """


@define(eq=False)
class RequestRecord:
    """
    Collect the facts about one request, or about one job, while it is handled.

    Each module that handles the request fills in what it knows.  What is not known, or does
    not apply, stays None.  All text may come from clients, so it is cleaned where it is printed.

    Attributes:
        id: The request's identifier, which the client has sent or the server has made.
        trace: The trace that the client has sent, if any.
        on_event: Called with each event; None if nobody observes the request.
        host: The address of the client, or ``unix`` for a UNIX domain socket.
        user: The name of the client's token, never the token.
        client: The client whose share of the workers the request counts towards.
        method: The HTTP method; ``JOB`` for a job.
        path: The path without its query.
        protocol: The version of HTTP.
        referrer: The Referer header without its query.
        user_agent: The User-Agent header.
        task: The name of the task, or ``chat``.
        agent: The name of the agent.
        model: The model that the client has chosen, if any.
        worker: The name of the last worker that was asked.
        attempts: The number of workers that were asked.
        prompted: Whether a prompt was sent to one of them.
        repairs: The number of times that a worker was asked to correct its answer.
        wait: Seconds for which the request was in the queue.
        turn: Seconds for which workers were occupied by it.
        received_at: When its head and body had been received, in seconds on the clock of the
            reactor.
        first_output: Seconds from then until an agent was first seen to begin an answer.
        credits: The credits that its turns used, where the agent says.
        tools_denied: The number of requests to use a tool that were denied in its last turn; None
            if there were none.
        tools_unasked: The number of tools that the agent used without asking in its last turn.
        total: Seconds from the first line of the request to the end of its response; of a job,
            from its start to its end.
        status: The HTTP status that was sent.
        sent: The size of the body that was sent, in bytes.
        code: The code of the failure that the client was told.
        job: The identifier of the job that was created.
        replayed: Whether the response to an earlier request was sent again.
        aborted: Whether the connection was closed before the response was complete, or the client
            has cancelled the request in a message.
        ended: When the request ended, in seconds since the epoch; None until then.
        completed_at: When its response was complete, in seconds on the clock of the reactor;
            None if that is the time at which the end is reported.
        events: The events that are kept, in the order in which they were reported.
        events_left_out: The number of events in the middle that are not kept.
    """

    id: str = ""
    trace: TraceContext | None = None
    on_event: OnRequestEvent | None = None
    host: str | None = None
    user: str | None = None
    client: str | None = None
    method: str | None = None
    path: str | None = None
    protocol: str | None = None
    referrer: str | None = None
    user_agent: str | None = None
    task: str | None = None
    agent: str | None = None
    model: str | None = None
    worker: str | None = None
    attempts: int | None = None
    prompted: bool = False
    repairs: int = 0
    wait: float | None = None
    turn: float | None = None
    received_at: float | None = None
    first_output: float | None = None
    credits: float | None = None
    tools_denied: int | None = None
    tools_unasked: int | None = None
    total: float | None = None
    status: int | None = None
    sent: int | None = None
    code: str | None = None
    job: str | None = None
    replayed: bool = False
    aborted: bool = False
    ended: float | None = None
    completed_at: float | None = None
    events: list[RequestEvent] = Factory(list)
    events_left_out: int = 0

    @property
    def outcome(self) -> Outcome:
        """
        Return how the request, which has ended, has ended.

        A request that failed was rejected if it was neither queued nor given to a worker.
        """
        if self.aborted or self.status == CLIENT_CLOSED_REQUEST:
            return "cancelled"
        if self.replayed:
            return "replayed"
        # A stream has the status of a success, and tells of a failure in an event.
        if self.code is None and (self.status or 0) < _FIRST_ERROR:
            return "accepted" if self.job is not None and self.method != "JOB" else "answered"
        return "rejected" if self.wait is None and self.attempts is None else "failed"

    def fail(self, code: str, reason: str) -> None:
        """
        Note the failure that the client is told, and report it.

        Args:
            code: The code of the failure.
            reason: The sentence for people.
        """
        self.code = code
        self.report("failed", code=code, reason=reason)

    def keep(self, event: RequestEvent) -> None:
        """
        Keep `event`, with the beginnings of its texts.
        """
        if event.name in EVENTS_WITH_TEXT:
            data = {name: _shortened(value) for name, value in event.data.items()}
            event = RequestEvent(event.name, event.at, data)
        self.events.append(event)
        if len(self.events) > MAX_FIRST + MAX_LAST:
            del self.events[MAX_FIRST]
            self.events_left_out += 1

    def report(self, name: EventName, **data: str | int | float | bool | None) -> None:
        """
        Report the event `name`, with its facts, to whoever observes the request.
        """
        if self.on_event is not None:
            self.on_event(self, name, data)


def _shortened(value: str | int | float | bool | None) -> str | int | float | bool | None:
    if isinstance(value, str) and len(value) > _MAX_TEXT:
        return f"{value[:_MAX_TEXT]}…"
    return value
