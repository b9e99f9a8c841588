"""
Define the events that report the progress of a request until it is answered.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

from attrs import frozen

from kiroworkers.conversations import NoticeKind


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
    Report that another answer is being made, so that all previous text must be discarded.

    Attributes:
        reason: Why, such as "the session ended".
        where: Whether the agent's service restarts the answer in the same turn, the agent
            is asked again and still knows its last answer, or it is asked in a new
            conversation, with another worker if one is free.
    """

    reason: str
    where: Literal["same_turn", "same_conversation", "new_conversation"]


@frozen
class AgentNotice:
    """
    Report what the agent reports about a turn that goes on.

    Attributes:
        kind: What the notice is about.
        detail: A description for the client.
    """

    kind: NoticeKind
    detail: str


Progress: TypeAlias = Queued | Started | PartialText | Retrying | AgentNotice

#: Called with each change of a request's progress.
OnProgress = Callable[[Progress], None]
