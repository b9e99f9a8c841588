"""
What becomes of a request until it is answered, as a client is told.
"""

from __future__ import annotations

from attrs import frozen


@frozen
class Queued:
    """
    The request waits.

    Attributes:
        position: its place in the queue; 1 is next.
        seconds: the estimated wait.
    """

    position: int
    seconds: float


@frozen
class Started:
    """
    A worker was given the request.

    Attributes:
        worker: the worker's name.
        attempt: 1 for the first attempt.
    """

    worker: str
    attempt: int


@frozen
class Said:
    """
    The agent sent a piece of its answer.
    """

    text: str


@frozen
class Retrying:
    """
    The agent is asked again; the text sent so far does not count.
    """

    reason: str
