"""
Serve the routes of the HTTP API.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from secrets import token_urlsafe
from typing import Any

from klein import Klein
from twisted.internet.defer import CancelledError, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from twisted.web.resource import Resource
from werkzeug.exceptions import HTTPException

from kiroworkers import __version__
from kiroworkers.clocks import Now, WallClock
from kiroworkers.errors import (
    ErrorCode,
    UnknownTask,
    WorkError,
)
from kiroworkers.jobs.service import JobService
from kiroworkers.jobs.stored_response import StoredResponse
from kiroworkers.offload.call import Runner, run_here
from kiroworkers.pool.agent_groups import AgentGroups
from kiroworkers.pool.approvals import Approvals
from kiroworkers.pool.progress import OnProgress
from kiroworkers.tasks import Task
from kiroworkers.telemetry.metrics import Metrics
from kiroworkers.telemetry.recordings import Recordings
from kiroworkers.web.auth import Authorizer
from kiroworkers.web.body import json_body
from kiroworkers.web.chat.routes import ChatRoutes
from kiroworkers.web.dashboard.assets import (
    XTERM_FILES,
    XTERM_MISSING,
    load_assets,
    wants_page,
)
from kiroworkers.web.dashboard.feed import Feed, FeedSources
from kiroworkers.web.dashboard.session import SessionHandler
from kiroworkers.web.documents import DescribedApi, DocumentCache, RunInThread
from kiroworkers.web.errors import (
    INTERNAL_ERROR,
    HttpError,
    error_json,
    handle_failures,
    http_error_from,
    log_internal_error,
    respond,
    respond_stored,
    respond_text,
    respond_to_error,
)
from kiroworkers.web.events import EventStream, wants_events
from kiroworkers.web.headers import (
    prefixed,
)
from kiroworkers.web.history import HistoryRoutes
from kiroworkers.web.jobs import JobRoutes
from kiroworkers.web.mcp.handler import MCP_FAILURES, McpHandler
from kiroworkers.web.mcp.sessions import Sessions as McpSessions
from kiroworkers.web.mcp.tasks import TasksExtension
from kiroworkers.web.mcp.tool_calls import ToolCalls
from kiroworkers.web.metrics import MetricsPage, jobs, pools, servers
from kiroworkers.web.openapi.mcp import MCP_ACCEPTED, MCP_EXAMPLE, MCP_RESPONSE
from kiroworkers.web.openapi.responses import (
    JOB_EVENTS_RESPONSE,
    JOB_RESPONSE,
    TASK_RESPONSE,
    WATCH_RESPONSE,
    json_response,
)
from kiroworkers.web.openapi.schemas import STRING, TASK_INPUT, any_object, ref
from kiroworkers.web.operator import OperatorRoutes
from kiroworkers.web.pieces import send_in_pieces
from kiroworkers.web.recorded_request import record_of
from kiroworkers.web.recordings import ASCIICAST, JSON_LINES, RecordingHandler
from kiroworkers.web.representation import Representation
from kiroworkers.web.request_options import (
    model_names,
    queried_agent,
    wants_job,
    wants_raw,
)
from kiroworkers.web.routing import (
    AGENT_FAILURES,
    RequestBody,
    ResponseDoc,
    Route,
    branch,
    plain_path,
    route,
    routes_of,
)
from kiroworkers.web.task_requests import TaskRequests
from kiroworkers.web.terminals import TerminalHandler, new_live_terminals
from kiroworkers.web.viewer import ViewerMissing, load_viewer
from kiroworkers.web.views import (
    agents_json,
    cluster_json,
    milliseconds,
    readiness_json,
    storage_json,
    worker_json,
)

#: A method that no path accepts.
_NO_METHOD = b"_"


class Application:
    """
    Serve the HTTP API: tasks, jobs, health, documentation, operator and chat routes.

    Attributes:
        authorizer: Decides which requests are allowed.
        feed: Tells what changes to those who watch.

    Args:
        clock: Tells the time.
        groups: The agents and their pools.
        tasks: The tasks by their names.  They may change while the server runs.
        authorizer: Decides which requests are allowed.
        job_service: Stores and runs jobs.
        wall_clock: Returns the seconds since the epoch.
        run_in_thread: Builds the documents and reads the viewer's files without occupying the
            event loop.
        offload: Runs checks of answers and of clients' schemas that may take long.
        approvals: The agents' requests to use a tool that operators must decide about; None for
            none.
        strict_input: Whether requests are refused that have fields which the task does not know.
        feed: Tells what changes to those who watch; None for one that observes no requests.
        recordings: Has the recordings of sessions; None for none.
        metrics: The page of metrics; None for one that counts no requests.
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
        wall_clock: WallClock = time.time,
        run_in_thread: RunInThread = maybeDeferred,
        offload: Runner = run_here,
        approvals: Approvals | None = None,
        strict_input: bool = False,
        feed: Feed | None = None,
        terminals: TerminalHandler | None = None,
        recordings: Recordings | None = None,
        metrics: MetricsPage | None = None,
    ) -> None:
        self._clock = clock
        self._wall_clock = wall_clock
        self._groups = groups
        self._tasks = tasks
        self.authorizer = authorizer
        self._job_service = job_service
        if recordings is None:
            recordings = Recordings(clock, 0, enabled=False)
        self._recordings = RecordingHandler(clock, recordings, run_in_thread)
        self._jobs = JobRoutes(clock, job_service, authorizer)
        self._requests = TaskRequests(clock, groups, self._jobs, offload, strict_input)
        extension = TasksExtension(wall_clock, job_service, self._jobs)
        tools = ToolCalls(tasks, self._requests, extension)
        self._mcp = McpHandler(
            clock, tools, McpSessions(clock.seconds), extension, authorizer.count
        )
        self._history = HistoryRoutes(job_service.history, authorizer, recordings.recordings_of)
        if approvals is None:
            approvals = Approvals(clock, token_urlsafe)
        if feed is None:
            sources = FeedSources(
                groups, approvals, job_service.history, presence=job_service.presence
            )
            feed = Feed(clock, wall_clock, authorizer, sources)
        self.feed = feed
        if terminals is None:
            terminals = TerminalHandler(clock, groups, new_live_terminals(clock))
        self._terminals = terminals
        if metrics is None:
            sources_of_metrics = [pools(groups), jobs(job_service), servers(job_service.presence)]
            metrics = MetricsPage(Metrics(sources_of_metrics), run_in_thread)
        self._metrics = metrics
        self._operator = OperatorRoutes(
            clock, groups, authorizer, wall_clock, approvals, feed.pool_changed
        )
        self._routes = tuple(routes_of(self.app))
        self._run_in_thread = run_in_thread
        self._documents = DocumentCache(self._describe, run_in_thread)
        self._chat = ChatRoutes(clock, groups, authorizer, wall_clock, offload)
        self._session = SessionHandler(authorizer)

    def resource(self) -> Resource:
        """
        Return the resource that serves all routes.
        """
        return _RootResource(self.app.resource(), self._routes)

    @route(
        app,
        "GET",
        "/health",
        scope="watch",
        tag="Monitoring",
        responses={200: json_response("The state of the server.", ref("Health"))},
    )
    def health(self, request: IRequest, client: str) -> bytes:
        """
        Report the state of the server, its agents and every worker.

        The request uses no session.  The agent, pool and queue at the top level are those
        of the default agent.
        """
        now = Now(self._clock.seconds(), self._wall_clock())
        operator = self.authorizer.is_operator(request)
        return respond(
            request,
            200,
            {
                "status": "running",
                "timestamp": milliseconds(now.wall),
                "version": __version__,
                "server": self._job_service.presence.server_name,
                **agents_json(self._groups),
                "storage": storage_json(self._job_service.store.status),
                "workers": {
                    worker.name: worker_json(worker, group.name, now, operator=operator)
                    for group in self._groups
                    for worker in group.dispatcher.workers()
                },
            },
        )

    @route(
        app,
        "GET",
        "/cluster",
        scope="watch",
        tag="Monitoring",
        responses={200: json_response("The servers.", ref("Cluster"))},
    )
    async def cluster(self, request: IRequest, client: str) -> bytes:
        """
        List the servers that share the database, with their agents and the jobs that wait.

        Each server knows the others from their last heartbeat, and itself as it is now. While the
        database cannot be reached, the others are those that were known last. A server without
        `--database-file` lists itself alone, and its `database` is null.
        """
        presence = self._job_service.presence
        await presence.refresh()
        counts = self._job_service.runner.counts()
        return respond(request, 200, cluster_json(presence, counts, self._wall_clock()))

    @route(
        app,
        "GET",
        "/ready",
        scope=None,
        tag="Monitoring",
        parameters=("AgentQuery",),
        responses={
            200: json_response("At least one worker can take requests.", ref("Readiness")),
            503: json_response("No worker can take requests.", ref("Readiness")),
        },
    )
    def ready(self, request: IRequest) -> bytes:
        """
        Report whether a worker can take work: 200 if so, else 503.

        A worker counts if it can take work now or after its current turn.  Workers of all
        agents count, or only those of ``?agent=NAME``.  While ``storage`` is ``failing``,
        the server is still ready for requests without an ``Idempotency-Key``, but not for
        jobs.
        """
        groups = self._groups.select(queried_agent(request))
        agents = {group.name: readiness_json(group) for group in groups}
        # If no agent is ready, the first one's reason is given.
        decisive = [agent for agent in agents.values() if agent["ready"]] or [*agents.values()]
        workers = [name for agent in decisive for name in agent["workers"]]
        storage = storage_json(self._job_service.store.status)
        body = {**decisive[0], "workers": workers, "agents": agents, "storage": storage}
        return respond(request, 200 if body["ready"] else 503, body)

    @route(
        app,
        "GET",
        "/metrics",
        scope="watch",
        tag="Monitoring",
        responses={200: ResponseDoc("The metrics.", {"text/plain": STRING})},
    )
    async def metrics(self, request: IRequest, client: str) -> bytes:
        """
        Report metrics in the text format of Prometheus.

        A client that accepts OpenMetrics gets that.
        """
        return await self._metrics.respond(request)

    @route(
        app,
        "GET",
        "/kiro",
        scope=None,
        tag="Tasks",
        responses={200: json_response("The tasks and the agents.", ref("Catalogue"))},
    )
    async def catalogue(self, request: IRequest) -> bytes:
        """
        List the tasks with their schemas and examples, and the names of the agents.
        """
        return (await self._documents.current()).catalogue.respond(request)

    @route(
        app,
        "POST",
        "/kiro/<task_name>",
        scope="ask",
        tag="Tasks",
        parameters=(
            "Agent",
            "AgentModel",
            "Timeout",
            "Priority",
            "Prefer",
            "IdempotencyKey",
            "Callback",
            "Raw",
        ),
        body=RequestBody(TASK_INPUT),
        responses={200: TASK_RESPONSE, 202: JOB_RESPONSE},
        failures=(
            ErrorCode.UNKNOWN_TASK,
            ErrorCode.UNKNOWN_MODEL,
            ErrorCode.IDEMPOTENCY_MISMATCH,
            ErrorCode.TOO_MANY_JOBS,
            ErrorCode.JOBS_TOO_LARGE,
            ErrorCode.STORAGE_UNAVAILABLE,
            *AGENT_FAILURES,
        ),
    )
    async def answer(self, request: IRequest, client: str, task_name: str) -> bytes:
        """
        Run a task with the JSON body as its input, and return the answer.
        """
        raw = wants_raw(request)
        if raw:
            self.authorizer.require_operator(request)
        task = self._tasks.get(task_name)
        if task is None:
            raise UnknownTask(task_name)
        accepted = await self._requests.accept(request, client, task, json_body(request))
        if wants_job(request):
            return await self._jobs.create(
                request, accepted.group.name, accepted.payload, accepted.options
            )

        def run(on_progress: OnProgress | None = None) -> Awaitable[StoredResponse]:
            return self._requests.run(request, accepted, on_progress, raw=raw)

        if wants_events(request):
            await self._stream(request, run, accepted.ignored)
            return b""
        response = await run()
        if raw and response.status == 200:
            return respond_text(request, response)
        return respond_stored(request, response)

    @route(app, "GET", "/", scope=None)
    async def start(self, request: IRequest) -> bytes:
        """
        Show the page to browsers; redirect other clients to the documentation of the API.
        """
        request.responseHeaders.addRawHeader(b"vary", b"Accept")
        if wants_page(request):
            return (await self._run_in_thread(load_assets))[""].respond(request)
        request.redirect(b"docs")
        return b""

    @route(app, "GET", "/assets/<name>", scope=None, failures=(ErrorCode.NOT_FOUND,))
    async def page_asset(self, request: IRequest, name: str) -> bytes:
        """
        Return a file that the page loads.
        """
        file = (await self._run_in_thread(load_assets)).get(name)
        if file is None:
            reason = f"There is nothing at /assets/{name}"
            raise HttpError(ErrorCode.NOT_FOUND, XTERM_MISSING if name in XTERM_FILES else reason)
        await send_in_pieces(self._clock, request, file.respond(request))
        return b""

    @route(
        app,
        "GET",
        "/session",
        scope=None,
        tag="Page",
        responses={200: json_response("The rights.", ref("Session"))},
    )
    def session(self, request: IRequest) -> bytes:
        """
        Report the rights of the request, and whether a token is needed.
        """
        return self._session.show(request)

    @route(
        app,
        "POST",
        "/session",
        scope=None,
        tag="Page",
        body=RequestBody(ref("SignIn"), {"token": "9c1e07b5d2f84a63"}),
        responses={200: json_response("The rights.", ref("Session"), "Set-Cookie")},
        failures=(ErrorCode.WRONG_TOKEN,),
    )
    def sign_in(self, request: IRequest) -> bytes:
        """
        Exchange a token for a session's cookie, which allows what the token allows.

        Pages cannot read the cookie.  The session ends after 12 hours, with ``DELETE /session``,
        when the token is gone from the file or has changed, and when the server stops.  A request
        with the cookie that may change something must come from a page of this server.
        """
        return self._session.sign_in(request)

    @route(
        app,
        "DELETE",
        "/session",
        scope=None,
        tag="Page",
        responses={204: ResponseDoc("There is no session any more.")},
    )
    def sign_out(self, request: IRequest) -> bytes:
        """
        End the session, and remove its cookie.
        """
        return self._session.sign_out(request)

    @route(
        app,
        "GET",
        "/watch",
        scope="watch",
        tag="Page",
        responses={200: WATCH_RESPONSE},
    )
    async def watch(self, request: IRequest, client: str) -> bytes:
        """
        Stream the state of the server, and what happens to requests, as server-sent events.

        Everything is sent at once, and then whatever changes, at most four times a second.  A
        client that reads slowly gets the newest state and not those before it.  Whoever is not an
        operator does not see the identifiers, the clients and the texts of requests of others.
        """
        await self.feed.watch(request, client)
        return b""

    @route(
        app,
        "GET",
        "/terminal",
        scope="operate",
        tag="Page",
        parameters=("WorkerQuery",),
        responses={
            101: ResponseDoc("The connection is a WebSocket, whose messages are JSON texts.")
        },
        failures=(ErrorCode.UNKNOWN_WORKER, ErrorCode.UPGRADE_REQUIRED),
    )
    async def terminal(self, request: IRequest, client: str) -> bytes:
        """
        Follow what a worker shows, over a WebSocket.

        ``screen`` has output that draws the whole screen on an empty terminal of ``columns`` and
        ``rows``; it comes first, and after output was left out because the client did not read.
        ``output`` has what the agent printed since the message before, ``message`` what was said
        if the agent has no terminal, and ``session`` whether a session has ``started`` or
        ``ended``.  Each message names its ``worker``.  What the client sends has no effect.
        """
        await self._terminals.follow(request, self.authorizer)
        return b""

    @route(
        app,
        "GET",
        "/docs",
        scope=None,
        tag="Documentation",
        responses={200: ResponseDoc("The page.", {"text/html": STRING})},
        failures=(ErrorCode.NOT_FOUND,),
    )
    async def docs(self, request: IRequest) -> bytes:
        """
        Show the documentation of the API as an HTML page.
        """
        return (await self._viewer())[""].respond(request)

    @route(app, "GET", "/docs/<name>", scope=None, failures=(ErrorCode.NOT_FOUND,))
    async def asset(self, request: IRequest, name: str) -> bytes:
        """
        Return a file that the documentation page loads.
        """
        file = (await self._viewer()).get(name)
        if file is None:
            raise HttpError(ErrorCode.NOT_FOUND, f"There is nothing at /docs/{name}")
        await send_in_pieces(self._clock, request, file.respond(request))
        return b""

    @route(
        app,
        "GET",
        "/openapi.json",
        scope=None,
        tag="Documentation",
        responses={200: json_response("The document.", any_object("An OpenAPI 3.1 document."))},
    )
    async def openapi(self, request: IRequest) -> bytes:
        """
        Return the OpenAPI description of the API.
        """
        return (await self._documents.current()).openapi.respond(request)

    @route(
        app,
        "GET",
        "/jobs",
        scope="jobs",
        tag="Jobs",
        parameters=("Limit", "Before"),
        responses={200: json_response("A page of jobs.", ref("Jobs"))},
        failures=(ErrorCode.UNKNOWN_JOB, ErrorCode.STORAGE_UNAVAILABLE),
    )
    async def jobs(self, request: IRequest, client: str) -> bytes:
        """
        List jobs, newest first.

        A client sees its own jobs, and an operator those of all clients.  Results are left
        out; retrieve a job to read its result.
        """
        return await self._jobs.list_page(request, client)

    @route(
        app,
        "GET",
        "/jobs/<id>",
        scope="jobs",
        tag="Jobs",
        parameters=("Id",),
        responses={200: json_response("The job.", ref("Job"), "Retry-After")},
        failures=(ErrorCode.UNKNOWN_JOB, ErrorCode.STORAGE_UNAVAILABLE),
    )
    async def job(self, request: IRequest, client: str, id: str) -> bytes:
        """
        Retrieve a job.

        It has a ``result`` if it is done, and an ``error`` if it failed.
        """
        return await self._jobs.retrieve(request, client, id)

    @route(
        app,
        "DELETE",
        "/jobs/<id>",
        scope="jobs",
        tag="Jobs",
        parameters=("Id",),
        responses={
            200: json_response("The job was unfinished and has been cancelled.", ref("Job")),
            204: ResponseDoc("The job had ended and has been deleted."),
        },
        failures=(ErrorCode.UNKNOWN_JOB, ErrorCode.STORAGE_UNAVAILABLE),
    )
    async def cancel(self, request: IRequest, client: str, id: str) -> bytes:
        """
        Cancel an unfinished job, or delete one that has ended.
        """
        return await self._jobs.cancel_or_delete(request, client, id)

    @route(
        app,
        "GET",
        "/jobs/<id>/events",
        scope="jobs",
        tag="Jobs",
        parameters=("Id", "LastEventId", "After"),
        responses={
            200: JOB_EVENTS_RESPONSE,
            204: ResponseDoc("The job has ended, and the client has seen its last event."),
        },
        failures=(ErrorCode.UNKNOWN_JOB, ErrorCode.STORAGE_UNAVAILABLE),
    )
    async def job_events(self, request: IRequest, client: str, id: str) -> bytes:
        """
        Stream the events of a job until it has ended.

        A client that has lost its connection sends the ``id`` of the last event that it has seen,
        and gets exactly those that followed. Disconnecting does not cancel the job.
        """
        return await self._jobs.stream(request, client, id)

    @route(
        app,
        "GET",
        "/requests",
        scope="jobs",
        tag="Monitoring",
        parameters=("Limit", "BeforeRequest", "LastWorkerQuery", "TaskQuery", "OutcomeQuery"),
        responses={200: json_response("A page of requests.", ref("RequestPage"))},
    )
    def requests(self, request: IRequest, client: str) -> bytes:
        """
        List the last requests that asked an agent, newest first.

        A client sees its own requests, and an operator those of all clients. Each execution of a
        job is an entry of its own. Retrieve a request to read what happened to it.
        """
        return self._history.list_page(request, client)

    @route(
        app,
        "GET",
        "/requests/<id>",
        scope="jobs",
        tag="Monitoring",
        parameters=("RequestId", "BeforeRequest"),
        responses={200: json_response("The request.", ref("RequestHistory"))},
        failures=(ErrorCode.UNKNOWN_REQUEST,),
    )
    def request_history(self, request: IRequest, client: str, id: str) -> bytes:
        """
        Retrieve what happened to a request.

        If several requests have the same identifier, this is the newest one, and ``older`` is the
        path of the next.
        """
        return self._history.retrieve(request, client, id)

    @route(
        app,
        "GET",
        "/recordings",
        scope="operate",
        tag="Recordings",
        responses={200: json_response("The recordings.", ref("Recordings"))},
    )
    async def recordings(self, request: IRequest, client: str) -> bytes:
        """
        List the recordings of sessions, newest first.

        The server records sessions with ``--record``.
        """
        return await self._recordings.list_all(request)

    @route(
        app,
        "GET",
        "/recordings/<name>",
        scope="operate",
        tag="Recordings",
        parameters=("RecordingName",),
        responses={
            200: ResponseDoc("The recording.", {ASCIICAST: STRING, JSON_LINES: STRING}),
        },
        failures=(ErrorCode.UNKNOWN_RECORDING,),
    )
    async def recording(self, request: IRequest, client: str, name: str) -> bytes:
        """
        Download a recording.

        A recording that is still being written is sent as far as it is written.
        """
        return await self._recordings.download(request, name)

    @route(
        app,
        "DELETE",
        "/recordings/<name>",
        scope="operate",
        tag="Recordings",
        parameters=("RecordingName",),
        responses={204: ResponseDoc("The recording has been deleted.")},
        failures=(ErrorCode.UNKNOWN_RECORDING, ErrorCode.RECORDING_IN_USE),
    )
    async def delete_recording(self, request: IRequest, client: str, name: str) -> bytes:
        """
        Delete a recording of a session that has ended.
        """
        self._log.warn("operator {client}: delete recording {name}", client=client, name=name)
        return await self._recordings.delete(request, name)

    @branch(app, "/operator", OperatorRoutes.app)
    def operator(self, request: IRequest) -> Resource:
        """
        Serve the routes for operators.
        """
        return self._operator.app.resource()

    @branch(app, "/v1", ChatRoutes.app)
    def chat(self, request: IRequest) -> Resource:
        """
        Serve the routes of OpenAI's and Anthropic's APIs.
        """
        return self._chat.app.resource()

    @route(
        app,
        "POST",
        "/mcp",
        scope="ask",
        tag="MCP",
        parameters=(
            "McpVersion",
            "McpMethod",
            "McpName",
            "McpSession",
            "Agent",
            "AgentModel",
            "Timeout",
            "Priority",
            "Prefer",
            "IdempotencyKey",
        ),
        body=RequestBody(ref("JsonRpcMessage"), MCP_EXAMPLE),
        responses={200: MCP_RESPONSE, 202: MCP_ACCEPTED},
        failures=MCP_FAILURES,
        counted=False,
    )
    async def mcp(self, request: IRequest, client: str) -> bytes:
        """
        Send a message of the Model Context Protocol.

        Each task is a tool. A call that fails has a result with ``isError``, whose
        ``_meta["kiroworkers/error"]`` has the code of the failure; other failures are errors of
        JSON-RPC.  There is no ``GET``: the server sends no messages of its own.
        """
        return await self._mcp.post(request, client)

    @route(
        app,
        "DELETE",
        "/mcp",
        scope="ask",
        tag="MCP",
        parameters=("EndedMcpSession",),
        responses={204: ResponseDoc("The session has ended.")},
        failures=(ErrorCode.INVALID_MESSAGE, ErrorCode.UNKNOWN_SESSION),
    )
    def end_mcp_session(self, request: IRequest, client: str) -> bytes:
        """
        End a session of the Model Context Protocol.
        """
        return self._mcp.end_session(request, client)

    async def _viewer(self) -> Mapping[str, Representation]:
        """
        Return the files of the documentation page.

        Raises:
            HttpError: The server was installed without them.
        """
        try:
            return await self._run_in_thread(load_viewer)
        except ViewerMissing as problem:
            raise HttpError(ErrorCode.NOT_FOUND, str(problem)) from None

    def _describe(self) -> DescribedApi:
        return DescribedApi(
            self._routes,
            tuple(self._tasks.values()),
            tuple(group.name for group in self._groups),
            needs_token=bool(self.authorizer.tokens),
            has_callbacks=self._job_service.callback_hosts is not None,
            models=model_names(self._groups),
        )

    async def _stream(
        self,
        request: IRequest,
        run: Callable[[OnProgress], Awaitable[StoredResponse]],
        ignored: Mapping[str, str],
    ) -> None:
        """
        Call `run`, and stream its progress and finally the answer or the error.

        The headers that the stream shows include `ignored`.
        """
        stream = EventStream(self._clock, request)
        try:
            response = await run(stream.on_progress)
            if response.status == 200:
                stream.send_headers(prefixed({**response.headers, **ignored}))
                await stream.end("answer", response.body)
            else:
                await stream.end("error", {"status": response.status, **response.body})
        except WorkError as error:
            status, body = error_json(error, prompted=record_of(request).prompted)
            await stream.end("error", {"status": status, **body})
        except CancelledError:
            raise  # The client hung up.
        except Exception:
            log_internal_error(self._log, request, Failure())
            status, body = error_json(INTERNAL_ERROR)
            await stream.end("error", {"status": status, **body})
        finally:
            stream.close()


handle_failures(Application.app, Application._log)


class _RootResource(Resource):
    """
    Wrap Klein's resource to answer what its router does not, or not as HTTP asks for.

    Args:
        inner: Klein's resource.
        routes: Its routes.
    """

    isLeaf = True

    def __init__(self, inner: Resource, routes: Iterable[Route]) -> None:
        super().__init__()
        self._inner = inner
        self._routes = tuple(routes)

    def render(self, request: Any) -> Any:
        path = request.path.decode("ascii")
        plain = plain_path(path, self._routes)
        if plain is not None:
            # The router would redirect some of these.
            message = f"Not found: {path}"
            if any(declared.matches(plain) for declared in self._routes):
                message += f"; the nearest path is {plain}"
            return respond_to_error(request, HttpError(ErrorCode.NOT_FOUND, message))
        method = request.method
        if method != method.upper():
            # Methods are case-sensitive (RFC 9110, section 9.1), but not for the router.
            request.method = _NO_METHOD
        try:
            return self._inner.render(request)
        except HTTPException as error:
            # An invalid Host header raises one, for example.
            return respond_to_error(request, http_error_from(request, error))
        finally:
            request.method = method
