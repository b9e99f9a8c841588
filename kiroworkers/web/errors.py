"""
Turn errors into HTTP responses; no other module knows the status of an error.

The body is always ``{"error": "one sentence", "code": "machine_word", …}``, except for
clients of the OpenAI API, which get that API's format.
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
    IdempotencyKeyMismatch,
    InvalidInput,
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
from kiroworkers.web.openai.errors import is_openai_request, openai_error, set_should_retry
from kiroworkers.web.views import queue_json

#: The status and the code of every `WorkError`.
STATUS: Mapping[type[WorkError], tuple[int, str]] = {
    UnknownTask: (404, "unknown_task"),
    InvalidInput: (400, "invalid_input"),
    PromptTooLarge: (413, "prompt_too_long"),
    NoWorkerFree: (503, "all_workers_busy"),
    DeadlineUnachievable: (503, "no_time_left"),
    TooManyJobs: (503, "too_many_jobs"),
    IdempotencyKeyMismatch: (409, "idempotency_mismatch"),
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

#: Seconds after which to retry when an agent is unavailable and did not say for how long.
_AGENT_RETRY_AFTER = 60

#: Seconds after which to retry when the server shuts down; by then it may be back.
_RESTART_RETRY_AFTER = 10


@frozen
class HttpError(Exception):
    """
    Raised when a request is rejected for a reason that no `WorkError` covers.

    Attributes:
        status: The HTTP status.
        code: The machine-readable code.
        message: The sentence for people.
        headers: Additional headers of the response.
        retry_after: Seconds after which the request may succeed; None if unknown.
    """

    status: int
    code: str
    message: str
    headers: Mapping[str, str] = Factory(dict)
    retry_after: int | None = None

    def __str__(self) -> str:
        return self.message


#: What a client learns about an unexpected exception.
INTERNAL_ERROR = HttpError(500, "fault", "Internal server error")


def respond(request: IRequest, status: int, body: Mapping[str, Any]) -> bytes:
    """
    Set the status and headers of a JSON response, and return `body` encoded.
    """
    # Twisted knows no phrase for some statuses.
    request.setResponseCode(status, _phrase(status))
    request.setHeader(b"content-type", _JSON)
    content = _encoded(body)
    request.setHeader(b"content-length", str(len(content)).encode())
    return content


def respond_to_http_error(request: IRequest, error: HttpError) -> bytes:
    """
    Set the status and headers of the response to `error`, and return its body.
    """
    headers, body = _headers_and_body(error)
    for name, value in headers.items():
        request.setHeader(name.encode(), value.encode())
    return _respond_with_error(request, error.status, body)


def raw_error_response(error: HttpError, headers: Mapping[bytes, bytes] | None = None) -> bytes:
    """
    Return a complete HTTP response for a connection that has no request to answer.

    Args:
        error: The error to report.
        headers: Headers to add to the usual ones.
    """
    error_headers, body = _headers_and_body(error)
    content = _encoded(body)
    lines = {
        **SECURITY_HEADERS,
        **{name.encode(): value.encode() for name, value in error_headers.items()},
        **(headers or {}),
        b"Date": datetimeToString(),
        b"Content-Type": _JSON,
        b"Content-Length": str(len(content)).encode(),
        b"Connection": b"close",
    }
    status = f"HTTP/1.1 {error.status} ".encode() + _phrase(error.status)
    head = [status, *(name + b": " + value for name, value in lines.items())]
    return b"\r\n".join((*head, b"", content))


def _headers_and_body(error: HttpError) -> tuple[dict[str, str], dict[str, Any]]:
    headers = dict(error.headers)
    body: dict[str, Any] = {"error": error.message, "code": error.code}
    if error.retry_after is not None:
        body["retryAfter"] = error.retry_after
        headers["Retry-After"] = str(error.retry_after)
    return headers, body


def _phrase(status: int) -> bytes:
    return HTTPStatus(status).phrase.encode()


def _encoded(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode() + b"\n"


def respond_to_work_error(
    request: IRequest, error: WorkError, queue: QueueSnapshot | None = None
) -> bytes:
    """
    Set the status and headers of the response to `error`, and return its body.

    Args:
        request: The request that failed.
        error: The reason.
        queue: The queue that the request was for, as in `error_json`.
    """
    return respond_stored(request, StoredResponse(*error_json(error, queue)))


def respond_stored(request: IRequest, response: StoredResponse) -> bytes:
    """
    Set the status and headers of `response`, and return its body encoded.
    """
    if "retryAfter" in response.body and response.status >= 400:
        request.setHeader(b"retry-after", str(response.body["retryAfter"]).encode())
    set_headers(request, response.headers)
    if response.status >= 400:
        return _respond_with_error(request, response.status, response.body)
    return respond(request, response.status, response.body)


def respond_text(request: IRequest, response: StoredResponse) -> bytes:
    """
    Respond with the field ``text`` of the body of `response` alone, as plain text.
    """
    set_headers(request, response.headers)
    # A lone surrogate cannot be encoded.
    content = str(response.body["text"]).encode("utf-8", "replace")
    request.setHeader(b"content-type", b"text/plain; charset=utf-8")
    request.setHeader(b"content-length", str(len(content)).encode())
    return content


def _respond_with_error(request: IRequest, status: int, body: Mapping[str, Any]) -> bytes:
    if is_openai_request(request):
        set_should_retry(request, status)
        body = openai_error(status, body)
    return respond(request, status, body)


def error_json(error: WorkError, queue: QueueSnapshot | None = None) -> tuple[int, dict[str, Any]]:
    """
    Return the status and the JSON body that report `error` to a client.

    Args:
        error: The reason why a request got no answer.
        queue: The queue that the request was for.  It is included in the body if the
            client may retry.
    """
    status, code = STATUS[type(error)]
    body: dict[str, Any] = {"error": str(error), "code": code}
    match error:
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
            body["retryAfter"] = _AGENT_RETRY_AFTER if seconds is None else seconds
        case AgentRefused(kind=kind):
            body["code"] = kind
        case ShuttingDown():
            body["retryAfter"] = _RESTART_RETRY_AFTER
        case AnswerSchemaMismatch(reasons=reasons) if reasons:
            body["reasons"] = reasons
    match error:
        case UnusableAnswer(evidence=Evidence(worker=worker, request=number)):
            body["worker"], body["request"] = worker, number
    if "retryAfter" in body and queue is not None:
        body["queue"] = queue_json(queue)
    return status, body


def handle_failures(app: Klein, log: Logger) -> None:
    """
    Register error handlers that turn every failure of the routes of `app` into a response.

    Args:
        app: The application whose routes may fail.
        log: Where unexpected exceptions are logged.
    """

    def on_work_error(self: Any, request: IRequest, failure: Failure) -> bytes:
        assert isinstance(failure.value, WorkError), "registered for these only"
        return respond_to_work_error(request, failure.value)

    def on_http_error(self: Any, request: IRequest, failure: Failure) -> bytes:
        assert isinstance(failure.value, HttpError), "registered for these only"
        return respond_to_http_error(request, failure.value)

    def on_http_exception(self: Any, request: IRequest, failure: Failure) -> bytes:
        assert isinstance(failure.value, HTTPException), "registered for these only"
        return respond_to_http_error(request, http_error_from(request, failure.value))

    def on_exception(self: Any, request: IRequest, failure: Failure) -> bytes:
        log_internal_error(log, request, failure)
        return respond_to_http_error(request, INTERNAL_ERROR)

    app.handle_errors(WorkError)(on_work_error)
    app.handle_errors(HttpError)(on_http_error)
    app.handle_errors(HTTPException)(on_http_exception)
    app.handle_errors(Exception)(on_exception)


def log_internal_error(log: Logger, request: IRequest, failure: Failure) -> None:
    """
    Log the type and the traceback of an unexpected exception.

    Its message is left out, because it may quote what a client sent.
    """
    log.error(
        "internal error while answering {path!r}: {kind}\n{traceback}",
        path=request.path,
        kind=failure.type,
        traceback="".join(format_tb(failure.getTracebackObject())),
    )


def http_error_from(request: IRequest, error: HTTPException) -> HttpError:
    """
    Return the `HttpError` for an exception that the router raised.
    """
    headers = dict(error.get_headers())
    allow = {"Allow": headers["Allow"]} if "Allow" in headers else {}
    path = request.path.decode("ascii", "replace")
    match error.code:
        case 404:
            return HttpError(404, "not_found", f"Not found: {path}")
        case 405:
            message = f"{path} accepts only {allow.get('Allow', 'other methods')}"
            return HttpError(405, "wrong_method", message, allow)
        case code if code is not None and code < 500:
            return HttpError(400, "bad_request", error.description or "Malformed request")
    return INTERNAL_ERROR
