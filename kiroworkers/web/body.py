"""
Parse the JSON body of a request.
"""

from __future__ import annotations

import json
from typing import Any

from twisted.web.iweb import IRequest

from kiroworkers.errors import ErrorCode
from kiroworkers.strict_json import MAX_VALUES, StrictDecoder, has_more_values
from kiroworkers.web.errors import HttpError
from kiroworkers.web.framing import header_list


def json_body(request: IRequest) -> Any:
    """
    Return the parsed JSON body of `request`.

    Raises:
        HttpError: The content type is not JSON or the body is compressed (415), or the body
            is not UTF-8, is not valid JSON, is nested too deeply or holds a number that is
            too large for a float (400), or has too many values (413).
    """
    for coding in header_list(request.requestHeaders, b"content-encoding"):
        if coding != b"identity":
            # RFC 9110, section 15.5.16.
            raise HttpError(
                ErrorCode.UNSUPPORTED_ENCODING,
                f"The Content-Encoding {coding[:40].decode('latin-1')!r} is not supported; "
                "send the body without one",
                {"Accept-Encoding": "identity"},
            )
    content_type = (request.getHeader(b"content-type") or b"").split(b";")[0].strip().lower()
    if content_type != b"application/json":
        raise HttpError(
            ErrorCode.NOT_JSON, "Send JSON with the header Content-Type: application/json"
        )
    try:
        text = request.content.read().decode("utf-8")
        if has_more_values(text, MAX_VALUES):
            raise HttpError(ErrorCode.TOO_LARGE, f"The body has more than {MAX_VALUES} JSON values")
        return json.loads(text, cls=StrictDecoder)
    except UnicodeDecodeError:
        raise HttpError(ErrorCode.INVALID_JSON, "The body is not UTF-8") from None
    except RecursionError:
        raise HttpError(ErrorCode.INVALID_JSON, "The body is nested too deeply") from None
    except ValueError as error:
        raise HttpError(ErrorCode.INVALID_JSON, f"The body is not JSON: {error}") from None
