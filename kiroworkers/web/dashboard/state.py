"""
Render the state of the server, and what happened to requests, as the page reads them.

Operators see everything.  Other clients see that requests of others wait and run, but neither
their identifiers and clients, nor the texts in their events.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from attrs import frozen

from kiroworkers import __version__
from kiroworkers.clocks import Now
from kiroworkers.jobs.presence import Presence
from kiroworkers.pool.agent_groups import AgentGroup
from kiroworkers.pool.approvals import Approvals
from kiroworkers.pool.dispatcher import RequestSnapshot
from kiroworkers.request_record import EventName, RequestRecord
from kiroworkers.web.dashboard.outages import Outages
from kiroworkers.web.dashboard.usage import UsageMeter
from kiroworkers.web.views import (
    agent_json,
    approval_json,
    milliseconds,
    server_json,
    storage_json,
    worker_json,
)

#: The number of requests of an agent that the queue shows; there may be many thousands.
MAX_WAITING_SHOWN = 100

#: The requests of each agent, by its name, that are shown.
Requests: TypeAlias = Mapping[str, Sequence[RequestSnapshot]]

#: The fields of a request that others do not see.
_PRIVATE = ("id", "client", "job")

#: The texts in events that others see.
_PUBLIC = ("name", "worker", "agent", "code", "kind", "where", "completion", "source")


#: The events that begin a phase of a request.
PHASES: frozenset[EventName] = frozenset(
    {"queued", "started", "submitted", "first_output", "tool_asked", "answered", "retry"}
)


class Phase(NamedTuple):
    """
    Hold what happens to a request now.

    Attributes:
        name: The event that it began with.
        since: When it began, in seconds on the clock of the reactor.
    """

    name: EventName
    since: float


def phase_of(record: RequestRecord) -> Phase | None:
    """
    Return the phase of a request that runs; None if it was only received.

    Once a question about a tool is decided, the phase before it goes on.
    """
    phase: Phase | None = None
    before: EventName | None = None
    for event in record.events:
        name = event.name
        if name == "tool_decided" and before is not None and phase is not None:
            phase, before = Phase(before, event.at), phase.name
        elif name in PHASES:
            before = name if phase is None else phase.name
            phase = Phase(name, event.at)
    return phase


@frozen
class Viewer:
    """
    Hold what somebody who watches may see.

    Attributes:
        client: The client whose requests are the viewer's own; None for no client.
        operator: Whether the viewer sees everything.
    """

    client: str | None
    operator: bool

    def may_see(self, client: str | None) -> bool:
        """
        Return whether the viewer sees the requests of `client`.
        """
        return self.operator or (client is not None and client == self.client)


class StateView:
    """
    Render the state of a server.

    Args:
        groups: The agents.
        approvals: What operators must decide.
        outages: What is known about the agents' outages.
        usage: What workers use.
        presence: Knows the servers that share a database; None without them.
    """

    def __init__(
        self,
        groups: Iterable[AgentGroup],
        approvals: Approvals,
        outages: Outages,
        usage: UsageMeter,
        presence: Presence | None = None,
    ) -> None:
        self._groups = groups
        self._approvals = approvals
        self._outages = outages
        self._usage = usage
        self._presence = presence

    def requests(self) -> Requests:
        """
        Return the requests that run, and the first that wait.
        """
        return {
            group.name: [*group.dispatcher.requests(MAX_WAITING_SHOWN)] for group in self._groups
        }

    def render(self, now: Now, viewer: Viewer, requests: Requests) -> dict[str, Any]:
        """
        Return the state as `viewer` sees it.

        Args:
            now: The current time.
            viewer: Who sees it.
            requests: What `requests` has just returned.
        """
        workers: dict[str, Any] = {}
        queue: list[tuple[float, dict[str, Any]]] = []
        for group in self._groups:
            running: dict[str, RequestSnapshot] = {}
            for request in requests[group.name]:
                if request.worker is None:
                    queue.append((request.arrived, _queued(request, group.name, now, viewer)))
                else:
                    running[request.worker] = request
            protocol = group.agent.dialect.transport != "terminal"
            for worker in group.dispatcher.workers():
                usage = self._usage.of(worker.pid)
                asked = running.get(worker.name)
                workers[worker.name] = {
                    **worker_json(worker, group.name, now, operator=viewer.operator),
                    "memory": None if usage is None else usage.memory,
                    "cpu": None if usage is None else usage.cpu,
                    "view": "messages" if protocol else "terminal",
                    "request": None if asked is None else self._running(asked, now, viewer),
                }
        queue.sort(key=lambda pair: pair[0])
        approvals = self._approvals.pending() if viewer.operator else []
        return {
            "time": milliseconds(now.wall),
            "version": __version__,
            "operator": viewer.operator,
            "cluster": self._cluster(),
            "agents": {group.name: self._agent(group) for group in self._groups},
            "workers": workers,
            "queue": [request for _, request in queue],
            "approvals": [approval_json(approval, now.monotonic) for approval in approvals],
        }

    def _cluster(self) -> dict[str, Any] | None:
        presence = self._presence
        if presence is None or presence.database is None:
            return None
        return {
            "server": presence.server_name,
            "database": storage_json(presence.database),
            "servers": [server_json(server) for server in presence.servers()],
        }

    def _agent(self, group: AgentGroup) -> dict[str, Any]:
        agent = agent_json(group)
        outage = self._outages.current(group.name)
        details = None
        if outage is not None:
            details = {
                "kind": outage.kind,
                "detail": outage.detail,
                "since": milliseconds(outage.since),
                "retryAfter": agent["pool"].get("retryAfter"),
            }
        return {**agent, "outage": details}

    def _running(self, request: RequestSnapshot, now: Now, viewer: Viewer) -> dict[str, Any]:
        options = request.options
        phase = phase_of(options.record)
        since = request.arrived if phase is None else phase.since
        return {
            "id": options.record.id if viewer.may_see(options.client) else None,
            "task": options.label,
            "phase": "received" if phase is None else phase.name,
            "since": milliseconds(now.since_epoch(since)),
        }


def _queued(request: RequestSnapshot, agent: str, now: Now, viewer: Viewer) -> dict[str, Any]:
    options = request.options
    return {
        "id": options.record.id if viewer.may_see(options.client) else None,
        "task": options.label,
        "agent": agent,
        "priority": options.priority,
        "age": milliseconds(now.monotonic - request.arrived),
    }


def redacted(request: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return a request with its events, as clients see it that did not send it.
    """
    events = [
        {name: value for name, value in event.items() if name in _PUBLIC or type(value) is not str}
        for event in request["events"]
    ]
    return {**request, **dict.fromkeys(_PRIVATE), "events": events}
