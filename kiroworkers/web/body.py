"""
Parse the JSON body of a request.
"""

from __future__ import annotations

import json
from typing import Any

from twisted.web.iweb import IRequest

from kiroworkers.errors import ErrorCode
from kiroworkers.strict_json import StrictDecoder
from kiroworkers.web.errors import HttpError


def json_body(request: IRequest) -> Any:
    """
    Return the parsed JSON body of `request`.

    Raises:
        HttpError: The content type is not JSON (415), or the body is not UTF-8, is not
            valid JSON, is nested too deeply or holds a number that is too large for a float
            (400).
    """
    content_type = (request.getHeader(b"content-type") or b"").split(b";")[0].strip().lower()
    if content_type != b"application/json":
        raise HttpError(
            ErrorCode.NOT_JSON, "Send JSON with the header Content-Type: application/json"
        )
    try:
        return json.loads(request.content.read().decode("utf-8"), cls=StrictDecoder)
    except UnicodeDecodeError:
        raise HttpError(ErrorCode.INVALID_JSON, "The body is not UTF-8") from None
    except RecursionError:
        raise HttpError(ErrorCode.INVALID_JSON, "The body is nested too deeply") from None
    except ValueError as error:
        raise HttpError(ErrorCode.INVALID_JSON, f"The body is not JSON: {error}") from None
