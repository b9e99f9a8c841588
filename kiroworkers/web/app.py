"""
The routes: what can be asked, and how it is answered.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from klein import Klein
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from twisted.web.resource import Resource
from werkzeug.exceptions import HTTPException

from kiroworkers import __version__
from kiroworkers.agents import Agent
from kiroworkers.errors import AgentRefused, AnswerUnfit, UnknownTask, WorkError
from kiroworkers.sessions.pool import Pool
from kiroworkers.sessions.worker import Snapshot
from kiroworkers.tasks import Task
from kiroworkers.web.errors import (
    Refusal,
    respond,
    respond_to_refusal,
    respond_to_work_error,
)
from kiroworkers.web.headers import tell_agent, tell_answer, tell_rejoined


class Application:
    """
    Answers with the `tasks`, through the `pool`, in the name of the `agent`.
    """

    app = Klein()
    _log = Logger()

    def __init__(
        self, clock: IReactorTime, pool: Pool, tasks: Mapping[str, Task], agent: Agent
    ) -> None:
        self._clock = clock
        self._pool = pool
        self._tasks = tasks
        self._agent = agent

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
        queue = self._pool.queue()
        return respond(
            request,
            200,
            {
                "status": "running",
                "timestamp": _milliseconds(self._clock.seconds()),
                "version": __version__,
                "agent": self._agent.name,
                "agentDetail": f"{self._agent.dialect.label} ({self._agent.reason})",
                "queue": {"length": queue.length, "limit": queue.limit},
                "workers": {each.name: self._worker(each) for each in self._pool.snapshots()},
            },
        )

    @app.route("/ready", methods=["GET"])
    def ready(self, request: IRequest) -> bytes:
        """
        200 while a worker can take work, now or after its turn; else 503.
        """
        healthy = [each.name for each in self._pool.snapshots() if each.healthy]
        if healthy and self._pool.running:
            return respond(request, 200, {"ready": True, "workers": healthy})
        return respond(
            request,
            503,
            {"ready": False, "error": "No worker is ready", "code": "not_ready", "workers": []},
        )

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
        task = self._tasks.get(name)
        if task is None:
            raise UnknownTask(name)
        asked = task.accept(_json_body(request))
        answer = await self._pool.submit(task.prompt(asked, self._agent.dialect.layout))
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

    @app.handle_errors(WorkError)
    def _on_work_error(self, request: IRequest, failure: Failure) -> bytes:
        assert isinstance(failure.value, WorkError), "registered for these only"
        return respond_to_work_error(request, failure.value)

    @app.handle_errors(Refusal)
    def _on_refusal(self, request: IRequest, failure: Failure) -> bytes:
        assert isinstance(failure.value, Refusal), "registered for these only"
        return respond_to_refusal(request, failure.value)

    @app.handle_errors(HTTPException)
    def _on_http_exception(self, request: IRequest, failure: Failure) -> bytes:
        assert isinstance(failure.value, HTTPException), "registered for these only"
        return respond_to_refusal(request, _as_refusal(request, failure.value))

    @app.handle_errors(Exception)
    def _on_fault(self, request: IRequest, failure: Failure) -> bytes:
        self._log.failure("a fault while answering {path!r}", failure, path=request.path)
        return respond_to_refusal(request, Refusal(500, "fault", "The server has a fault"))

    def _worker(self, worker: Snapshot) -> dict[str, Any]:
        now = self._clock.seconds()
        return {
            "pid": worker.pid,
            "busy": not worker.idle,
            "status": "idle" if worker.idle else "busy",
            "state": worker.state,
            "healthy": worker.healthy,
            "lastActivity": _milliseconds(worker.last_activity),
            "idleTime": _milliseconds(now - worker.last_activity) if worker.idle else 0,
            "answered": worker.answered,
            "starts": worker.starts,
            "consecutiveFailures": worker.consecutive_failures,
            "lastError": worker.last_error,
        }


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
            return respond_to_refusal(request, _as_refusal(request, problem))


def _as_refusal(request: IRequest, problem: HTTPException) -> Refusal:
    headers = dict(problem.get_headers())
    allow = {"Allow": headers["Allow"]} if "Allow" in headers else {}
    path = request.path.decode("ascii", "replace")
    match problem.code:
        case 404:
            return Refusal(404, "not_found", f"There is nothing at {path}")
        case 405:
            sentence = f"{path} takes {allow.get('Allow', 'another method')}"
            return Refusal(405, "wrong_method", sentence, allow)
        case code if code is not None and code < 500:
            return Refusal(400, "bad_request", problem.description or "The request makes no sense")
    return Refusal(500, "fault", "The server has a fault")


def _json_body(request: IRequest) -> Any:
    """
    The body of `request`, parsed.

    @raise Refusal: when it is not JSON, or does not say that it is.
    """
    kind = (request.getHeader(b"content-type") or b"").split(b";")[0].strip().lower()
    if kind != b"application/json":
        raise Refusal(415, "not_json", "Send JSON, with the header Content-Type: application/json")
    try:
        return json.loads(
            request.content.read().decode("utf-8"), parse_constant=_refused, parse_float=_finite
        )
    except UnicodeDecodeError:
        raise Refusal(400, "invalid_json", "The body is not UTF-8") from None
    except RecursionError:
        raise Refusal(400, "invalid_json", "The body is nested too deeply") from None
    except ValueError as problem:
        raise Refusal(400, "invalid_json", f"The body is not JSON: {problem}") from None


def _refused(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:40]} is too large")
    return number


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


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)
