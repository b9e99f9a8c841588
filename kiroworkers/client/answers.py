"""
Define the types of answers: those to the three built-in tasks, and what goes with them.
"""

from __future__ import annotations

from typing import Generic, TypedDict, TypeVar

from attrs import frozen

T = TypeVar("T")


@frozen
class Answer(Generic[T]):
    """
    Hold an answer that matches the task's schema, and how it came about.

    The attributes after `attempts` are None if they are unknown.  An older server does not
    send them to a request with `watch`.

    Attributes:
        value: The answer itself, a JSON object.
        agent: The name of the agent that answered.
        worker: The name of the worker that answered.
        attempts: How many sessions the request was given to.
        repairs: How often the last session was asked to correct its answer.
        completion: How the server knew that the turn had ended, such as ``prompt``.
        source: Where the server read the text, such as ``terminal``.
        model: The model that the request or its task chose; None if neither did.
        credits: The credits that the request used, as the agent reported them.
        context_percent: How much of the model's context the conversation filled after the
            answer, from 0 to 100, as the agent reported it.
        request_id: The identifier of the request, by which to find it in the server's log.
    """

    value: T
    agent: str | None
    worker: str | None
    attempts: int
    repairs: int | None = None
    completion: str | None = None
    source: str | None = None
    model: str | None = None
    credits: float | None = None
    context_percent: float | None = None
    request_id: str | None = None


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


class _RequiredOfWarning(TypedDict):
    criterion: str
    message: str
    suggestion: str


class ReviewWarning(_RequiredOfWarning, total=False):
    """
    Represent a warning that a story does not meet one of the INVEST criteria.
    """

    details: str


class _RequiredOfReview(TypedDict):
    summary: str
    warnings: list[ReviewWarning]


class Review(_RequiredOfReview, total=False):
    """
    Represent an answer to ``analyze-invest``: a review of a story.
    """

    score: int
    strengths: list[str]
