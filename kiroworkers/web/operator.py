"""
What an operator may do while the server runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from klein import Klein
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.web.iweb import IRequest

from kiroworkers.errors import BadInput
from kiroworkers.pool.agent_groups import Group, Groups
from kiroworkers.pool.dispatcher import Pool
from kiroworkers.pool.worker import Worker
from kiroworkers.pool.workers import Crew
from kiroworkers.web.auth import Gate
from kiroworkers.web.body import json_body
from kiroworkers.web.errors import Refusal, handle_failures, respond
from kiroworkers.web.request_options import agent_in_query
from kiroworkers.web.views import described_all, described_request, described_worker

#: More workers than one machine could run.
_MOST_WORKERS = 512

#: Why sessions are renewed.
_REASON = "an operator said so"


class Operator:
    """
    The routes below ``/operator``.  Those that are about pools are about all of
    them, or about that of ``?agent=NAME``.
    """

    app = Klein()
    _log = Logger()

    def __init__(self, clock: IReactorTime, groups: Groups, gate: Gate) -> None:
        self._clock = clock
        self._groups = groups
        self._gate = gate

    @app.route("/queue", methods=["GET"])
    def queue(self, request: IRequest) -> bytes:
        """
        Every request that waits or runs, in the order in which they came.
        """
        self._gate.admit(request, "operate")
        now, chosen = self._clock.seconds(), self._groups.chosen(agent_in_query(request))
        found = [(each, group.name) for group in chosen for each in group.pool.requests()]
        found.sort(key=lambda each: each[0].arrived)
        requests = [described_request(each, name, now) for each, name in found]
        return respond(request, 200, {**described_all(chosen), "requests": requests})

    @app.route("/pause", methods=["POST"])
    def pause(self, request: IRequest) -> bytes:
        """
        Begin no turn until `resume`.
        """
        return self._do(request, "pause", Pool.pause)

    @app.route("/resume", methods=["POST"])
    def resume(self, request: IRequest) -> bytes:
        """
        Begin turns again.
        """
        return self._do(request, "resume", Pool.resume)

    @app.route("/renew", methods=["POST"])
    def renew(self, request: IRequest) -> bytes:
        """
        A new session for every worker, one at a time in each pool.
        """
        return self._do(request, "renew", lambda pool: pool.crew.renew_all(_REASON))

    @app.route("/workers", methods=["PUT"])
    def set_workers(self, request: IRequest) -> bytes:
        """
        Have another number of workers; of the first pool, where none is named.
        """
        who = self._gate.admit(request, "operate")
        body = json_body(request)
        number = body.get("workers") if isinstance(body, dict) else None
        if type(number) is not int or not 1 <= number <= _MOST_WORKERS:
            raise BadInput("workers", f"workers must be a whole number from 1 to {_MOST_WORKERS}")
        agent, queried = body.get("agent"), agent_in_query(request)
        if None not in (agent, queried) and agent != queried:
            raise BadInput("agent", "agent must be the same in the body and in the query")
        agent = queried if agent is None else agent
        group = self._groups.default if agent is None else self._groups.named(agent)
        self._log.warn("{who}: {number} workers: {name}", who=who, number=number, name=group.name)
        group.pool.crew.set_workers(number)
        return respond(request, 202, described_all([group]))

    @app.route("/workers/<name>/drain", methods=["POST"])
    def drain(self, request: IRequest, name: str) -> bytes:
        """
        End the session of one worker after its turn, and start no other.
        """
        return self._do_to(request, name, "drain", Crew.drain)

    @app.route("/workers/<name>/restart", methods=["POST"])
    def restart(self, request: IRequest, name: str) -> bytes:
        """
        A new session for one worker, after its turn.
        """
        return self._do_to(
            request, name, "restart", lambda crew, worker: crew.renew(worker, _REASON)
        )

    def _do(self, request: IRequest, what: str, act: Callable[[Pool], None]) -> bytes:
        who = self._gate.admit(request, "operate")
        chosen = self._groups.chosen(agent_in_query(request))
        names = ", ".join(each.name for each in chosen)
        self._log.warn("{who}: {what}: {names}", who=who, what=what, names=names)
        for group in chosen:
            act(group.pool)
        return respond(request, 200, described_all(chosen))

    def _do_to(
        self, request: IRequest, name: str, what: str, act: Callable[[Crew, Worker], None]
    ) -> bytes:
        who = self._gate.admit(request, "operate")
        group, worker = self._find(name, self._groups.chosen(agent_in_query(request)))
        self._log.warn("{who}: {what} {name}", who=who, what=what, name=name)
        act(group.pool.crew, worker)
        shown = described_worker(worker.snapshot(), group.name, self._clock.seconds())
        return respond(request, 202, {"worker": {"name": name, **shown}})

    def _find(self, name: str, groups: Iterable[Group]) -> tuple[Group, Worker]:
        for group in groups:
            for worker in group.pool.crew.workers:
                if worker.name == name:
                    return group, worker
        raise Refusal(404, "unknown_worker", f"There is no worker named {name!r}")


handle_failures(Operator.app, Operator._log)
