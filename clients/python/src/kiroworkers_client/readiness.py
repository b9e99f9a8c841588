"""
Define whether a server can take requests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Readiness:
    """
    Say whether a worker can take requests, now or after its current one; true if so.

    Attributes:
        ready: Whether one can.
        workers: The names of the workers that can.
        code: Why none can, as a word; None if one can.
        reason: Why none can, as a sentence; None if one can.
        body: The body of the response, which says more.
    """

    ready: bool
    workers: tuple[str, ...]
    code: str | None
    reason: str | None
    body: Mapping[str, Any]

    def __bool__(self) -> bool:
        return self.ready


def readiness_from(body: Mapping[str, Any]) -> Readiness | None:
    """
    Return the readiness that a JSON object describes; None if it describes none.
    """
    ready, workers = body.get("ready"), body.get("workers")
    if not isinstance(ready, bool) or not isinstance(workers, list):
        return None
    code, reason = body.get("code"), body.get("error")
    return Readiness(
        ready,
        tuple(map(str, workers)),
        code if isinstance(code, str) else None,
        reason if isinstance(reason, str) else None,
        body,
    )
