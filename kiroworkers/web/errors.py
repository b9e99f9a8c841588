"""
Failures as HTTP: the one place that knows which status each has.

The body is always ``{"error": "one sentence", "code": "machine_word", …}``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from traceback import format_tb
from typing import Any

from attrs import Factory, frozen
from klein import Klein
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import datetimeToString
from twisted.web.iweb import IRequest
from werkzeug.exceptions import HTTPException

from kiroworkers.errors import (
    AgentRefused,
    AgentUnavailable,
    AnswerSchemaMismatch,
    AnswerUnreadable,
    DeadlineUnachievable,
    Evidence,
    InvalidInput,
    KeyMismatch,
    NoWorkerFree,
    OutputTooLong,
    PromptTooLarge,
    RequestTimedOut,
    SessionLost,
    ShuttingDown,
    TooManyJobs,
    UnknownTask,
    UnusableAnswer,
    WorkError,
)
from kiroworkers.jobs.job import StoredResponse
from kiroworkers.pool.dispatcher import QueueSnapshot
from kiroworkers.web.headers import SECURITY_HEADERS, set_headers
from kiroworkers.web.openai.errors import is_openai, openai_error, tell_retries
from kiroworkers.web.views import queue_json

#: Every `WorkError`: its status and its code.
STATUS: Mapping[type[WorkError], tuple[int, str]] = {
    UnknownTask: (404, "unknown_task"),
    InvalidInput: (400, "invalid_input"),
    PromptTooLarge: (413, "prompt_too_long"),
    NoWorkerFree: (503, "all_workers_busy"),
    DeadlineUnachievable: (503, "no_time_left"),
    TooManyJobs: (503, "too_many_jobs"),
    KeyMismatch: (409, "idempotency_mismatch"),
    ShuttingDown: (503, "shutting_down"),
    RequestTimedOut: (504, "timed_out"),
    SessionLost: (502, "session_lost"),
    OutputTooLong: (502, "output_too_long"),
    AgentUnavailable: (503, "agent_unavailable"),
    AgentRefused: (502, "agent_refused"),
    AnswerSchemaMismatch: (502, "answer_unfit"),
    AnswerUnreadable: (502, "unreadable"),
}

_JSON = b"application/json; charset=utf-8"

#: When to ask again, in seconds, where the agent did not say.
_AGENT_GUESS = 60

#: What a shutting-down server advises, in seconds: it may be back by then.
_RESTART_GUESS = 10


@frozen
class HttpError(Exception):
    """
    A request that HTTP alone already refuses; worth to be sent again after
    `retry_after` seconds, where that is known.
    """

    status: int
    code: str
    sentence: str
    headers: Mapping[str, str] = Factory(dict)
    retry_after: int | None = None

    def __str__(self) -> str:
        return self.sentence


#: What a fault of ours is told as.
INTERNAL_ERROR = HttpError(500, "fault", "The server has a fault")


def respond(request: IRequest, status: int, body: Mapping[str, Any]) -> bytes:
    """
    `body` as the JSON response of `request`, to be returned from a route.
    """
    # Twisted has no phrase for some.
    request.setResponseCode(status, _phrase(status))
    request.setHeader(b"content-type", _JSON)
    text = _as_json(body)
    request.setHeader(b"content-length", str(len(text)).encode())
    return text


def respond_to_http_error(request: IRequest, refusal: HttpError) -> bytes:
    """
    The response to what HTTP refused.
    """
    headers, body = _told(refusal)
    for name, value in headers.items():
        request.setHeader(name.encode(), value.encode())
    return _respond_with_error(request, refusal.status, body)


def whole_response(refusal: HttpError, more: Mapping[bytes, bytes] | None = None) -> bytes:
    """
    The last response of a connection, with its head and `more` headers, where
    there is no request that could have one.
    """
    headers, body = _told(refusal)
    text = _as_json(body)
    lines = {
        **SECURITY_HEADERS,
        **{name.encode(): value.encode() for name, value in headers.items()},
        **(more or {}),
        b"Date": datetimeToString(),
        b"Content-Type": _JSON,
        b"Content-Length": str(len(text)).encode(),
        b"Connection": b"close",
    }
    status = f"HTTP/1.1 {refusal.status} ".encode() + _phrase(refusal.status)
    head = [status, *(name + b": " + value for name, value in lines.items())]
    return b"\r\n".join((*head, b"", text))


def _told(refusal: HttpError) -> tuple[dict[str, str], dict[str, Any]]:
    headers = dict(refusal.headers)
    body: dict[str, Any] = {"error": refusal.sentence, "code": refusal.code}
    if refusal.retry_after is not None:
        body["retryAfter"] = refusal.retry_after
        headers["Retry-After"] = str(refusal.retry_after)
    return headers, body


def _phrase(status: int) -> bytes:
    return HTTPStatus(status).phrase.encode()


def _as_json(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode() + b"\n"


def respond_to_work_error(
    request: IRequest, problem: WorkError, queue: QueueSnapshot | None = None
) -> bytes:
    """
    The response to a request that got no answer, as `error_json`.
    """
    return respond_with(request, StoredResponse(*error_json(problem, queue)))


def respond_with(request: IRequest, said: StoredResponse) -> bytes:
    """
    The response that is `said`.
    """
    if "retryAfter" in said.body and said.status >= 400:
        request.setHeader(b"retry-after", str(said.body["retryAfter"]).encode())
    set_headers(request, said.headers)
    if said.status >= 400:
        return _respond_with_error(request, said.status, said.body)
    return respond(request, said.status, said.body)


def respond_in_text(request: IRequest, said: StoredResponse) -> bytes:
    """
    The response that has the text in `said`, and nothing else.
    """
    set_headers(request, said.headers)
    # A lone surrogate is no character, and has no bytes.
    text = str(said.body["text"]).encode("utf-8", "replace")
    request.setHeader(b"content-type", b"text/plain; charset=utf-8")
    request.setHeader(b"content-length", str(len(text)).encode())
    return text


def _respond_with_error(request: IRequest, status: int, body: Mapping[str, Any]) -> bytes:
    if is_openai(request):
        tell_retries(request, status)
        body = openai_error(status, body)
    return respond(request, status, body)


def error_json(
    problem: WorkError, queue: QueueSnapshot | None = None
) -> tuple[int, dict[str, Any]]:
    """
    The status and the body of a request that got no answer, with the `queue` that
    it was for as it is then, where it may be worth to come back.
    """
    status, code = STATUS[type(problem)]
    body: dict[str, Any] = {"error": str(problem), "code": code}
    match problem:
        case InvalidInput(field=field) if field:
            body["field"] = field
        case (
            NoWorkerFree(retry_after=seconds)
            | DeadlineUnachievable(retry_after=seconds)
            | TooManyJobs(retry_after=seconds)
        ):
            body["retryAfter"] = seconds
        case AgentUnavailable(kind=kind, retry_after=seconds):
            body["code"] = kind
            body["retryAfter"] = _AGENT_GUESS if seconds is None else seconds
        case AgentRefused(kind=kind):
            body["code"] = kind
        case ShuttingDown():
            body["retryAfter"] = _RESTART_GUESS
        case AnswerSchemaMismatch(reasons=reasons) if reasons:
            body["reasons"] = reasons
    match problem:
        case UnusableAnswer(evidence=Evidence(worker=worker, request=number)):
            body["worker"], body["request"] = worker, number
    if "retryAfter" in body and queue is not None:
        body["queue"] = queue_json(queue)
    return status, body


def handle_failures(app: Klein, log: Logger) -> None:
    """
    Have every failure of the routes of `app` answered here.
    """

    def on_work_error(self: Any, request: IRequest, failure: Failure) -> bytes:
        assert isinstance(failure.value, WorkError), "registered for these only"
        return respond_to_work_error(request, failure.value)

    def on_refusal(self: Any, request: IRequest, failure: Failure) -> bytes:
        assert isinstance(failure.value, HttpError), "registered for these only"
        return respond_to_http_error(request, failure.value)

    def on_http_exception(self: Any, request: IRequest, failure: Failure) -> bytes:
        assert isinstance(failure.value, HTTPException), "registered for these only"
        return respond_to_http_error(request, as_http_error(request, failure.value))

    def on_fault(self: Any, request: IRequest, failure: Failure) -> bytes:
        log_internal_error(log, request, failure)
        return respond_to_http_error(request, INTERNAL_ERROR)

    app.handle_errors(WorkError)(on_work_error)
    app.handle_errors(HttpError)(on_refusal)
    app.handle_errors(HTTPException)(on_http_exception)
    app.handle_errors(Exception)(on_fault)


def log_internal_error(log: Logger, request: IRequest, failure: Failure) -> None:
    """
    Log where and of what kind a fault of ours is, but not what it says: that may
    quote the client.
    """
    log.error(
        "a fault while answering {path!r}: {kind}\n{where}",
        path=request.path,
        kind=failure.type,
        where="".join(format_tb(failure.getTracebackObject())),
    )


def as_http_error(request: IRequest, problem: HTTPException) -> HttpError:
    """
    What the router could not make sense of, in our words.
    """
    headers = dict(problem.get_headers())
    allow = {"Allow": headers["Allow"]} if "Allow" in headers else {}
    path = request.path.decode("ascii", "replace")
    match problem.code:
        case 404:
            return HttpError(404, "not_found", f"There is nothing at {path}")
        case 405:
            sentence = f"{path} takes {allow.get('Allow', 'another method')}"
            return HttpError(405, "wrong_method", sentence, allow)
        case code if code is not None and code < 500:
            return HttpError(
                400, "bad_request", problem.description or "The request makes no sense"
            )
    return INTERNAL_ERROR
