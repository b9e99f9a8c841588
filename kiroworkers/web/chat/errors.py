"""
Report failures as OpenAI's API does: ``{"error": {"message", "type", "param", "code", …}}``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Error types by status; other statuses have one of two types.
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


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


def openai_headers(status: int, body: Mapping[str, Any]) -> dict[str, str]:
    """
    Return the headers that tell OpenAI's own clients whether to retry.

    They retry most failures unless ``x-should-retry: false`` forbids it, and a retry may cost
    another turn of an agent.

    Args:
        status: HTTP status of the failure.
        body: The error, as in `openai_error`.
    """
    return {"x-should-retry": "false"} if status >= 500 and "retryAfter" not in body else {}
