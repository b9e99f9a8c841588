"""
Define the types of answers: those to the three built-in tasks, and what goes with them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, NotRequired, TypedDict, TypeVar
from urllib.parse import unquote

T = TypeVar("T")

_PREFIX = "x-kiroworkers-"


@dataclass(frozen=True, kw_only=True)
class Answer(Generic[T]):
    """
    Hold an answer that matches the task's schema, and how it came about.

    Attributes that the server did not send are None, or else have the default below.

    Attributes:
        value: The answer itself, a JSON object.
        agent: The name of the agent that answered.
        worker: The name of the worker that answered.
        attempts: How many sessions the request was given to.
        repairs: How often the last session was asked to correct its answer.
        completion: How the server knew that the turn had ended, such as ``prompt``.
        source: Where the server read the text, such as ``terminal``.
        model: The model that the request or its task chose.
        credits: The credits that the request used, as the agent reported them.
        context_percent: How much of the model's context the conversation filled after the
            answer, from 0 to 100, as the agent reported it.
        sample: Whether the answer is only an example of the format: the offline agent, which
            understands nothing, answers most tasks with one.
        rejoined: Whether the JSON was wrapped on the screen, and its lines were joined.
        normalised: The fields whose values were corrected, for example a number in a string.
        ignored: The fields of the input that the task does not have.
        tools_denied: How often the agent asked to use a tool and was denied.
        tools_allowed: How often it asked and was allowed.
        tools_unasked: How many tools it used without asking.
        replayed: Whether an earlier request with the same idempotency key got this answer.
        request_id: The identifier of the request, by which to find it in the server's log.
        headers: All headers of the response, with names in lower case.
    """

    value: T
    agent: str | None = None
    worker: str | None = None
    attempts: int = 1
    repairs: int = 0
    completion: str | None = None
    source: str | None = None
    model: str | None = None
    credits: float | None = None
    context_percent: float | None = None
    sample: bool = False
    rejoined: bool = False
    normalised: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    tools_denied: int = 0
    tools_allowed: int = 0
    tools_unasked: int = 0
    replayed: bool = False
    request_id: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


def answer_from_headers(value: T, headers: Mapping[str, str]) -> Answer[T]:
    """
    Return the answer `value` with all that the headers say about it.

    Args:
        value: The answer itself.
        headers: The headers, with names in lower case.
    """

    def text(name: str) -> str | None:
        return headers.get(_PREFIX + name)

    def integer(name: str, default: int = 0) -> int:
        digits = text(name) or ""
        return int(digits) if re.fullmatch("[0-9]{1,9}", digits) else default

    def names(name: str) -> tuple[str, ...]:
        # Names may have characters that no header can hold, or be empty.
        parts = (part.strip() for part in (text(name) or "").split(","))
        return tuple(unquote(part.replace('""', "")) for part in parts if part)

    return Answer(
        value=value,
        agent=text("agent"),
        worker=text("worker"),
        attempts=integer("attempts", 1),
        repairs=integer("repairs"),
        completion=text("completion"),
        source=text("source"),
        model=text("model"),
        credits=_decimal(text("credits")),
        context_percent=_decimal(text("context")),
        sample=text("sample") == "1",
        rejoined=text("rejoined") == "1",
        normalised=names("normalised"),
        ignored=names("ignored"),
        tools_denied=integer("tools-denied"),
        tools_allowed=integer("tools-allowed"),
        tools_unasked=integer("tools-unasked"),
        replayed=headers.get("idempotency-replayed") == "true",
        request_id=headers.get("x-request-id"),
        headers=headers,
    )


def _decimal(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None


class Story(TypedDict):
    """
    Represent an answer to ``generate-story``: a user story.
    """

    title: str
    asA: str
    iWant: str
    soThat: str
    storyPoint: int
    components: list[str]
    acceptanceCriteria: list[str]


class Test(TypedDict):
    """
    Represent an answer to ``generate-test``: an acceptance test.
    """

    title: str
    given: list[str]
    when: list[str]
    then: list[str]


class ReviewWarning(TypedDict):
    """
    Represent a warning that a story does not meet one of the INVEST criteria.
    """

    criterion: str
    message: str
    suggestion: str
    details: NotRequired[str]


class Review(TypedDict):
    """
    Represent an answer to ``analyze-invest``: a review of a story.
    """

    summary: str
    warnings: list[ReviewWarning]
    score: NotRequired[int]
    strengths: NotRequired[list[str]]
