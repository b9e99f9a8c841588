"""
The body of a request, as JSON.
"""

from __future__ import annotations

import json
import math
from typing import Any

from twisted.web.iweb import IRequest

from kiroworkers.web.errors import HttpError


def json_body(request: IRequest) -> Any:
    """
    The body of `request`, parsed.

    Raises:
        HttpError: when it is not JSON, or does not say that it is.
    """
    kind = (request.getHeader(b"content-type") or b"").split(b";")[0].strip().lower()
    if kind != b"application/json":
        raise HttpError(
            415, "not_json", "Send JSON, with the header Content-Type: application/json"
        )
    try:
        return json.loads(
            request.content.read().decode("utf-8"), parse_constant=_refused, parse_float=_finite
        )
    except UnicodeDecodeError:
        raise HttpError(400, "invalid_json", "The body is not UTF-8") from None
    except RecursionError:
        raise HttpError(400, "invalid_json", "The body is nested too deeply") from None
    except ValueError as problem:
        raise HttpError(400, "invalid_json", f"The body is not JSON: {problem}") from None


def _refused(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:40]} is too large")
    return number
