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
from kiroworkers.errors import AgentRefused, AnswerUnfit, UnknownTask, WorkError
from kiroworkers.groups import Group, Groups
from kiroworkers.tasks import Task
from kiroworkers.web.body import json_body
from kiroworkers.web.described import (
    described_all,
    described_readiness,
    described_worker,
    milliseconds,
)
from kiroworkers.web.errors import (
    as_refusal,
    handle_failures,
    respond,
    respond_to_refusal,
    respond_to_work_error,
)
from kiroworkers.web.gate import Gate
from kiroworkers.web.headers import tell_agent, tell_answer, tell_normalised, tell_rejoined
from kiroworkers.web.operator import Operator
from kiroworkers.web.terms import agent_in_query, agent_of, terms_of


class Application:
    """
    Answers with the `tasks`, through the pools of the `groups`.
    """

    app = Klein()
    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        groups: Groups,
        tasks: Mapping[str, Task],
        gate: Gate,
    ) -> None:
        self._clock = clock
        self._groups = groups
        self._tasks = tasks
        self._gate = gate
        self._operator = Operator(clock, groups, gate)

    def resource(self) -> Resource:
        """
        All of it, to be served.
        """
        return _Shielded(self.app.resource())

    @app.route("/health", methods=["GET"])
    def health(self, request: IRequest) -> bytes:
        """
        The server and each worker; asks nothing of any session.  What it says of
        one agent is said of the first.
        """
        self._gate.admit(request, "watch")
        now = self._clock.seconds()
        return respond(
            request,
            200,
            {
                "status": "running",
                "timestamp": milliseconds(now),
                "version": __version__,
                **described_all(self._groups),
                "workers": {
                    each.name: described_worker(each, group.name, now)
                    for group in self._groups
                    for each in group.pool.crew.snapshots()
                },
            },
        )

    @app.route("/ready", methods=["GET"])
    def ready(self, request: IRequest) -> bytes:
        """
        200 while a worker can take work, now or after its turn; else 503.  A worker
        of any agent, or of that of ``?agent=NAME``.
        """
        chosen = self._groups.chosen(agent_in_query(request))
        found = {each.name: described_readiness(each) for each in chosen}
        telling = [each for each in found.values() if each["ready"]] or [*found.values()]
        workers = [name for each in telling for name in each["workers"]]
        body = {**telling[0], "workers": workers, "agents": found}
        return respond(request, 200 if body["ready"] else 503, body)

    @app.route("/operator", branch=True)
    def operator(self, request: IRequest) -> Resource:
        """
        What needs the operator's word.
        """
        return self._operator.app.resource()

    @app.route("/kiro", methods=["GET"])
    def catalogue(self, request: IRequest) -> bytes:
        """
        Every task, with its schemas and an example; and who can be asked.
        """
        tasks = [_described(each) for each in self._tasks.values()]
        return respond(request, 200, {"tasks": tasks, "agents": self._groups.names})

    @app.route("/kiro/<name>", methods=["POST"])
    async def ask(self, request: IRequest, name: str) -> bytes:
        """
        One request to one task.
        """
        client = self._gate.admit(request, "ask")
        task = self._tasks.get(name)
        if task is None:
            raise UnknownTask(name)
        group = self._group_for(request, task)
        tell_agent(request, group.name)
        asked = task.accept(json_body(request))
        terms = terms_of(request, client, name, task.limits.timeout)
        prompt = task.prompt(asked, group.agent.dialect.layout)
        try:
            answer = await group.pool.submit(prompt, terms)
        except WorkError as problem:
            return respond_to_work_error(request, problem, group.pool.queue())
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
        tell_normalised(request, found.normalised)
        return respond(request, 200, found.value)

    def _group_for(self, request: IRequest, task: Task) -> Group:
        asked_for = agent_of(request)
        if asked_for is not None:
            return self._groups.named(asked_for, "X-Agent")
        return self._groups.default if task.agent is None else self._groups.named(task.agent)


handle_failures(Application.app, Application._log)


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
        "agent": task.agent,
        "limits": {"timeout": task.limits.timeout, "prompt": task.limits.prompt},
        "input": task.input_schema,
        "answer": task.answer_schema,
        "example": {"input": task.example_input, "answer": task.example_answer},
    }
