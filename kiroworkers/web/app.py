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
from kiroworkers.errors import Evidence, UnknownTask, UnusableAnswer, WorkError
from kiroworkers.execution import execute
from kiroworkers.jobs.idempotency import CACHEABLE_FAILURES
from kiroworkers.jobs.job import StoredResponse
from kiroworkers.jobs.service import JobService
from kiroworkers.pool.agent_groups import AgentGroup, AgentGroups
from kiroworkers.pool.dispatcher import RequestOptions
from kiroworkers.pool.progress import OnProgress
from kiroworkers.tasks import Task
from kiroworkers.web.auth import Authorizer
from kiroworkers.web.body import json_body
from kiroworkers.web.errors import (
    INTERNAL_ERROR,
    as_http_error,
    error_json,
    handle_failures,
    log_internal_error,
    respond,
    respond_in_text,
    respond_to_http_error,
    respond_with,
)
from kiroworkers.web.events import EventStream, wants_events
from kiroworkers.web.headers import answer_headers, set_agent_header
from kiroworkers.web.jobs import JobRoutes
from kiroworkers.web.openai.routes import OpenAIRoutes
from kiroworkers.web.openapi import document
from kiroworkers.web.openapi.routes import routes_of
from kiroworkers.web.operator import OperatorRoutes
from kiroworkers.web.pages import Pages
from kiroworkers.web.request_options import (
    queried_agent,
    request_options,
    requested_agent,
    wants_job,
    wants_raw,
)
from kiroworkers.web.views import (
    agents_json,
    milliseconds,
    readiness_json,
    worker_json,
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
        groups: AgentGroups,
        tasks: Mapping[str, Task],
        authorizer: Authorizer,
        job_service: JobService,
    ) -> None:
        self._clock = clock
        self._groups = groups
        self._tasks = tasks
        self._authorizer = authorizer
        self._job_service = job_service
        self._jobs = JobRoutes(job_service, authorizer)
        self._operator = OperatorRoutes(clock, groups, authorizer)
        self._pages = Pages(groups)
        self._openai = OpenAIRoutes(clock, groups, authorizer)

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
        self._authorizer.authorize(request, "watch")
        now = self._clock.seconds()
        return respond(
            request,
            200,
            {
                "status": "running",
                "timestamp": milliseconds(now),
                "version": __version__,
                **agents_json(self._groups),
                "workers": {
                    each.name: worker_json(each, group.name, now)
                    for group in self._groups
                    for each in group.pool.worker_pool.snapshots()
                },
            },
        )

    @app.route("/ready", methods=["GET"])
    def ready(self, request: IRequest) -> bytes:
        """
        200 while a worker can take work, now or after its turn; else 503.  A worker
        of any agent, or of that of ``?agent=NAME``.
        """
        chosen = self._groups.chosen(queried_agent(request))
        found = {each.name: readiness_json(each) for each in chosen}
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
        client = self._authorizer.authorize(request, "ask")
        raw = wants_raw(request)
        if raw:
            self._authorizer.require_operator(request)
        task = self._tasks.get(name)
        if task is None:
            raise UnknownTask(name)
        group = self._group_for(request, task)
        set_agent_header(request, group.name)
        payload = task.accept(json_body(request))
        options = request_options(request, client, name, task.limits.timeout)
        if wants_job(request):
            return self._jobs.accept(request, group.name, payload, options)

        async def asking(on_progress: OnProgress | None) -> StoredResponse:
            return await _said(group, task, payload, options, on_progress, raw)

        def said(on_progress: OnProgress | None = None) -> Awaitable[StoredResponse]:
            return self._jobs.said(request, payload, options, asking, on_progress)

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
            *routes_of(OperatorRoutes.app, "/operator"),
            *routes_of(OpenAIRoutes.app, "/v1"),
        )
        return document(
            routes,
            self._tasks,
            self._groups.names,
            needs_token=bool(self._authorizer.tokens),
            calls_back=self._job_service.hosts is not None,
        )

    async def _stream(
        self, request: IRequest, said: Callable[[OnProgress], Awaitable[StoredResponse]]
    ) -> None:
        """
        Tell the client what becomes of its request, and at last the answer.
        """
        stream = EventStream(self._clock, request)
        try:
            found = await said(stream.on_progress)
            if found.status == 200:
                stream.send("answer", found.body)
            else:
                stream.send("error", {"status": found.status, **found.body})
        except WorkError as problem:
            status, body = error_json(problem)
            stream.send("error", {"status": status, **body})
        except CancelledError:
            raise  # The client is gone.
        except Exception:
            log_internal_error(self._log, request, Failure())
            body = {"error": INTERNAL_ERROR.sentence, "code": INTERNAL_ERROR.code}
            stream.send("error", {"status": INTERNAL_ERROR.status, **body})
        finally:
            stream.close()

    def _group_for(self, request: IRequest, task: Task) -> AgentGroup:
        asked_for = requested_agent(request)
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
            return respond_to_http_error(request, as_http_error(request, problem))


async def _said(
    group: AgentGroup,
    task: Task,
    payload: Mapping[str, Any],
    options: RequestOptions,
    on_progress: OnProgress | None,
    raw: bool,
) -> StoredResponse:
    """
    What is said to a request; with the agent's own text, where it is to be `raw`.
    """
    try:
        outcome = await execute(group, task, payload, options, on_progress)
    except WorkError as problem:
        status, body = error_json(problem, group.pool.queue())
        match problem:
            case UnusableAnswer(evidence=Evidence(text=text)) if raw:
                body["text"] = text
        return StoredResponse(status, body, cacheable=isinstance(problem, CACHEABLE_FAILURES))
    value = outcome.found.value
    said = {"answer": value, "text": outcome.answer.reply.text} if raw else value
    return StoredResponse(200, said, answer_headers(outcome), cacheable=True)


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
