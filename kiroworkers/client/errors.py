"""
Define the errors of a request, and make them from the server's responses.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from attrs import frozen


@frozen
class KiroError(Exception):
    """
    Raised when a request gets no answer; always one of the subclasses.

    Attributes:
        status: The status of the response, or the status that a failure reported within a
            stream would have had; None if there was no response.
        code: The machine-readable reason: one of the server's error codes, or
            ``unreachable``, ``cut_off``, ``timed_out``, ``too_long`` or ``not_json`` if
            the server gave none.
        sentence: The reason as a sentence.
        retry_after: Seconds after which it may help to send the request again, or None.
        body: The JSON object that the server sent with the error; empty if there was none.
    """

    status: int | None
    code: str
    sentence: str
    retry_after: float | None
    body: Mapping[str, Any]

    def __str__(self) -> str:
        return self.sentence

    @property
    def request_id(self) -> str | None:
        """
        Return the identifier of the request, by which to find it in the server's log; or None.
        """
        id = self.body.get("requestId")
        return id if isinstance(id, str) else None


class BadRequest(KiroError):
    """
    Raised when the server rejects the request, and would reject it again.
    """


class Unavailable(KiroError):
    """
    Raised when the server cannot answer at the moment, or cannot be reached.

    There is no answer, so the request may be sent again.
    """


class TimedOut(KiroError):
    """
    Raised when there is no answer in time.
    """


class Failed(KiroError):
    """
    Raised when the agent or the server failed to answer the request.
    """


def error_from_response(status: int, body: Mapping[str, Any], retry_after: str | None) -> KiroError:
    """
    Return the error that a response describes.

    Args:
        status: The status of the response.
        body: Its JSON object, whose members need not be of the right types.
        retry_after: The value of its ``Retry-After`` header, for a body that does not have
            it.
    """
    kind: type[KiroError] = Failed
    if status in (429, 503) or (status == 502 and "retryAfter" in body):
        # The server's own 502, and not that of a proxy which has lost the server.
        kind = Unavailable
    elif status in (408, 504):
        kind = TimedOut
    elif status < 500:
        kind = BadRequest
    seconds: Any = body.get("retryAfter")
    if not (isinstance(seconds, (int, float)) and 0 <= seconds < math.inf):
        seconds = int(retry_after) if retry_after and retry_after.isdecimal() else None
    sentence = str(body.get("error", f"The server answered {status}"))
    return kind(status, str(body.get("code", "unknown")), sentence, seconds, body)


def failure(code: str, sentence: str, status: int | None = None) -> Failed:
    """
    Return the error for a response that cannot be used.
    """
    return Failed(status, code, sentence, None, {})
