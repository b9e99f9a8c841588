"""
Describe the progress of a call in notifications.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kiroworkers.mcp.meta import ProgressToken
from kiroworkers.pool.progress import (
    AgentNotice,
    PartialText,
    Progress,
    Queued,
    Retrying,
    Started,
)

#: The method of a notification.
METHOD = "notifications/progress"

#: The number of characters of an answer after which there is another notification.
_STEP = 1000


class ProgressNotes:
    """
    Make the parameters of notifications about one call.

    Each has a larger ``progress`` than the one before.  How much there will be is not known, so
    there is no ``total``.

    Args:
        token: Identifies the call.
    """

    def __init__(self, token: ProgressToken) -> None:
        self._token = token
        self._count = 0
        self._length = 0
        self._next_length = 1

    def of(self, progress: Progress) -> Iterator[Mapping[str, Any]]:
        """
        Yield the parameters of the notifications of `progress`: one, or none.
        """
        sentence = self._sentence(progress)
        if sentence:
            self._count += 1
            yield {
                "progressToken": self._token,
                "progress": self._count,
                "message": sentence,
            }

    def _sentence(self, progress: Progress) -> str:
        match progress:
            case Queued(position, seconds):
                return f"Position {position} in the queue, about {seconds:.0f} s to wait"
            case Started(worker, attempt):
                again = f", attempt {attempt}" if attempt > 1 else ""
                return f"{worker} is working on it{again}"
            case Retrying(reason, _):
                self._length, self._next_length = 0, 1
                return f"Asking again: {reason}"
            case AgentNotice(kind, detail):
                name = kind.replace("_", " ")
                return f"{name}: {detail}" if detail else name
            case PartialText(text):
                self._length += len(text)
                return self._length_sentence()

    def _length_sentence(self) -> str:
        if self._length < self._next_length:
            return ""
        self._next_length = self._length + _STEP
        return f"The agent has written {self._length} characters of its answer"
