"""
What an operator may do while the server runs.
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

#: More workers than one machine could run.
_MOST_WORKERS = 512

#: Why sessions are renewed.
_REASON = "an operator said so"


class OperatorRoutes:
    """
    The routes below ``/operator``.  Those that are about pools are about all of
    them, or about that of ``?agent=NAME``.
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
        Every request that waits or runs, in the order in which they came.
        """
        self._authorizer.authorize(request, "operate")
        now, chosen = self._clock.seconds(), self._groups.chosen(queried_agent(request))
        found = [(each, group.name) for group in chosen for each in group.pool.requests()]
        found.sort(key=lambda each: each[0].arrived)
        requests = [request_json(each, name, now) for each, name in found]
        return respond(request, 200, {**agents_json(chosen), "requests": requests})

    @app.route("/pause", methods=["POST"])
    def pause(self, request: IRequest) -> bytes:
        """
        Begin no turn until `resume`.
        """
        return self._do(request, "pause", Dispatcher.pause)

    @app.route("/resume", methods=["POST"])
    def resume(self, request: IRequest) -> bytes:
        """
        Begin turns again.
        """
        return self._do(request, "resume", Dispatcher.resume)

    @app.route("/renew", methods=["POST"])
    def renew(self, request: IRequest) -> bytes:
        """
        A new session for every worker, one at a time in each pool.
        """
        return self._do(request, "renew", lambda pool: pool.worker_pool.renew_all(_REASON))

    @app.route("/workers", methods=["PUT"])
    def set_workers(self, request: IRequest) -> bytes:
        """
        Have another number of workers; of the first pool, where none is named.
        """
        who = self._authorizer.authorize(request, "operate")
        body = json_body(request)
        number = body.get("workers") if isinstance(body, dict) else None
        if type(number) is not int or not 1 <= number <= _MOST_WORKERS:
            raise InvalidInput(
                "workers", f"workers must be a whole number from 1 to {_MOST_WORKERS}"
            )
        agent, queried = body.get("agent"), queried_agent(request)
        if None not in (agent, queried) and agent != queried:
            raise InvalidInput("agent", "agent must be the same in the body and in the query")
        agent = queried if agent is None else agent
        group = self._groups.default if agent is None else self._groups.named(agent)
        self._log.warn("{who}: {number} workers: {name}", who=who, number=number, name=group.name)
        group.pool.worker_pool.set_workers(number)
        return respond(request, 202, agents_json([group]))

    @app.route("/workers/<name>/drain", methods=["POST"])
    def drain(self, request: IRequest, name: str) -> bytes:
        """
        End the session of one worker after its turn, and start no other.
        """
        return self._do_to(request, name, "drain", WorkerPool.drain)

    @app.route("/workers/<name>/restart", methods=["POST"])
    def restart(self, request: IRequest, name: str) -> bytes:
        """
        A new session for one worker, after its turn.
        """
        return self._do_to(
            request, name, "restart", lambda worker_pool, worker: worker_pool.renew(worker, _REASON)
        )

    def _do(self, request: IRequest, what: str, act: Callable[[Dispatcher], None]) -> bytes:
        who = self._authorizer.authorize(request, "operate")
        chosen = self._groups.chosen(queried_agent(request))
        names = ", ".join(each.name for each in chosen)
        self._log.warn("{who}: {what}: {names}", who=who, what=what, names=names)
        for group in chosen:
            act(group.pool)
        return respond(request, 200, agents_json(chosen))

    def _do_to(
        self, request: IRequest, name: str, what: str, act: Callable[[WorkerPool, Worker], None]
    ) -> bytes:
        who = self._authorizer.authorize(request, "operate")
        group, worker = self._find(name, self._groups.chosen(queried_agent(request)))
        self._log.warn("{who}: {what} {name}", who=who, what=what, name=name)
        act(group.pool.worker_pool, worker)
        shown = worker_json(worker.snapshot(), group.name, self._clock.seconds())
        return respond(request, 202, {"worker": {"name": name, **shown}})

    def _find(self, name: str, groups: Iterable[AgentGroup]) -> tuple[AgentGroup, Worker]:
        for group in groups:
            for worker in group.pool.worker_pool.workers:
                if worker.name == name:
                    return group, worker
        raise HttpError(404, "unknown_worker", f"There is no worker named {name!r}")


handle_failures(OperatorRoutes.app, OperatorRoutes._log)
