"""
What becomes of a request until it is answered, as values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from attrs import frozen


@frozen
class Queued:
    """
    It waits: at `position` (1 is next), for about so many `seconds`.
    """

    position: int
    seconds: float


@frozen
class Started:
    """
    A worker is asked, in the attempt of this number.
    """

    worker: str
    attempt: int


@frozen
class PartialText:
    """
    A piece of what the agent says.
    """

    text: str


@frozen
class Retrying:
    """
    What was said so far does not count.
    """

    reason: str


Progress: TypeAlias = Queued | Started | PartialText | Retrying

#: Is told what becomes of a request.
OnProgress = Callable[[Progress], None]
