"""
Define what all errors have in common, and the errors that no server reports.

``errors.py``, which is generated, has one class for each failure that a server reports.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


class KiroError(Exception):
    """
    Raised when a request gets no answer; always one of the subclasses.

    Attributes:
        status: The status of the response, or the status that a failure reported within a
            stream or a job would have had; None if there was no response.
        code: The machine-readable reason.
        message: The reason as a sentence.
        retry_after: Seconds after which it may help to send the request again, or None.
        body: The JSON object that the server sent with the error; empty if there was none.
        request_id: The identifier of the request, by which to find it in the server's log and in
            its history; None if the server did not send one.
    """

    status: int | None = None
    code: str = "unknown"

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        retry_after: float | None = None,
        body: Mapping[str, Any] | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        if status is not None:
            self.status = status
        if code is not None:
            self.code = code
        self.retry_after = retry_after
        self.body: Mapping[str, Any] = {} if body is None else body
        self.request_id = self._text("requestId") or request_id

    def _text(self, name: str) -> str | None:
        value = self.body.get(name)
        return value if isinstance(value, str) else None

    def _integer(self, name: str) -> int | None:
        value = self.body.get(name)
        return value if isinstance(value, int) else None

    def _texts(self, name: str) -> tuple[str, ...]:
        value = self.body.get(name)
        return tuple(map(str, value)) if isinstance(value, list) else ()

    def _integer_in(self, outer: str, name: str) -> int | None:
        value = self.body.get(outer)
        number = value.get(name) if isinstance(value, dict) else None
        return number if isinstance(number, int) else None


class BadRequest(KiroError):
    """
    Raised when the server rejects the request, and would reject it again.
    """


class Unavailable(KiroError):
    """
    Raised when the server cannot answer at the moment, or cannot be reached.

    The request may be sent again.
    """


class TimedOut(KiroError):
    """
    Raised when there is no answer in time.
    """


class Failed(KiroError):
    """
    Raised when the agent or the server failed to answer the request.
    """


class UnknownError(KiroError):
    """
    Raised for a failure whose code this version of the client does not know.

    It is also an instance of `BadRequest`, `Unavailable`, `TimedOut` or `Failed`, whichever
    fits the status.  A response without a code, which a proxy may have sent, has the code
    ``unknown``.
    """


class _UnknownBadRequest(UnknownError, BadRequest):
    pass


class _UnknownUnavailable(UnknownError, Unavailable):
    pass


class _UnknownTimedOut(UnknownError, TimedOut):
    pass


class _UnknownFailed(UnknownError, Failed):
    pass


def unknown_error_class(status: int) -> type[UnknownError]:
    """
    Return the class of a failure with an unknown code and this status.
    """
    if status in (429, 503):
        return _UnknownUnavailable
    if status in (408, 504):
        return _UnknownTimedOut
    return _UnknownBadRequest if status < 500 else _UnknownFailed


class UnreachableError(Unavailable):
    """
    Raised when there is no connection to the server, so it has not seen the request.
    """

    code = "unreachable"


class CutOffError(Failed):
    """
    Raised when the connection ends before the response does.

    The server may have run the request.
    """

    code = "cut_off"


class InvalidResponseError(Failed):
    """
    Raised when the response is not what a kiroworkers server sends, or is too long.
    """

    code = "invalid_response"


class JobCancelledError(KiroError):
    """
    Raised by `Job.result`, and by the stream of a job's events, if the job was cancelled.
    """

    code = "job_cancelled"


def retry_after_of(body: Mapping[str, Any], header: str | None) -> float | None:
    """
    Return after how many seconds a failed request may be sent again, or None.

    Args:
        body: The JSON object of the response.
        header: The value of its ``Retry-After`` header, for a body that does not say it.
    """
    seconds: Any = body.get("retryAfter")
    is_number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    if is_number and 0 <= seconds < math.inf:
        return float(seconds)
    if header is not None and header.isascii() and header.isdecimal() and len(header) < 10:
        return float(header)
    return None
