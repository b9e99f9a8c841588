"""
Serve the routes by which an operator controls the running server.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from klein import Klein
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.web.iweb import IRequest

from kiroworkers.clocks import Now, WallClock
from kiroworkers.errors import ErrorCode, InvalidInput
from kiroworkers.pool.agent_groups import AgentGroup, AgentGroups
from kiroworkers.pool.approvals import Approvals
from kiroworkers.pool.dispatcher import Dispatcher
from kiroworkers.pool.worker import Worker
from kiroworkers.session.end_cause import EndCause, EndReason
from kiroworkers.web.auth import Authorizer
from kiroworkers.web.body import json_body
from kiroworkers.web.errors import HttpError, handle_failures, respond
from kiroworkers.web.openapi.responses import json_response
from kiroworkers.web.openapi.schemas import ref
from kiroworkers.web.recorded_request import record_of
from kiroworkers.web.request_options import queried_agent
from kiroworkers.web.routing import RequestBody, route
from kiroworkers.web.views import agents_json, approval_json, request_json, worker_json

#: The maximum number of workers of one agent: more than one machine can run.
MAX_WORKERS = 512

#: What an operator can decide about an agent's request to use a tool.
DECISIONS = ("allow", "deny")

#: The reason for restarts, as the log gives it.
_RESTART_REASON = EndReason(EndCause.OPERATOR, "requested by an operator")

_POOLS = json_response("The agents and their pools.", ref("Agents"))

_WORKER = json_response("The operation was started.", ref("WorkerAction"))


class OperatorRoutes:
    """
    Serve the routes below ``/operator``.

    Routes that concern pools apply to all of them, or only to that of ``?agent=NAME``.

    Attributes:
        authorizer: Decides which requests are allowed.

    Args:
        clock: Tells the time.
        groups: The agents and their pools.
        authorizer: As above.
        wall_clock: Returns the seconds since the epoch.
        approvals: What operators decide about.
        on_change: Called when an operator has changed a pool.
    """

    app = Klein()
    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        groups: AgentGroups,
        authorizer: Authorizer,
        wall_clock: WallClock,
        approvals: Approvals,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self._clock = clock
        self._wall_clock = wall_clock
        self._groups = groups
        self._approvals = approvals
        self._on_change = on_change
        self.authorizer = authorizer

    @route(
        app,
        "GET",
        "/queue",
        scope="operate",
        tag="Operator",
        parameters=("AgentQuery",),
        responses={200: json_response("The requests.", ref("Requests"))},
    )
    def queue(self, request: IRequest, client: str) -> bytes:
        """
        List the requests that are waiting or running, oldest first.

        The list covers all agents, or only the one of ``?agent=NAME``.
        """
        now, groups = self._clock.seconds(), self._groups.select(queried_agent(request))
        snapshots = [
            (snapshot, group.name) for group in groups for snapshot in group.dispatcher.requests()
        ]
        snapshots.sort(key=lambda pair: pair[0].arrived)
        ids = {
            (approval.agent, approval.request): approval.id
            for approval in self._approvals.pending()
        }
        requests = [
            request_json(snapshot, name, now, ids.get((name, snapshot.number)))
            for snapshot, name in snapshots
        ]
        return respond(request, 200, {**agents_json(groups), "requests": requests})

    @route(
        app,
        "GET",
        "/approvals",
        scope="operate",
        tag="Operator",
        parameters=("AgentQuery",),
        responses={200: json_response("The undecided requests.", ref("Approvals"))},
    )
    def approvals(self, request: IRequest, client: str) -> bytes:
        """
        List the agents' requests to use a tool that wait for a decision, oldest first.

        Agents ask operators if the server runs with ``--tools ask``.  The list covers all
        agents, or only the one of ``?agent=NAME``.
        """
        now, groups = self._clock.seconds(), self._groups.select(queried_agent(request))
        names = {group.name for group in groups}
        approvals = [
            approval_json(approval, now)
            for approval in self._approvals.pending()
            if approval.agent in names
        ]
        return respond(request, 200, {"approvals": approvals})

    @route(
        app,
        "POST",
        "/approvals/<id>",
        scope="operate",
        tag="Operator",
        parameters=("ApprovalId",),
        body=RequestBody(ref("Decision"), {"decision": "deny"}),
        responses={200: json_response("The decision was made.", ref("Decided"))},
        failures=(ErrorCode.UNKNOWN_APPROVAL,),
    )
    def decide(self, request: IRequest, client: str, id: str) -> bytes:
        """
        Allow or deny an agent's request to use a tool, for this one use.

        Without a decision, it is denied at the deadline of the client's request.
        """
        body = json_body(request)
        decision = body.get("decision") if isinstance(body, dict) else None
        if decision not in DECISIONS:
            raise InvalidInput("decision", f"decision must be {' or '.join(DECISIONS)}")
        self._approvals.decide(id, allow=decision == "allow")
        self._log_action(request, client, f"{decision} approval", id)
        return respond(request, 200, {"id": id, "decision": decision})

    @route(
        app,
        "POST",
        "/pause",
        scope="operate",
        tag="Operator",
        parameters=("AgentQuery",),
        responses={200: _POOLS},
    )
    def pause(self, request: IRequest, client: str) -> bytes:
        """
        Pause dispatching: start no turn until dispatching is resumed.

        Running turns finish, and new requests are still queued.
        """
        return self._apply(request, client, "pause", Dispatcher.pause)

    @route(
        app,
        "POST",
        "/resume",
        scope="operate",
        tag="Operator",
        parameters=("AgentQuery",),
        responses={200: _POOLS},
    )
    def resume(self, request: IRequest, client: str) -> bytes:
        """
        Resume dispatching after a pause.
        """
        return self._apply(request, client, "resume", Dispatcher.resume)

    @route(
        app,
        "POST",
        "/renew",
        scope="operate",
        tag="Operator",
        parameters=("AgentQuery",),
        responses={200: _POOLS},
    )
    def renew(self, request: IRequest, client: str) -> bytes:
        """
        Restart the session of every worker, one worker at a time in each pool.

        A worker that is running a turn finishes it first.
        """
        return self._apply(
            request, client, "renew", lambda pool: pool.restart_workers(_RESTART_REASON)
        )

    @route(
        app,
        "PUT",
        "/workers",
        scope="operate",
        tag="Operator",
        parameters=("AgentQuery",),
        body=RequestBody(ref("Workers"), {"workers": 2}),
        responses={
            202: json_response(
                "The number was changed; workers start or stop in the background.", ref("Agents")
            )
        },
    )
    def set_workers(self, request: IRequest, client: str) -> bytes:
        """
        Change the number of workers of an agent.

        The body or ``?agent=NAME`` names the agent; otherwise it is the default agent.
        """
        body = json_body(request)
        number = body.get("workers") if isinstance(body, dict) else None
        if type(number) is not int or not 1 <= number <= MAX_WORKERS:
            raise InvalidInput("workers", f"workers must be a whole number from 1 to {MAX_WORKERS}")
        agent, queried = body.get("agent"), queried_agent(request)
        if None not in (agent, queried) and agent != queried:
            raise InvalidInput("agent", "agent must be the same in the body and in the query")
        agent = queried if agent is None else agent
        group = self._groups.default if agent is None else self._groups.find(agent)
        self._log_action(request, client, "scale", f"{group.name} to {number} worker(s)")
        group.dispatcher.set_workers(number)
        self._on_change()
        return respond(request, 202, agents_json([group]))

    @route(
        app,
        "POST",
        "/workers/<name>/drain",
        scope="operate",
        tag="Operator",
        parameters=("Worker", "AgentQuery"),
        responses={202: _WORKER},
        failures=(ErrorCode.UNKNOWN_WORKER,),
    )
    def drain(self, request: IRequest, client: str, name: str) -> bytes:
        """
        Drain a worker: end its session after its current turn, and start no other.
        """
        return self._apply_to_worker(request, client, name, "drain", Dispatcher.drain_worker)

    @route(
        app,
        "POST",
        "/workers/<name>/restart",
        scope="operate",
        tag="Operator",
        parameters=("Worker", "AgentQuery"),
        responses={202: _WORKER},
        failures=(ErrorCode.UNKNOWN_WORKER,),
    )
    def restart(self, request: IRequest, client: str, name: str) -> bytes:
        """
        Restart the session of a worker after its current turn.
        """
        return self._apply_to_worker(
            request,
            client,
            name,
            "restart",
            lambda pool, worker: pool.restart_worker(worker, _RESTART_REASON),
        )

    def _apply(
        self, request: IRequest, client: str, verb: str, action: Callable[[Dispatcher], None]
    ) -> bytes:
        """
        Apply `action` to the pools that `request` selects, and respond with their state.
        """
        groups = self._groups.select(queried_agent(request))
        names = ", ".join(group.name for group in groups)
        self._log_action(request, client, verb, names)
        for group in groups:
            action(group.dispatcher)
        self._on_change()
        return respond(request, 200, agents_json(groups))

    def _apply_to_worker(
        self,
        request: IRequest,
        client: str,
        name: str,
        verb: str,
        action: Callable[[Dispatcher, Worker], None],
    ) -> bytes:
        """
        Apply `action` to the worker called `name`, and respond with the worker's state.
        """
        group, worker = self._find(name, self._groups.select(queried_agent(request)))
        self._log_action(request, client, verb, name, worker=name)
        action(group.dispatcher, worker)
        self._on_change()
        now = Now(self._clock.seconds(), self._wall_clock())
        state = worker_json(worker.snapshot(), group.name, now, operator=True)
        return respond(request, 202, {"worker": {"name": name, **state}})

    def _log_action(
        self, request: IRequest, client: str, action: str, target: str, **fields: str
    ) -> None:
        """
        Log what an operator does.

        Args:
            request: The operator's request.
            client: The name of the operator's token, or the address.
            action: What is done.
            target: What it is done to.
            **fields: Further facts.
        """
        self._log.warn(
            "operator {operator}: {action} {target} (request {requestId})",
            operator=client,
            action=action,
            target=target,
            requestId=record_of(request).id,
            **fields,
        )

    def _find(self, name: str, groups: Iterable[AgentGroup]) -> tuple[AgentGroup, Worker]:
        for group in groups:
            worker = group.dispatcher.find_worker(name)
            if worker is not None:
                return group, worker
        raise HttpError(ErrorCode.UNKNOWN_WORKER, f"Worker {name!r} not found")


handle_failures(OperatorRoutes.app, OperatorRoutes._log)
