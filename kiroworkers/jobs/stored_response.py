"""
Define idempotency keys and the HTTP responses that are stored under them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import Factory, frozen


@frozen
class IdempotencyKey:
    """
    Identify a request by a key that its client chose; each task has its own keys.

    Attributes:
        client: The client that chose the key.
        task: The name of the task.
        key: The value of the Idempotency-Key header, without quotes.
    """

    client: str
    task: str
    key: str


@frozen
class StoredResponse:
    """
    Hold the HTTP response to a request, so that it can be sent again.

    Attributes:
        status: The HTTP status.
        body: The answer, or the error as clients read it.
        headers: Headers that describe the answer, named without ``X-Kiroworkers-``.
        cacheable: Whether a repeated request should get this response, because another
            attempt would cost a turn and most likely end the same.
    """

    status: int
    body: Mapping[str, Any]
    headers: Mapping[str, str] = Factory(dict)
    cacheable: bool = False


@frozen
class IdempotencyRecord:
    """
    Hold what is known about an idempotency key.

    Attributes:
        fingerprint: Identifies what was asked under the key.
        job: The id of the job that was created, if any.
        response: The response to the request, unless it became a job.
        in_progress: Whether another server is executing the request.
    """

    fingerprint: str
    job: str | None = None
    response: StoredResponse | None = None
    in_progress: bool = False
