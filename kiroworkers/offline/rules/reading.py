"""
A story as a reviewer reads it: its parts, tidied, and its wish understood.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kiroworkers.offline.rules import verbs
from kiroworkers.offline.rules.action import Action, split_actions
from kiroworkers.offline.rules.idea import Idea, read_idea
from kiroworkers.offline.rules.words import bare, looks_english, shorten, text_of

#: More criteria than these are only counted.
_MOST_CRITERIA = 50
_LONGEST_ACTOR = 60
_FULL = re.compile(r"\bas an? .{1,100}\bi (?:want|need|would|can)\b", re.I)
_SO_THAT = re.compile(r"\b(?:so that|in order to|because)\b", re.I)


@dataclass(frozen=True)
class Story:
    """
    A story's parts; what has no field of its own is read from the title or the
    description, where it says "As a …, I want …, so that …".
    """

    title: str
    actor: str
    wish: str
    benefit: str
    description: str
    criteria: tuple[str, ...]
    criteria_count: int
    points: int | None
    actions: tuple[Action, ...]
    english: bool

    @property
    def goal(self) -> str:
        """
        What is wanted, in the words to quote.
        """
        return self.wish or self.title

    @property
    def texts(self) -> list[str]:
        """
        Everything but the criteria.
        """
        return [each for each in (self.title, self.wish, self.benefit, self.description) if each]

    @property
    def asks(self) -> list[str]:
        """
        What says what is wanted: no benefit, no criteria.
        """
        return [each for each in (self.wish, self.title, self.description) if each]


def read_story(request: Mapping[str, Any]) -> Story:
    """
    The story of an ``analyze-invest`` request.
    """
    given = request.get("story")
    story = given if isinstance(given, Mapping) else {}
    title, wish = bare(text_of(story.get("title"))), bare(text_of(story.get("iWant")))
    description = text_of(story.get("description"))
    whole = _whole(title, wish, description)
    actor = bare(text_of(story.get("asA"))) or (whole.actor if whole else "")
    benefit = bare(text_of(story.get("soThat"))) or (whole.benefit if whole else "")
    wish = wish if wish and not _FULL.search(wish) else whole.wish if whole else wish
    listed = story.get("acceptanceCriteria")
    listed = listed if isinstance(listed, list) else []
    criteria = [bare(text_of(each)) for each in listed[:_MOST_CRITERIA]]
    points = story.get("storyPoint")
    said = " ".join([title, wish, benefit, description])
    return Story(
        title,
        shorten(actor, _LONGEST_ACTOR),
        wish,
        benefit,
        description,
        tuple(filter(None, criteria)),
        len(listed),
        int(points) if isinstance(points, int | float) and 0 <= points < 1000 else None,
        tuple(split_actions(_plain(wish or title), verbal=bool(wish))),
        looks_english(said, verbs.KNOWN),
    )


def _whole(title: str, wish: str, description: str) -> Idea | None:
    """
    The field that holds a whole story, understood.
    """
    for text in (wish, title, description):
        if _FULL.search(text) or (_SO_THAT.search(text) and text != description):
            return read_idea(text)
    return None


def _plain(wish: str) -> str:
    return re.sub(r"^(?:(?:i|we) (?:want|need|would like) )?(?:to )?", "", wish, flags=re.I)
