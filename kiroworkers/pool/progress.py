"""
Describe the progress of a request until it is answered, as values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from attrs import frozen


@frozen
class Queued:
    """
    Represent that the request waits for a worker.

    Attributes:
        position: The request's position in the queue; 1 is next.
        seconds: The estimated wait, in seconds.
    """

    position: int
    seconds: float


@frozen
class Started:
    """
    Represent that the request was sent to a worker.

    Attributes:
        worker: The worker's name.
        attempt: The number of the attempt, from 1.
    """

    worker: str
    attempt: int


@frozen
class PartialText:
    """
    Represent a piece of the agent's answer, to be appended to the previous pieces.
    """

    text: str


@frozen
class Retrying:
    """
    Represent that the agent is asked again, so that all previous text is void.

    Attributes:
        reason: Why, such as "the session ended".
    """

    reason: str


Progress: TypeAlias = Queued | Started | PartialText | Retrying

#: Called with each change of a request's progress.
OnProgress = Callable[[Progress], None]
