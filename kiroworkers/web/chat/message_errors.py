"""
Report failures as Anthropic's API does: ``{"type": "error", "error": {"type", "message", …}, …}``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Error types by status; other statuses have one of two types.
_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}

#: The statuses of a temporary failure before and after the agent was asked.
_UNASKED, _ASKED = 503, 502

#: The longest time that Anthropic's own clients are made to wait before a retry, in seconds.  They
#: wait as long as ``Retry-After`` says, and meanwhile their caller learns nothing.
_MAX_WAIT = 60


def anthropic_error(status: int, body: Mapping[str, Any]) -> dict[str, Any]:
    """
    Convert the error `body` that other paths send to the format of Anthropic's API.

    Its ``details`` have our code as ``error_code``, where Anthropic's own clients look for one.

    Args:
        status: HTTP status of the failure.
        body: The error, with ``error`` and ``code``; further fields are kept.
    """
    if status == _ASKED and "retryAfter" in body:
        # Before the agent was asked, it would be 503; only the status differs.
        status = _UNASKED
    default_type = "api_error" if status >= 500 else "invalid_request_error"
    details = {
        name: value for name, value in body.items() if name not in ("error", "code", "requestId")
    }
    return {
        "type": "error",
        "error": {
            "type": _TYPES.get(status, default_type),
            "message": body["error"],
            "details": {"error_code": body["code"], **details},
        },
        "request_id": body.get("requestId"),
    }


def anthropic_headers(status: int, body: Mapping[str, Any]) -> dict[str, str]:
    """
    Return the headers that Anthropic's own clients expect of an error.

    They retry most failures unless ``x-should-retry: false`` forbids it, and a retry may cost
    another turn of an agent.

    Args:
        status: HTTP status of the failure.
        body: The error, as in `anthropic_error`.
    """
    headers = {"request-id": body["requestId"]} if "requestId" in body else {}
    wait = body.get("retryAfter")
    if (status >= 500) if wait is None else (wait > _MAX_WAIT):
        headers["x-should-retry"] = "false"
    return headers
