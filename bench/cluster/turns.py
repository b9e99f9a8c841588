"""
Read what the agents of a cluster have written about their turns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from attrs import evolve, frozen


@frozen
class Turn:
    """
    Describe a turn; times are seconds on the monotonic clock.

    Attributes:
        idea: The name of the idea that was asked about.
        server: The name of the server.
        asked: When the prompt arrived at the agent.
        answered: When the agent had answered; None if it never did.
    """

    idea: str
    server: str
    asked: float
    answered: float | None = None


def read_turns(lines: Iterable[str]) -> Mapping[str, list[Turn]]:
    """
    Return the turns about each idea, in the order in which they were asked.

    Raises:
        ValueError: A line is not the agents'.
    """
    turns: dict[str, list[Turn]] = {}
    open_turns: dict[tuple[str, str], int] = {}
    for line in lines:
        event, nanoseconds, server, pid, idea = line.split()
        moment = int(nanoseconds) / 1e9
        found = turns.setdefault(idea, [])
        if event == "asked":
            open_turns[idea, pid] = len(found)
            found.append(Turn(idea, server, moment))
        else:
            place = open_turns.pop((idea, pid))
            found[place] = evolve(found[place], answered=moment)
    return turns
