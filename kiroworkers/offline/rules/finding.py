"""
Define the findings of a review, and the signature of the rules that make them.

A rule would rather miss a problem than report a false one: it judges a word by its context,
so that "a story that depends on another" is a finding and "the price depends on the
quantity" is not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from kiroworkers.offline.rules.story_text import StoryText


@dataclass(frozen=True)
class Finding:
    """
    Represent one problem of a user story.

    Attributes:
        message: What is wrong.
        suggestion: How to fix it.
        details: Further explanation; may be empty.
    """

    message: str
    suggestion: str
    details: str = ""


Rule = Callable[[StoryText], Iterator[Finding]]


def with_the(who: str) -> str:
    """
    Return `who` with "the", unless it has an article already.
    """
    return who if who.lower().startswith(("the ", "a ", "an ")) else f"the {who}"


def wished_action(story: StoryText) -> str:
    """
    Return the wish of `story` from its verb on.
    """
    return story.goal.removeprefix("I want ").removeprefix("we want ").removeprefix("to ")
