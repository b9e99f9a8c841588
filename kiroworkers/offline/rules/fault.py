"""
One thing that is wrong with a user story, and the form of the rules that find it.

A rule errs on the side of silence: a word is a fault only where it stands as
one, so that "a story that depends on another" is told from "the price depends
on the quantity".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from kiroworkers.offline.rules.reading import Story


@dataclass(frozen=True)
class Fault:
    """
    What was found, how to mend it, and more where there is more to say.
    """

    message: str
    suggestion: str
    details: str = ""


Rule = Callable[[Story], Iterator[Fault]]


def the(who: str) -> str:
    """
    `who` with an article.
    """
    return who if who.lower().startswith(("the ", "a ", "an ")) else f"the {who}"


def act(story: Story) -> str:
    """
    The wish of `story` from its verb on.
    """
    return story.goal.removeprefix("I want ").removeprefix("we want ").removeprefix("to ")
