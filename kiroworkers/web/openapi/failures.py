"""
Every status and code that a failure can have.
"""

from __future__ import annotations

from collections.abc import Mapping

from kiroworkers.conversations.failures import FAILURE_KINDS
from kiroworkers.errors import AgentRefused, AgentUnavailable
from kiroworkers.web.errors import STATUS

#: Codes of failures that are not a `WorkError`, by status.
_HTTP_CODES: Mapping[int, tuple[str, ...]] = {
    400: ("invalid_json", "bad_request", "bad_host", "bad_path"),
    401: ("no_token", "wrong_token"),
    403: ("wrong_scope", "operators_only", "wrong_host", "wrong_origin"),
    404: ("not_found", "unknown_job", "unknown_worker", "model_not_found"),
    405: ("wrong_method",),
    408: ("too_slow",),
    413: ("too_large",),
    414: ("path_too_long",),
    415: ("not_json",),
    429: ("rate_limited",),
    431: ("headers_too_large",),
    500: ("fault",),
    503: ("too_many_connections",),
}

#: Reasons for which an agent rejects one request.  They are the codes of `AgentRefused`;
#: most of them are stop reasons of the Agent Client Protocol.
_REFUSAL_KINDS = (
    "context_full",
    "refusal",
    "max_tokens",
    "max_turn_requests",
    "cancelled",
    "agent_error",
    "approval_denied",
)

#: What each status means, for the author of a client.
MEANINGS: Mapping[int, str] = {
    400: "The request is invalid; `field` names the field, header or parameter.",
    401: "The token is missing or unknown.",
    403: "The token lacks the required scope, or the `Host` or `Origin` header is not allowed.",
    404: "The path, task, job, worker or model does not exist.",
    405: "The path does not support this method; the `Allow` header lists those that it supports.",
    408: "The request was not received in time.",
    409: "The `Idempotency-Key` was used for a different request.",
    413: "The request body is too large, or the prompt made from it is.",
    414: "The path is too long.",
    415: "The `Content-Type` is not `application/json`.",
    429: "The client has sent too many requests; retry after `Retry-After` seconds.",
    431: "The headers are too large, or there are too many.",
    500: "Internal server error; the server's log has the details.",
    502: "The agent gave no valid answer, refused the request, or ended while answering.",
    503: "The server or the agent cannot take the request now; retry after `Retry-After` seconds.",
    504: "No answer was given before the deadline.",
}


def codes_by_status() -> dict[int, tuple[str, ...]]:
    """
    Return the codes of every status, in the order of the statuses.
    """
    codes: dict[int, list[str]] = {}
    for error, (status, code) in STATUS.items():
        codes.setdefault(status, []).extend(_codes_of(error, code))
    for status, http_codes in _HTTP_CODES.items():
        codes.setdefault(status, []).extend(http_codes)
    return {status: tuple(dict.fromkeys(codes[status])) for status in sorted(codes)}


def _codes_of(error: type, code: str) -> tuple[str, ...]:
    """
    Return the codes that clients see for an `error` which the server maps to `code`.
    """
    if issubclass(error, AgentRefused):
        return _REFUSAL_KINDS
    if issubclass(error, AgentUnavailable):
        return tuple(kind for kind in FAILURE_KINDS if kind not in _REFUSAL_KINDS)
    return (code,)
