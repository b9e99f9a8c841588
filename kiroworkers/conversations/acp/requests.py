"""
Keep track of the requests that were sent to an agent.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from typing import Any

from kiroworkers.conversations.acp import jsonrpc


class RequestKind(Enum):
    """
    Name the purpose of a request.
    """

    INITIALIZE = auto()
    SESSION = auto()
    CLEAR = auto()
    MODEL = auto()
    PROMPT = auto()


class PendingRequests:
    """
    Number requests, and remember which of them have no response yet.
    """

    def __init__(self) -> None:
        self._last_id = 0
        self._pending: dict[int, RequestKind] = {}

    def send(self, kind: RequestKind | None, method: str, params: Mapping[str, Any]) -> bytes:
        """
        Return the line that sends a request.

        Args:
            kind: The purpose.  None if the response does not matter; the request is then not
                remembered, in case the agent never responds.
            method: The method.
            params: Its parameters.
        """
        self._last_id += 1
        if kind is not None:
            self._pending[self._last_id] = kind
        return jsonrpc.request(self._last_id, method, params)

    def pop(self, id: int | str | None) -> RequestKind | None:
        """
        Return the purpose of the request `id`, and forget it; None if it is not pending.

        A response without an id belongs to the only pending request.
        """
        if id is None and len(self._pending) == 1:
            [id] = self._pending
        # Our ids are numbers, and the agent returns them as they are.
        return self._pending.pop(id, None) if isinstance(id, int) else None
