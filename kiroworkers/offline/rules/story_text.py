"""
Read the parts of a story for a review: tidy them and understand the wish.
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

#: Criteria that are read; further ones are only counted.
_MAX_CRITERIA = 50
_MAX_ACTOR_LENGTH = 60
_FULL_STORY = re.compile(r"\bas an? .{1,100}\bi (?:want|need|would|can)\b", re.I)
_SO_THAT = re.compile(r"\b(?:so that|in order to|because)\b", re.I)


@dataclass(frozen=True)
class StoryText:
    """
    Hold the parts of a story.

    The title or description supplies a part that has no field of its own, if it reads "As
    a …, I want …, so that …".

    Attributes:
        title: The title.
        actor: Who wants it; may be empty.
        wish: What they want; may be empty.
        benefit: Why they want it; may be empty.
        description: The description, on one line; may be empty.
        criteria: The acceptance criteria, up to 50 of them.
        criteria_count: The number of criteria in the request.
        points: The story points, or None.
        actions: The actions in the wish or title.
        english: Whether the text looks English.
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
        Return the wish, or the title if there is none, for quoting.
        """
        return self.wish or self.title

    @property
    def texts(self) -> list[str]:
        """
        Return all texts except the criteria.
        """
        return [text for text in (self.title, self.wish, self.benefit, self.description) if text]

    @property
    def wish_texts(self) -> list[str]:
        """
        Return the texts that say what is wanted: no benefit and no criteria.
        """
        return [text for text in (self.wish, self.title, self.description) if text]


def read_story(request: Mapping[str, Any]) -> StoryText:
    """
    Return the story of an ``analyze-invest`` request.

    Fields that are missing or have another type are taken as empty.
    """
    value = request.get("story")
    story = value if isinstance(value, Mapping) else {}
    title, wish = bare(text_of(story.get("title"))), bare(text_of(story.get("iWant")))
    description = text_of(story.get("description"))
    sentence = _full_sentence(title, wish, description)
    actor = bare(text_of(story.get("asA"))) or (sentence.actor if sentence else "")
    benefit = bare(text_of(story.get("soThat"))) or (sentence.benefit if sentence else "")
    wish = wish if wish and not _FULL_STORY.search(wish) else sentence.wish if sentence else wish
    criteria_list = story.get("acceptanceCriteria")
    criteria_list = criteria_list if isinstance(criteria_list, list) else []
    criteria = [bare(text_of(criterion)) for criterion in criteria_list[:_MAX_CRITERIA]]
    points = story.get("storyPoint")
    text = " ".join([title, wish, benefit, description])
    return StoryText(
        title,
        shorten(actor, _MAX_ACTOR_LENGTH),
        wish,
        benefit,
        description,
        tuple(filter(None, criteria)),
        len(criteria_list),
        int(points) if isinstance(points, int | float) and 0 <= points < 1000 else None,
        tuple(split_actions(_without_preamble(wish or title), verbal=bool(wish))),
        looks_english(text, verbs.KNOWN),
    )


def _full_sentence(title: str, wish: str, description: str) -> Idea | None:
    """
    Return the idea in the first field that holds a whole story, or None.
    """
    for text in (wish, title, description):
        if _FULL_STORY.search(text) or (_SO_THAT.search(text) and text != description):
            return read_idea(text)
    return None


def _without_preamble(wish: str) -> str:
    return re.sub(r"^(?:(?:i|we) (?:want|need|would like) )?(?:to )?", "", wish, flags=re.I)
