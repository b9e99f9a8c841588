"""
Define the events that report the progress of a request to a client.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import frozen


@frozen
class Queued:
    """
    Report that the request is waiting for a worker.

    Attributes:
        position: Its place in the queue; 1 is next.
        seconds: The estimated wait.
    """

    position: int
    seconds: float


@frozen
class Started:
    """
    Report that a worker was given the request.

    Attributes:
        worker: The worker's name.
        attempt: 1 for the first attempt.
    """

    worker: str
    attempt: int


@frozen
class Said:
    """
    Report the next piece of the agent's answer.

    Attributes:
        text: The piece; pieces join without anything between them.
    """

    text: str


@frozen
class Retrying:
    """
    Report that an agent is being asked again, so that all previous text must be discarded.

    Attributes:
        reason: Why, in a few words.
    """

    reason: str


@frozen
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


@frozen
class Postponed:
    """
    Report that the server cannot answer now, and when the request will be sent again.

    Attributes:
        reason: What the server says.
        seconds: The wait before the request is sent again.
    """

    reason: str
    seconds: float


#: A function that is called with each event of a request.
Watch = Callable[[Queued | Started | Said | Retrying | Noticed | Postponed], object]
