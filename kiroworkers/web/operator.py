"""
Serve the routes by which an operator controls the running server.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from klein import Klein
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.web.iweb import IRequest

from kiroworkers.errors import InvalidInput
from kiroworkers.pool.agent_groups import AgentGroup, AgentGroups
from kiroworkers.pool.dispatcher import Dispatcher
from kiroworkers.pool.worker import Worker
from kiroworkers.pool.workers import WorkerPool
from kiroworkers.web.auth import Authorizer
from kiroworkers.web.body import json_body
from kiroworkers.web.errors import HttpError, handle_failures, respond
from kiroworkers.web.request_options import queried_agent
from kiroworkers.web.views import agents_json, request_json, worker_json

#: The most workers of one agent: more than one machine can run.
_MAX_WORKERS = 512

#: The reason for restarts, as the log gives it.
_RESTART_REASON = "requested by an operator"


class OperatorRoutes:
    """
    Serve the routes below ``/operator``.

    Routes that concern pools apply to all of them, or only to that of ``?agent=NAME``.
    """

    app = Klein()
    _log = Logger()

    def __init__(self, clock: IReactorTime, groups: AgentGroups, authorizer: Authorizer) -> None:
        self._clock = clock
        self._groups = groups
        self._authorizer = authorizer

    @app.route("/queue", methods=["GET"])
    def queue(self, request: IRequest) -> bytes:
        """
        List the requests that are waiting or running, oldest first.

        The list covers all agents, or only the one of ``?agent=NAME``.
        """
        self._authorizer.authorize(request, "operate")
        now, groups = self._clock.seconds(), self._groups.select(queried_agent(request))
        snapshots = [
            (snapshot, group.name) for group in groups for snapshot in group.dispatcher.requests()
        ]
        snapshots.sort(key=lambda pair: pair[0].arrived)
        requests = [request_json(snapshot, name, now) for snapshot, name in snapshots]
        return respond(request, 200, {**agents_json(groups), "requests": requests})

    @app.route("/pause", methods=["POST"])
    def pause(self, request: IRequest) -> bytes:
        """
        Pause dispatching: start no turn until dispatching is resumed.

        Running turns finish, and new requests are still queued.
        """
        return self._apply(request, "pause", Dispatcher.pause)

    @app.route("/resume", methods=["POST"])
    def resume(self, request: IRequest) -> bytes:
        """
        Resume dispatching after a pause.
        """
        return self._apply(request, "resume", Dispatcher.resume)

    @app.route("/renew", methods=["POST"])
    def renew(self, request: IRequest) -> bytes:
        """
        Restart the session of every worker, one worker at a time in each pool.

        A worker that is running a turn finishes it first.
        """
        return self._apply(
            request, "renew", lambda pool: pool.worker_pool.restart_all(_RESTART_REASON)
        )

    @app.route("/workers", methods=["PUT"])
    def set_workers(self, request: IRequest) -> bytes:
        """
        Change the number of workers of an agent.

        The body or ``?agent=NAME`` names the agent; otherwise it is the default agent.
        """
        client = self._authorizer.authorize(request, "operate")
        body = json_body(request)
        number = body.get("workers") if isinstance(body, dict) else None
        if type(number) is not int or not 1 <= number <= _MAX_WORKERS:
            raise InvalidInput(
                "workers", f"workers must be a whole number from 1 to {_MAX_WORKERS}"
            )
        agent, queried = body.get("agent"), queried_agent(request)
        if None not in (agent, queried) and agent != queried:
            raise InvalidInput("agent", "agent must be the same in the body and in the query")
        agent = queried if agent is None else agent
        group = self._groups.default if agent is None else self._groups.find(agent)
        self._log.warn(
            "operator {client}: set {name} to {number} worker(s)",
            client=client,
            number=number,
            name=group.name,
        )
        group.dispatcher.worker_pool.set_workers(number)
        return respond(request, 202, agents_json([group]))

    @app.route("/workers/<name>/drain", methods=["POST"])
    def drain(self, request: IRequest, name: str) -> bytes:
        """
        Drain a worker: end its session after its current turn, and start no other.
        """
        return self._apply_to_worker(request, name, "drain", WorkerPool.drain)

    @app.route("/workers/<name>/restart", methods=["POST"])
    def restart(self, request: IRequest, name: str) -> bytes:
        """
        Restart the session of a worker after its current turn.
        """
        return self._apply_to_worker(
            request,
            name,
            "restart",
            lambda worker_pool, worker: worker_pool.restart(worker, _RESTART_REASON),
        )

    def _apply(self, request: IRequest, verb: str, action: Callable[[Dispatcher], None]) -> bytes:
        """
        Apply `action` to the pools that `request` selects, and respond with their state.
        """
        client = self._authorizer.authorize(request, "operate")
        groups = self._groups.select(queried_agent(request))
        names = ", ".join(group.name for group in groups)
        self._log.warn("operator {client}: {verb} {names}", client=client, verb=verb, names=names)
        for group in groups:
            action(group.dispatcher)
        return respond(request, 200, agents_json(groups))

    def _apply_to_worker(
        self, request: IRequest, name: str, verb: str, action: Callable[[WorkerPool, Worker], None]
    ) -> bytes:
        """
        Apply `action` to the worker called `name`, and respond with the worker's state.
        """
        client = self._authorizer.authorize(request, "operate")
        group, worker = self._find(name, self._groups.select(queried_agent(request)))
        self._log.warn("operator {client}: {verb} {name}", client=client, verb=verb, name=name)
        action(group.dispatcher.worker_pool, worker)
        state = worker_json(worker.snapshot(), group.name, self._clock.seconds())
        return respond(request, 202, {"worker": {"name": name, **state}})

    def _find(self, name: str, groups: Iterable[AgentGroup]) -> tuple[AgentGroup, Worker]:
        for group in groups:
            for worker in group.dispatcher.worker_pool.workers:
                if worker.name == name:
                    return group, worker
        raise HttpError(404, "unknown_worker", f"Worker {name!r} not found")


handle_failures(OperatorRoutes.app, OperatorRoutes._log)
