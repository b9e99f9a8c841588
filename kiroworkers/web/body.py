"""
Parse the JSON body of a request.
"""

from __future__ import annotations

import json
import math
from typing import Any

from twisted.web.iweb import IRequest

from kiroworkers.web.errors import HttpError


def json_body(request: IRequest) -> Any:
    """
    Return the parsed JSON body of `request`.

    Raises:
        HttpError: The content type is not JSON (415), or the body is not UTF-8, is not
            valid JSON, is nested too deeply or holds a number that no double can (400).
    """
    content_type = (request.getHeader(b"content-type") or b"").split(b";")[0].strip().lower()
    if content_type != b"application/json":
        raise HttpError(415, "not_json", "Send JSON with the header Content-Type: application/json")
    try:
        return json.loads(
            request.content.read().decode("utf-8"),
            parse_constant=_reject_constant,
            parse_float=_finite_float,
        )
    except UnicodeDecodeError:
        raise HttpError(400, "invalid_json", "The body is not UTF-8") from None
    except RecursionError:
        raise HttpError(400, "invalid_json", "The body is nested too deeply") from None
    except ValueError as error:
        raise HttpError(400, "invalid_json", f"The body is not JSON: {error}") from None


def _reject_constant(constant: str) -> Any:
    raise ValueError(f"{constant} is not a JSON number")


def _finite_float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:40]} is too large")
    return number
