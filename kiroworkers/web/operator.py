"""
What an operator may do while the server runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from klein import Klein
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.web.iweb import IRequest

from kiroworkers.errors import BadInput
from kiroworkers.sessions.pool import Pool
from kiroworkers.sessions.worker import Worker
from kiroworkers.web.body import json_body
from kiroworkers.web.described import described_pool, described_request, described_worker
from kiroworkers.web.errors import Refusal, handle_failures, respond
from kiroworkers.web.gate import Gate

#: More workers than one machine could run.
_MOST_WORKERS = 512


class Operator:
    """
    The routes below ``/operator``.
    """

    app = Klein()
    _log = Logger()

    def __init__(self, clock: IReactorTime, pool: Pool, gate: Gate) -> None:
        self._clock = clock
        self._pool = pool
        self._gate = gate

    @app.route("/queue", methods=["GET"])
    def queue(self, request: IRequest) -> bytes:
        """
        Every request that waits or runs, in the order in which they came.
        """
        self._gate.admit(request, "operate")
        now = self._clock.seconds()
        found = [described_request(each, now) for each in self._pool.requests()]
        return respond(request, 200, {"pool": described_pool(self._pool), "requests": found})

    @app.route("/pause", methods=["POST"])
    def pause(self, request: IRequest) -> bytes:
        """
        Begin no turn until `resume`.
        """
        return self._do(request, "pause", self._pool.pause)

    @app.route("/resume", methods=["POST"])
    def resume(self, request: IRequest) -> bytes:
        """
        Begin turns again.
        """
        return self._do(request, "resume", self._pool.resume)

    @app.route("/renew", methods=["POST"])
    def renew(self, request: IRequest) -> bytes:
        """
        A new session for every worker, one at a time.
        """
        return self._do(request, "renew", lambda: self._pool.crew.renew_all("an operator said so"))

    @app.route("/workers", methods=["PUT"])
    def set_workers(self, request: IRequest) -> bytes:
        """
        Have another number of workers.
        """
        who = self._gate.admit(request, "operate")
        body = json_body(request)
        number = body.get("workers") if isinstance(body, dict) else None
        if type(number) is not int or not 1 <= number <= _MOST_WORKERS:
            raise BadInput("workers", f"workers must be a whole number from 1 to {_MOST_WORKERS}")
        self._log.warn("{who}: {number} workers", who=who, number=number)
        self._pool.crew.set_workers(number)
        return respond(request, 202, {"pool": described_pool(self._pool)})

    @app.route("/workers/<name>/drain", methods=["POST"])
    def drain(self, request: IRequest, name: str) -> bytes:
        """
        End the session of one worker after its turn, and start no other.
        """
        return self._do_to(request, name, "drain", self._pool.crew.drain)

    @app.route("/workers/<name>/restart", methods=["POST"])
    def restart(self, request: IRequest, name: str) -> bytes:
        """
        A new session for one worker, after its turn.
        """

        def restart(worker: Worker) -> None:
            self._pool.crew.renew(worker, "an operator said so")

        return self._do_to(request, name, "restart", restart)

    def _do(self, request: IRequest, what: str, act: Callable[[], None]) -> bytes:
        who = self._gate.admit(request, "operate")
        self._log.warn("{who}: {what}", who=who, what=what)
        act()
        return respond(request, 200, {"pool": described_pool(self._pool)})

    def _do_to(
        self, request: IRequest, name: str, what: str, act: Callable[[Worker], Any]
    ) -> bytes:
        who = self._gate.admit(request, "operate")
        worker = next((each for each in self._pool.crew.workers if each.name == name), None)
        if worker is None:
            raise Refusal(404, "unknown_worker", f"There is no worker named {name!r}")
        self._log.warn("{who}: {what} {name}", who=who, what=what, name=name)
        act(worker)
        shown = described_worker(worker.snapshot(), self._clock.seconds())
        return respond(request, 202, {"worker": {"name": name, **shown}})


handle_failures(Operator.app, Operator._log, lambda routes: routes._pool.queue())
