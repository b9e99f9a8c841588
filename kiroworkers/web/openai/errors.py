"""
Failures as clients of OpenAI's API read them: ``{"error": {"message", "type",
"param", "code", …}}``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.web.iweb import IRequest

#: Where all of it stands.
_PATHS = "/v1"

_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}

#: Another attempt would cost another turn, and these have had theirs.
_COSTLY = (500, 502, 504)


def is_openai(request: IRequest) -> bool:
    """
    Is the client of `request` one of OpenAI's API?
    """
    return is_openai_path(request.path.decode("latin-1"))


def is_openai_path(path: str) -> bool:
    """
    Is `path` one of OpenAI's API?
    """
    return path == _PATHS or path.startswith(_PATHS + "/")


def openai_error(status: int, body: Mapping[str, Any]) -> dict[str, Any]:
    """
    The error `body`, as ``/kiro`` would have it, in OpenAI's format.
    """
    others = {name: value for name, value in body.items() if name not in ("error", "code", "field")}
    usual = "server_error" if status >= 500 else "invalid_request_error"
    return {
        "error": {
            "message": body["error"],
            "type": _TYPES.get(status, usual),
            "param": body.get("field"),
            "code": body["code"],
            **others,
        }
    }


def tell_retries(request: IRequest, status: int) -> None:
    """
    Official clients send a request again unasked, unless they are told not to.
    """
    if status in _COSTLY:
        request.setHeader(b"x-should-retry", b"false")
