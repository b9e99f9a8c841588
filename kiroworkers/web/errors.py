"""
Failures as HTTP: the one place that knows which status each has.

The body is always ``{"error": "one sentence", "code": "machine_word", …}``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from attrs import Factory, frozen
from twisted.web.iweb import IRequest

from kiroworkers.errors import (
    AgentRefused,
    AgentUnavailable,
    AnswerUnfit,
    AnswerUnreadable,
    BadInput,
    NoWorkerFree,
    OutputTooLong,
    PromptUntypable,
    SessionLost,
    ShuttingDown,
    TimedOut,
    UnknownTask,
    WorkError,
)

#: Every `WorkError`: its status and its code.
STATUS: Mapping[type[WorkError], tuple[int, str]] = {
    UnknownTask: (404, "unknown_task"),
    BadInput: (400, "invalid_input"),
    PromptUntypable: (413, "prompt_too_long"),
    NoWorkerFree: (503, "all_workers_busy"),
    ShuttingDown: (503, "shutting_down"),
    TimedOut: (504, "timed_out"),
    SessionLost: (502, "session_lost"),
    OutputTooLong: (502, "output_too_long"),
    AgentUnavailable: (503, "agent_unavailable"),
    AgentRefused: (502, "agent_refused"),
    AnswerUnfit: (502, "answer_unfit"),
    AnswerUnreadable: (502, "unreadable"),
}

#: When to ask again, in seconds, where the agent did not say.
_AGENT_GUESS = 60

#: What a shutting-down server advises, in seconds: it may be back by then.
_RESTART_GUESS = 10


@frozen
class Refusal(Exception):
    """
    A request that HTTP alone already refuses.
    """

    status: int
    code: str
    sentence: str
    headers: Mapping[str, str] = Factory(dict)

    def __str__(self) -> str:
        return self.sentence


def respond(request: IRequest, status: int, body: Mapping[str, Any]) -> bytes:
    """
    `body` as the JSON response of `request`, to be returned from a route.
    """
    request.setResponseCode(status)
    request.setHeader(b"content-type", b"application/json; charset=utf-8")
    text = json.dumps(body, separators=(",", ":")).encode() + b"\n"
    request.setHeader(b"content-length", str(len(text)).encode())
    return text


def respond_to_refusal(request: IRequest, refusal: Refusal) -> bytes:
    """
    The response to what HTTP refused.
    """
    for name, value in refusal.headers.items():
        request.setHeader(name.encode(), value.encode())
    return respond(request, refusal.status, {"error": refusal.sentence, "code": refusal.code})


def respond_to_work_error(request: IRequest, problem: WorkError) -> bytes:
    """
    The response to a request that got no answer.
    """
    status, code = STATUS[type(problem)]
    body: dict[str, Any] = {"error": str(problem), "code": code}
    match problem:
        case BadInput(field=field) if field:
            body["field"] = field
        case NoWorkerFree(retry_after=seconds, waiting=waiting, limit=limit):
            body["retryAfter"] = seconds
            body["queue"] = {"length": waiting, "limit": limit}
        case AgentUnavailable(kind=kind, retry_after=seconds):
            body["code"] = kind
            body["retryAfter"] = _AGENT_GUESS if seconds is None else seconds
        case AgentRefused(kind=kind):
            body["code"] = kind
        case ShuttingDown():
            body["retryAfter"] = _RESTART_GUESS
    if "retryAfter" in body:
        request.setHeader(b"retry-after", str(body["retryAfter"]).encode())
    return respond(request, status, body)
