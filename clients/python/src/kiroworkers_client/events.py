"""
Define the events of a stream, and read them from what the server sends.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from kiroworkers_client.answers import Answer


@dataclass(frozen=True)
class Queued:
    """
    Report that the request is waiting for a worker.

    Attributes:
        position: Its place in the queue; 1 is next.
        seconds: The estimated wait.
    """

    position: int
    seconds: float


@dataclass(frozen=True)
class Started:
    """
    Report that a worker was given the request.

    Attributes:
        worker: The worker's name.
        attempt: 1 for the first attempt.
    """

    worker: str
    attempt: int


@dataclass(frozen=True)
class Said:
    """
    Report the next piece of the agent's answer.

    Attributes:
        text: The piece; pieces join without anything between them.
    """

    text: str


@dataclass(frozen=True)
class Noticed:
    """
    Report that a turn goes on, and what the agent says about it.

    Attributes:
        kind: ``compaction`` (the agent summarizes the conversation), ``retry`` (it asks its
            service again), ``stall`` (its service is silent) or ``model_fallback`` (another
            model answers).
        detail: A description.
    """

    kind: str
    detail: str


@dataclass(frozen=True)
class Retrying:
    """
    Report that an agent is being asked again, so that all previous text must be discarded.

    Attributes:
        reason: Why, in a few words.
        where: Where the next text comes from: ``same_turn``, ``same_conversation`` or
            ``new_conversation``; empty if the server does not say so.
    """

    reason: str
    where: str


@dataclass(frozen=True)
class Postponed:
    """
    Report that this client will send the request again; all previous text must be discarded.

    Attributes:
        reason: What the server says, or what happened to the connection.
        seconds: The wait before the request is sent again.
    """

    reason: str
    seconds: float


@dataclass(frozen=True)
class Waiting:
    """
    Report that a job is waiting to be run, for the first time or again.

    Attributes:
        position: Its place among the jobs for its agent, by arrival; None if that is not known.
    """

    position: int | None


@dataclass(frozen=True)
class Missed:
    """
    Report that the server no longer has some of a job's events; discard all previous text.

    Attributes:
        reason: Why.
    """

    reason: str


@dataclass(frozen=True)
class Answered:
    """
    Report the answer.  No event follows it.

    Attributes:
        answer: The answer, with all that the server says about it.
    """

    answer: Answer[dict[str, Any]]


Progress: TypeAlias = Queued | Started | Said | Noticed | Retrying | Postponed | Waiting | Missed
Event: TypeAlias = Progress | Answered


def progress_from(name: str, payload: Mapping[str, Any]) -> Progress | None:
    """
    Return the progress that the event `name` reports, or None.

    A later server may send other events, or other members; they are ignored.

    Args:
        name: The name of the event.
        payload: Its data, a JSON object.
    """
    match name, payload:
        case "queued", {"position": int(position), "estimate": int() | float() as seconds}:
            return Queued(position, seconds)
        case "queued", {"position": int() | None as place}:
            return Waiting(place)
        case "gap", {"reason": str(reason)}:
            return Missed(reason)
        case "started", {"worker": str(worker), "attempt": int(attempt)}:
            return Started(worker, attempt)
        case "text", {"text": str(text)}:
            return Said(text)
        case "notice", {"kind": str(kind), "detail": str(detail)}:
            return Noticed(kind, detail)
        case "retry", {"reason": str(reason), "where": str(where)}:
            return Retrying(reason, where)
        case "retry", {"reason": str(reason)}:
            return Retrying(reason, "")
    return None
