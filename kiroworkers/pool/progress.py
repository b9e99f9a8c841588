"""
Define the events that report the progress of a request until it is answered.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

from attrs import frozen


@frozen
class Queued:
    """
    Report that the request is waiting for a worker.

    Attributes:
        position: The request's position in the queue; 1 is next.
        seconds: The estimated wait, in seconds.
    """

    position: int
    seconds: float


@frozen
class Started:
    """
    Report that the request was sent to a worker.

    Attributes:
        worker: The worker's name.
        attempt: The number of the attempt, from 1.
    """

    worker: str
    attempt: int


@frozen
class PartialText:
    """
    Report a piece of the agent's answer, to be appended to the previous pieces.
    """

    text: str


@frozen
class Retrying:
    """
    Report that an agent is being asked again, so that all previous text must be discarded.

    Attributes:
        reason: Why, such as "the session ended".
        where: Whether the agent still knows its last answer, or is asked in a new
            conversation, with another worker if one is free.
    """

    reason: str
    where: Literal["same_conversation", "new_conversation"]


Progress: TypeAlias = Queued | Started | PartialText | Retrying

#: Called with each change of a request's progress.
OnProgress = Callable[[Progress], None]
