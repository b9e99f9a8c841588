"""
The routes: what can be asked, and how it is answered.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from klein import Klein
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.web.iweb import IRequest
from twisted.web.resource import Resource
from werkzeug.exceptions import HTTPException

from kiroworkers import __version__
from kiroworkers.agents import Agent
from kiroworkers.errors import AgentRefused, AnswerUnfit, UnknownTask
from kiroworkers.sessions.pool import Pool
from kiroworkers.tasks import Task
from kiroworkers.web.body import json_body
from kiroworkers.web.described import described_pool, described_worker, milliseconds
from kiroworkers.web.errors import as_refusal, handle_failures, respond, respond_to_refusal
from kiroworkers.web.gate import Gate
from kiroworkers.web.headers import tell_agent, tell_answer, tell_rejoined
from kiroworkers.web.operator import Operator
from kiroworkers.web.terms import terms_of


class Application:
    """
    Answers with the `tasks`, through the `pool`, in the name of the `agent`.
    """

    app = Klein()
    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        pool: Pool,
        tasks: Mapping[str, Task],
        agent: Agent,
        gate: Gate,
    ) -> None:
        self._clock = clock
        self._pool = pool
        self._tasks = tasks
        self._agent = agent
        self._gate = gate
        self._operator = Operator(clock, pool, gate)

    def resource(self) -> Resource:
        """
        All of it, to be served.
        """
        return _Shielded(self.app.resource())

    @app.route("/health", methods=["GET"])
    def health(self, request: IRequest) -> bytes:
        """
        The server and each worker; asks nothing of any session.
        """
        self._gate.admit(request, "watch")
        pool = self._pool
        queue = pool.queue()
        return respond(
            request,
            200,
            {
                "status": "running",
                "timestamp": milliseconds(self._clock.seconds()),
                "version": __version__,
                "agent": self._agent.name,
                "transport": self._agent.dialect.transport,
                "agentDetail": f"{self._agent.dialect.label} ({self._agent.reason})",
                "pool": described_pool(pool),
                "queue": {"length": queue.length, "limit": queue.limit},
                "workers": {
                    each.name: described_worker(each, self._clock.seconds())
                    for each in pool.crew.snapshots()
                },
            },
        )

    @app.route("/ready", methods=["GET"])
    def ready(self, request: IRequest) -> bytes:
        """
        200 while a worker can take work, now or after its turn; else 503.
        """
        state = described_pool(self._pool)
        healthy = [each.name for each in self._pool.crew.snapshots() if each.healthy]
        if healthy and state["state"] in ("serving", "trying"):
            return respond(request, 200, {"ready": True, "workers": healthy})
        why = {"serving": ("No worker is ready", "not_ready")}
        sentence, code = why.get(state["state"], (state["detail"], state["state"]))
        body = {"ready": False, "error": sentence, "code": code, "workers": healthy}
        return respond(request, 503, body)

    @app.route("/operator", branch=True)
    def operator(self, request: IRequest) -> Resource:
        """
        What needs the operator's word.
        """
        return self._operator.app.resource()

    @app.route("/kiro", methods=["GET"])
    def catalogue(self, request: IRequest) -> bytes:
        """
        Every task, with its schemas and an example.
        """
        return respond(request, 200, {"tasks": [_described(each) for each in self._tasks.values()]})

    @app.route("/kiro/<name>", methods=["POST"])
    async def ask(self, request: IRequest, name: str) -> bytes:
        """
        One request to one task.
        """
        tell_agent(request, self._agent.name)
        client = self._gate.admit(request, "ask")
        task = self._tasks.get(name)
        if task is None:
            raise UnknownTask(name)
        asked = task.accept(json_body(request))
        terms = terms_of(request, client, name)
        answer = await self._pool.submit(task.prompt(asked, self._agent.dialect.layout), terms)
        reply = answer.reply
        tell_answer(request, answer)
        try:
            found = task.answer(asked, reply.text, reply.wrapped)
        except AnswerUnfit:
            if reply.denied:
                raise AgentRefused("approval_denied", reply.denied[-1]) from None
            raise
        if found.rejoined:
            tell_rejoined(request)
        return respond(request, 200, found.value)


handle_failures(Application.app, Application._log, lambda routes: routes._pool.queue())


class _Shielded(Resource):
    """
    Klein's resource, with the few things it raises before its own error
    handlers are asked (a Host header that is no host) answered as well.
    """

    isLeaf = True

    def __init__(self, inner: Resource) -> None:
        super().__init__()
        self._inner = inner

    def render(self, request: Any) -> Any:
        try:
            return self._inner.render(request)
        except HTTPException as problem:
            return respond_to_refusal(request, as_refusal(request, problem))


def _described(task: Task) -> dict[str, Any]:
    return {
        "name": task.name,
        "title": task.title,
        "description": task.description,
        "method": "POST",
        "path": f"/kiro/{task.name}",
        "input": task.input_schema,
        "answer": task.answer_schema,
        "example": {"input": task.example_input, "answer": task.example_answer},
    }
