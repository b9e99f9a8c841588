"""
Failures in the format of OpenAI's API: ``{"error": {"message", "type", "param", "code", …}}``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.web.iweb import IRequest

#: Path below which the API is compatible with OpenAI's.
_PREFIX = "/v1"

#: Error types by status; other statuses have one of two types.
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}

#: Statuses after which a retry would cost another turn of an agent.  The server itself
#: has retried these where that made sense.
_NOT_WORTH_RETRYING = (500, 502, 504)


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
    Return the error `body` of the other paths in OpenAI's format.

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


def set_should_retry(request: IRequest, status: int) -> None:
    """
    Set ``x-should-retry: false`` on the response to `request` if `status` calls for it.

    OpenAI's own clients retry most failures unless this header forbids it.
    """
    if status in _NOT_WORTH_RETRYING:
        request.setHeader(b"x-should-retry", b"false")
