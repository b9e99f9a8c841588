"""
Read the bodies of responses.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from kiroworkers_client.base_errors import (
    InvalidResponseError,
    KiroError,
    retry_after_of,
    unknown_error_class,
)
from kiroworkers_client.errors import BY_CODE
from kiroworkers_client.steps import Head

#: The header with the identifier of a request, in lower case.
REQUEST_ID = "x-request-id"

#: The number of bytes of an unexpected response that an error quotes.
_MAX_QUOTED = 80


def json_object(text: bytes | str) -> dict[str, Any] | None:
    """
    Return the JSON object that `text` is, or None.
    """
    try:
        payload = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return payload if isinstance(payload, dict) else None


def error_from(
    status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None
) -> KiroError:
    """
    Return the error that a server reports.

    Args:
        status: The status of the response, or that of a failure within a stream or a job.
        body: The JSON object, whose members need not be of the right types.
        headers: The headers of the response, with names in lower case.
    """
    code = body.get("code")
    if not isinstance(code, str):
        code = "unknown"
    message = body.get("error")
    if not isinstance(message, str):
        message = f"The server answered {status}"
    retry_after = retry_after_of(body, (headers or {}).get("retry-after"))
    # A proxy that reports the loss of the server sends no `retryAfter`.
    is_temporary = status == 502 and "retryAfter" in body
    kind = BY_CODE.get(code) or unknown_error_class(503 if is_temporary else status)
    return kind(
        message,
        status=status,
        code=code,
        retry_after=retry_after,
        body=body,
        request_id=(headers or {}).get(REQUEST_ID),
    )


def error_within(body: Mapping[str, Any]) -> KiroError:
    """
    Return the error that a stream or a job reports, whose status is among its members.
    """
    status = body.get("status")
    return error_from(status if isinstance(status, int) else 500, body)


def decode_body(head: Head, content: bytes, accepted: tuple[int, ...], base: str) -> dict[str, Any]:
    """
    Return the JSON object of a response; an empty one without content (204).

    Args:
        head: The beginning of the response.
        content: Its body.
        accepted: The statuses that are no errors.
        base: The address of the server.

    Raises:
        KiroError: If the status is another one, or the body is not a JSON object.
    """
    if head.status == 204 and head.status in accepted:
        return {}
    body = json_object(content)
    if head.status in accepted:
        if body is None:
            raise InvalidResponseError(_unexpected(head, content, base), status=head.status)
        return body
    if head.status < 400:
        raise InvalidResponseError(_unexpected(head, content, base), status=head.status)
    if body is None:
        body = {"error": _unexpected(head, content, base)}
    raise error_from(head.status, body, head.headers)


def _unexpected(head: Head, content: bytes, base: str) -> str:
    location = head.headers.get("location")
    if 300 <= head.status < 400 and location is not None:
        return f"{base} answered {head.status}, a redirect to {location!r}, which is not followed"
    quoted = content[:_MAX_QUOTED].decode("utf-8", "replace")
    if json_object(content) is not None:
        return f"{base} answered {head.status} unexpectedly: {quoted!r}"
    return f"{base} answered {head.status} without a JSON object: {quoted!r}"
