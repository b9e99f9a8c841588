"""
The routes: what can be asked, and how it is answered.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from klein import Klein
from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from twisted.web.resource import Resource
from werkzeug.exceptions import HTTPException

from kiroworkers import __version__
from kiroworkers.errors import AnswerUseless, Evidence, UnknownTask, WorkError
from kiroworkers.execution import ask
from kiroworkers.jobs.idempotency import COSTLY
from kiroworkers.jobs.job import Said
from kiroworkers.jobs.service import Desk
from kiroworkers.pool.agent_groups import Group, Groups
from kiroworkers.pool.dispatcher import Terms
from kiroworkers.pool.progress import Watch, nobody_watches
from kiroworkers.tasks import Task
from kiroworkers.web.auth import Gate
from kiroworkers.web.body import json_body
from kiroworkers.web.errors import (
    FAULT,
    as_refusal,
    described_error,
    handle_failures,
    log_fault,
    respond,
    respond_in_text,
    respond_to_refusal,
    respond_with,
)
from kiroworkers.web.events import EventStream, wants_events
from kiroworkers.web.headers import tell_agent, told_of
from kiroworkers.web.jobs import Jobs
from kiroworkers.web.openai.routes import OpenAIDoor
from kiroworkers.web.openapi import document
from kiroworkers.web.openapi.routes import routes_of
from kiroworkers.web.operator import Operator
from kiroworkers.web.pages import Pages
from kiroworkers.web.request_options import agent_in_query, agent_of, terms_of, wants_job, wants_raw
from kiroworkers.web.views import (
    described_all,
    described_readiness,
    described_worker,
    milliseconds,
)


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
        desk: Desk,
    ) -> None:
        self._clock = clock
        self._groups = groups
        self._tasks = tasks
        self._gate = gate
        self._desk = desk
        self._jobs = Jobs(desk, gate)
        self._operator = Operator(clock, groups, gate)
        self._pages = Pages(groups)
        self._openai = OpenAIDoor(clock, groups, gate)

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

    @app.route("/v1", branch=True)
    def openai(self, request: IRequest) -> Resource:
        """
        What clients of OpenAI's API ask.
        """
        return self._openai.app.resource()

    @app.route("/kiro", methods=["GET"])
    def catalogue(self, request: IRequest) -> bytes:
        """
        Every task, with its schemas and an example; and who can be asked.
        """
        tasks = [_described(each) for each in self._tasks.values()]
        return respond(request, 200, {"tasks": tasks, "agents": self._groups.names})

    @app.route("/kiro/<name>", methods=["POST"])
    async def answer(self, request: IRequest, name: str) -> bytes:
        """
        One request to one task.
        """
        client = self._gate.admit(request, "ask")
        raw = wants_raw(request)
        if raw:
            self._gate.admit_too(request)
        task = self._tasks.get(name)
        if task is None:
            raise UnknownTask(name)
        group = self._group_for(request, task)
        tell_agent(request, group.name)
        asked = task.accept(json_body(request))
        terms = terms_of(request, client, name, task.limits.timeout)
        if wants_job(request):
            return self._jobs.accept(request, group.name, asked, terms)

        async def asking(watch: Watch) -> Said:
            return await _said(group, task, asked, terms, watch, raw)

        def said(watch: Watch = nobody_watches) -> Awaitable[Said]:
            return self._jobs.said(request, asked, terms, asking, watch)

        if wants_events(request):
            await self._stream(request, said)
            return b""
        found = await said()
        if raw and found.status == 200:
            return respond_in_text(request, found)
        return respond_with(request, found)

    @app.route("/", methods=["GET"])
    def start(self, request: IRequest) -> bytes:
        """
        Leads people to the page that describes the API.
        """
        request.redirect(b"docs")
        return b""

    @app.route("/docs", methods=["GET"])
    def docs(self, request: IRequest) -> bytes:
        """
        This API, described for people.
        """
        return self._pages.docs(request, self._description())

    @app.route("/docs/<name>", methods=["GET"])
    def asset(self, request: IRequest, name: str) -> bytes:
        """
        What a page needs besides itself.
        """
        return self._pages.asset(request, name)

    @app.route("/openapi.json", methods=["GET"])
    def openapi(self, request: IRequest) -> bytes:
        """
        This API, described for programs.
        """
        return respond(request, 200, self._description())

    @app.route("/jobs", methods=["GET"])
    def jobs(self, request: IRequest) -> bytes:
        """
        The client's jobs, the newest first.
        """
        return self._jobs.listed(request)

    @app.route("/jobs/<id>", methods=["GET"])
    def job(self, request: IRequest, id: str) -> bytes:
        """
        One job: its state, and what it came to.
        """
        return self._jobs.shown(request, id)

    @app.route("/jobs/<id>", methods=["DELETE"])
    def cancel(self, request: IRequest, id: str) -> bytes:
        """
        Give a job up, or forget one that has ended.
        """
        return self._jobs.removed(request, id)

    def _description(self) -> dict[str, Any]:
        routes = (
            *routes_of(self.app),
            *routes_of(Operator.app, "/operator"),
            *routes_of(OpenAIDoor.app, "/v1"),
        )
        return document(
            routes,
            self._tasks,
            self._groups.names,
            needs_token=bool(self._gate.bearers),
            calls_back=self._desk.hosts is not None,
        )

    async def _stream(self, request: IRequest, said: Callable[[Watch], Awaitable[Said]]) -> None:
        """
        Tell the client what becomes of its request, and at last the answer.
        """
        stream = EventStream(self._clock, request)
        try:
            found = await said(stream.watch)
            if found.status == 200:
                stream.send("answer", found.body)
            else:
                stream.send("error", {"status": found.status, **found.body})
        except WorkError as problem:
            status, body = described_error(problem)
            stream.send("error", {"status": status, **body})
        except CancelledError:
            raise  # The client is gone.
        except Exception:
            log_fault(self._log, request, Failure())
            body = {"error": FAULT.sentence, "code": FAULT.code}
            stream.send("error", {"status": FAULT.status, **body})
        finally:
            stream.close()

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


async def _said(
    group: Group, task: Task, asked: Mapping[str, Any], terms: Terms, watch: Watch, raw: bool
) -> Said:
    """
    What is said to a request; with the agent's own text, where it is to be `raw`.
    """
    try:
        outcome = await ask(group, task, asked, terms, watch)
    except WorkError as problem:
        status, body = described_error(problem, group.pool.queue())
        match problem:
            case AnswerUseless(evidence=Evidence(text=text)) if raw:
                body["text"] = text
        return Said(status, body, kept=isinstance(problem, COSTLY))
    value = outcome.found.value
    said = {"answer": value, "text": outcome.answer.reply.text} if raw else value
    return Said(200, said, told_of(outcome), kept=True)


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
