"""
Report failures as OpenAI's API does: ``{"error": {"message", "type", "param", "code", …}}``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.web.iweb import IRequest

#: Path below which the API is compatible with OpenAI's.
_PREFIX = "/v1"

#: Error types by status; other statuses have one of two types.
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


def is_openai_request(request: IRequest) -> bool:
    """
    Return whether the client of `request` expects the formats of OpenAI's API.
    """
    return is_openai_path(request.path.decode("latin-1"))


def is_openai_path(path: str) -> bool:
    """
    Return whether `path` belongs to the part of the API that is compatible with OpenAI's.
    """
    return path == _PREFIX or path.startswith(_PREFIX + "/")


def openai_error(status: int, body: Mapping[str, Any]) -> dict[str, Any]:
    """
    Convert the error `body` that other paths send to OpenAI's format.

    Args:
        status: HTTP status of the failure.
        body: The error, with ``error`` and ``code``; further fields are kept.
    """
    details = {
        name: value for name, value in body.items() if name not in ("error", "code", "field")
    }
    default_type = "server_error" if status >= 500 else "invalid_request_error"
    return {
        "error": {
            "message": body["error"],
            "type": _TYPES.get(status, default_type),
            "param": body.get("field"),
            "code": body["code"],
            **details,
        }
    }


def set_should_retry(request: IRequest, status: int, body: Mapping[str, Any]) -> None:
    """
    Set ``x-should-retry: false`` on the response to `request` if a retry would not help.

    OpenAI's own clients retry most failures unless this header forbids it, and a retry may
    cost another turn of an agent.

    Args:
        request: The request that failed.
        status: HTTP status of the failure.
        body: The error, as in `openai_error`.
    """
    if status >= 500 and "retryAfter" not in body:
        request.setHeader(b"x-should-retry", b"false")
