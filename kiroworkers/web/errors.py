"""
Turn errors into HTTP responses.

The body is always ``{"error": "one sentence", "code": "machine_word", …}``, except below paths
that follow another API, see `error_formats`.
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

from kiroworkers.errors import ErrorCode, WorkError
from kiroworkers.jobs.job import Job, JobFailure
from kiroworkers.jobs.stored_response import StoredResponse
from kiroworkers.pool.dispatcher import QueueSnapshot
from kiroworkers.web.error_formats import error_format_of
from kiroworkers.web.headers import SECURITY_HEADERS, set_headers
from kiroworkers.web.recorded_request import REQUEST_ID, record_of
from kiroworkers.web.views import queue_json

#: The content type of JSON.
JSON_TYPE = b"application/json; charset=utf-8"

_log = Logger()


@frozen
class HttpError(Exception):
    """
    Raised when a request is rejected for a reason that no `WorkError` covers.

    Attributes:
        code: The error's entry in the catalogue.
        message: The sentence for people.
        headers: Additional headers of the response.
        retry_after: Seconds after which the request may succeed; None for the
            catalogue's value.
    """

    code: ErrorCode
    message: str
    headers: Mapping[str, str] = Factory(dict)
    retry_after: int | None = None

    def __str__(self) -> str:
        return self.message


#: What a client learns about an unexpected exception.
INTERNAL_ERROR = HttpError(ErrorCode.FAULT, "Internal server error")


def respond(request: IRequest, status: int, body: Mapping[str, Any]) -> bytes:
    """
    Set the status and headers of a JSON response, and return `body` encoded.
    """
    # Twisted knows no phrase for some statuses.
    request.setResponseCode(status, _phrase(status))
    request.setHeader(b"content-type", JSON_TYPE)
    content = encode_json(body)
    request.setHeader(b"content-length", str(len(content)).encode())
    return content


def respond_to_error(
    request: IRequest, error: WorkError | HttpError, queue: QueueSnapshot | None = None
) -> bytes:
    """
    Set the status and headers of the response to `error`, and return its body.

    Args:
        request: The request that failed.
        error: The reason.
        queue: The queue that the request was for, as in `error_json`.
    """
    headers = error.headers if isinstance(error, HttpError) else {}
    prompted = record_of(request).prompted
    return _send_error(request, *error_json(error, queue, prompted=prompted), headers)


def _send_error(
    request: IRequest, status: int, body: Mapping[str, Any], headers: Mapping[str, str]
) -> bytes:
    """
    Set the status and headers of an error's response, and return its body.

    If part of another response has already been sent, abort the connection instead: the
    client would take the error for the rest of that response.
    """
    record = record_of(request)
    record.fail(body["code"], body["error"])
    body = with_request_id(body, record.id)
    twisted_request: Any = request  # `IRequest` does not have all of this.
    if twisted_request.startedWriting:
        _log.error(
            "{path!r} failed after its response had begun: {code} (request {requestId})",
            path=request.path,
            requestId=record.id,
            code=body["code"],
        )
        twisted_request.transport.abortConnection()
        return b""
    form = error_format_of(request)
    for name, value in {**_error_headers(body, headers), **form.headers(status, body)}.items():
        request.setHeader(name.encode(), value.encode())
    return respond(request, status, form.convert(status, body))


def with_request_id(body: Mapping[str, Any], id: str) -> Mapping[str, Any]:
    """
    Return the `body` of an error with the identifier of the request, if there is one.
    """
    return {**body, "requestId": id} if id else body


def raw_error_response(
    error: HttpError, id: str, headers: Mapping[bytes, bytes] | None = None
) -> bytes:
    """
    Return a complete HTTP response for a connection that has no request to answer.

    Args:
        error: The error to report.
        id: The identifier of the request.
        headers: Headers to add to the usual ones.
    """
    status, error_body = error_json(error)
    body = with_request_id(error_body, id)
    error_headers = _error_headers(body, error.headers)
    content = encode_json(body)
    lines = {
        **SECURITY_HEADERS,
        **{name.encode(): value.encode() for name, value in error_headers.items()},
        **(headers or {}),
        REQUEST_ID: id.encode(),
        b"Date": datetimeToString(),
        b"Content-Type": JSON_TYPE,
        b"Content-Length": str(len(content)).encode(),
        b"Connection": b"close",
    }
    status_line = f"HTTP/1.1 {status} ".encode() + _phrase(status)
    head = [status_line, *(name + b": " + value for name, value in lines.items())]
    return b"\r\n".join((*head, b"", content))


def body_length(response: bytes) -> int:
    """
    Return the number of bytes of the body of a raw response.
    """
    return len(response.partition(b"\r\n\r\n")[2])


def _error_headers(body: Mapping[str, Any], headers: Mapping[str, str]) -> dict[str, str]:
    """
    Return `headers`, with ``Retry-After`` added if `body` says when to ask again.
    """
    if "retryAfter" not in body:
        return {**headers}
    return {**headers, "Retry-After": str(body["retryAfter"])}


def _phrase(status: int) -> bytes:
    return HTTPStatus(status).phrase.encode()


def encode_json(body: Mapping[str, Any]) -> bytes:
    """
    Return `body` as a compact JSON text that ends its line.
    """
    return json.dumps(body, separators=(",", ":")).encode() + b"\n"


def respond_stored(request: IRequest, response: StoredResponse) -> bytes:
    """
    Set the status and headers of `response`, and return its body encoded.
    """
    set_headers(request, response.headers)
    if response.status >= 400:
        return _send_error(request, response.status, response.body, {})
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


def error_json(
    error: WorkError | HttpError | JobFailure,
    queue: QueueSnapshot | None = None,
    *,
    prompted: bool = False,
) -> tuple[int, dict[str, Any]]:
    """
    Return the status and the JSON body that report `error` to a client.

    Args:
        error: The reason why a request or a job got no answer.
        queue: The queue that the request was for.  It is included in the body if the
            client may retry.
        prompted: Whether a prompt was sent to an agent; see `FailureCode.status_for`.
    """
    code = error.code
    details = {} if isinstance(error, HttpError) else error.details
    body: dict[str, Any] = {"error": str(error), "code": code.value, **details}
    seconds = error.retry_after
    if seconds is None and code.retry_after != "own":
        seconds = code.retry_after
    if seconds is not None:
        body["retryAfter"] = seconds
        if queue is not None:
            body["queue"] = queue_json(queue)
    return code.status_for(prompted=prompted), body


def job_error_json(job: Job, failure: JobFailure) -> dict[str, Any]:
    """
    Return the JSON that reports why `job` has failed, with the status of a response.
    """
    # A job that was run before may be refused in the end, like a request that was never run.
    prompted = job.attempts > 0 and failure.code.ends_turns
    status, body = error_json(failure, prompted=prompted)
    return {"status": status, **with_request_id(body, job.request_id)}


def handle_failures(app: Klein, log: Logger) -> None:
    """
    Register error handlers that turn every failure of the routes of `app` into a response.

    Args:
        app: The application whose routes may fail.
        log: Where unexpected exceptions are logged.
    """

    def on_error(self: Any, request: IRequest, failure: Failure) -> bytes:
        assert isinstance(failure.value, (WorkError, HttpError)), "registered for these only"
        return respond_to_error(request, failure.value)

    def on_http_exception(self: Any, request: IRequest, failure: Failure) -> bytes:
        assert isinstance(failure.value, HTTPException), "registered for these only"
        return respond_to_error(request, http_error_from(request, failure.value))

    def on_exception(self: Any, request: IRequest, failure: Failure) -> bytes:
        log_internal_error(log, request, failure)
        return respond_to_error(request, INTERNAL_ERROR)

    app.handle_errors(WorkError, HttpError)(on_error)
    app.handle_errors(HTTPException)(on_http_exception)
    app.handle_errors(Exception)(on_exception)


def log_internal_error(log: Logger, request: IRequest, failure: Failure) -> None:
    """
    Log the type and the traceback of an unexpected exception.

    Its message is left out, because it may quote what a client sent.
    """
    log.error(
        "internal error while answering {path!r}: {kind} (request {requestId})\n{traceback}",
        path=request.path,
        requestId=record_of(request).id,
        kind=failure.type,
        traceback="".join(format_tb(failure.getTracebackObject())),
    )


def http_error_from(request: IRequest, error: HTTPException) -> HttpError:
    """
    Return the `HttpError` for an exception that the router raised.
    """
    headers = dict(error.get_headers())
    # werkzeug lists the methods in an order that differs from process to process.
    methods = sorted(headers["Allow"].split(", ")) if "Allow" in headers else []
    allow = {"Allow": ", ".join(methods)} if methods else {}
    path = request.path.decode("ascii", "replace")
    match error.code:
        case 404:
            return HttpError(ErrorCode.NOT_FOUND, f"Not found: {path}")
        case 405:
            message = f"{path} accepts only {allow.get('Allow', 'other methods')}"
            return HttpError(ErrorCode.WRONG_METHOD, message, allow)
        case code if code is not None and code < 500:
            return HttpError(ErrorCode.BAD_REQUEST, error.description or "Malformed request")
    return INTERNAL_ERROR
