"""
Hold an agent's requests for a permission until they are answered.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any

from kiroworkers.conversations.acp import jsonrpc
from kiroworkers.conversations.acp.texts import printable
from kiroworkers.conversations.acp.tools import ToolCall, describe_call
from kiroworkers.conversations.events import NeedsApproval

#: The maximum number of requests that wait for an answer at a time.
MAX_WAITING = 100

#: The maximum number of characters of a question.  Operators must see the whole command, so a
#: longer question says how much is missing.
_MAX_QUESTION_LENGTH = 4000

#: The form of Kiro's identifiers for the answers to a question of its model.
_ANSWER_ID = re.compile(r"-option-\d+\Z")
_MAX_ANSWER_ID = 30


class PermissionRequests:
    """
    Queue permission requests, and answer the oldest one first.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[jsonrpc.Request, ToolCall]] = deque()
        # Agents may reuse their ids, so these do not tell two questions apart.
        self._numbers = count(1)

    def add(
        self, request: jsonrpc.Request, fields: Mapping[str, Any], call: ToolCall
    ) -> NeedsApproval | None:
        """
        Queue `request` and return its question; None if too many requests wait already.

        Args:
            request: The request.
            fields: What is known about the tool.
            call: The tool call, which is granted if the request is.
        """
        if len(self._waiting) >= MAX_WAITING:
            return None
        self._waiting.append((request, call))
        return NeedsApproval(
            _question(fields), str(next(self._numbers)), _is_grantable(request.params)
        )

    def deny(self) -> bytes:
        """
        Return the response that denies the oldest request; empty if none waits.
        """
        return self._answer("reject_once", "reject_always")

    def allow(self) -> bytes:
        """
        Return the response that grants the oldest request, this one time.

        A request that cannot be granted is cancelled.
        """
        if self._waiting and not _is_grantable(self._waiting[0][0].params):
            return self._answer()
        # Never `allow_always`.
        return self._answer("allow_once")

    def cancel(self) -> bytes:
        """
        Return the responses that cancel all requests.
        """
        data = b"".join(cancelled(request) for request, _ in self._waiting)
        self._waiting.clear()
        return data

    def _answer(self, *kinds: str) -> bytes:
        """
        Answer the oldest request with its first option of one of `kinds`, or cancel it.
        """
        if not self._waiting:
            return b""
        request, call = self._waiting.popleft()
        options = list(_options(request.params))
        for kind in kinds:
            for option_id, option_kind in options:
                if option_kind == kind:
                    call.granted = kind == "allow_once"
                    outcome = {"outcome": "selected", "optionId": option_id}
                    return jsonrpc.result(request.id, {"outcome": outcome})
        return cancelled(request)


def cancelled(request: jsonrpc.Request) -> bytes:
    """
    Return the response that cancels a permission request.
    """
    return jsonrpc.result(request.id, {"outcome": {"outcome": "cancelled"}})


def _options(params: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """
    Yield the identifier and the kind of each option; old versions of Kiro say ``id``.
    """
    options = params.get("options")
    for option in options if isinstance(options, list) else ():
        match option:
            case {"optionId": str(id), "kind": str(kind)} | {"id": str(id), "kind": str(kind)}:
                yield id, kind


def _is_grantable(params: Mapping[str, Any]) -> bool:
    """
    Return whether a request asks for a permission rather than for an answer.

    Kiro also sends questions of its model to the user in this form.  The kind of all their
    options is ``allow_once``, so to grant one would be to give an answer that nobody gave.
    """
    once = [id for id, kind in _options(params) if kind == "allow_once"]
    return len(once) < 2 and not any(_ANSWER_ID.search(id[-_MAX_ANSWER_ID:]) for id in once)


def _question(call: Mapping[str, Any]) -> str:
    text = describe_call(call)
    question = printable(text, _MAX_QUESTION_LENGTH)
    left_out = len(text) - _MAX_QUESTION_LENGTH
    return f"{question} … ({left_out} more characters)" if left_out > 0 else question
