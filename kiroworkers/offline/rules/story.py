"""
Apply the rules for ``generate-story``: turn an idea into a user story.

The story uses the idea's own words.  What the idea leaves open comes from the parent story
or, failing that, from what is plausible for the kind of action.  No figures or names are
made up.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from kiroworkers.offline.rules.components import choose_components
from kiroworkers.offline.rules.criteria import criteria_for
from kiroworkers.offline.rules.idea import Idea, read_idea
from kiroworkers.offline.rules.kinds import benefit_of
from kiroworkers.offline.rules.people import as_actor
from kiroworkers.offline.rules.sizing import story_points
from kiroworkers.offline.rules.words import (
    bare,
    capitalised,
    quote,
    shorten,
    text_of,
    tidy,
    uncapitalised,
    word_set,
    words,
)

_MAX_TITLE_LENGTH = 80
_MAX_ACTOR_LENGTH = 60

#: The actor by kind of action, for an idea that names nobody.
_USUAL_ACTOR = dict.fromkeys(("configure", "migrate", "protect", "manage"), "administrator")
_ADMINISTERED = word_set("users roles permissions accounts groups")
_TITLE_CLAUSE = re.compile(r"\b(?:within|in less than) .+$|,? (?:with one click|please)$", re.I)


def generate_story(request: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return a user story for an idea.

    Args:
        request: A ``generate-story`` request with an ``idea``; ``components`` (a list of
            names) and ``parentStory`` are optional.

    Returns:
        An answer with ``title``, ``asA``, ``iWant``, ``soThat``, ``storyPoint``,
        ``components`` and ``acceptanceCriteria``, as the task's schema requires.
    """
    text = str(request.get("idea", ""))
    tidied = tidy(text)
    idea = read_idea(text)
    parent = _parent(request)
    actor = shorten(idea.actor or parent.actor or _usual_actor(idea), _MAX_ACTOR_LENGTH)
    names = request.get("components")
    names = [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
    return {
        "title": _title(idea),
        "asA": actor,
        "iWant": idea.wish,
        "soThat": idea.benefit or parent.benefit or _plausible_benefit(idea, actor),
        "storyPoint": story_points(idea, tidied),
        "components": choose_components(tidied, names),
        "acceptanceCriteria": criteria_for(idea, actor, tidied),
    }


class _Parent:
    """
    Hold the actor and benefit of the parent story; each may be empty.
    """

    def __init__(self, title: str, actor: str, benefit: str) -> None:
        idea = read_idea(title) if title else None
        self.actor = actor or (idea.actor if idea else "")
        self.benefit = benefit or (idea.benefit if idea else "")
        if title and not self.benefit:
            self.benefit = f"my part of {quote(bare(title), 80)} works"


def _parent(request: Mapping[str, Any]) -> _Parent:
    parent = request.get("parentStory")
    if not isinstance(parent, Mapping):
        return _Parent("", "", "")
    actor = as_actor(text_of(parent.get("asA")))
    benefit = re.sub(r"^so that ", "", text_of(parent.get("soThat")), flags=re.I)
    return _Parent(text_of(parent.get("title")), actor, uncapitalised(bare(shorten(benefit, 200))))


def _usual_actor(idea: Idea) -> str:
    if set(words(idea.action.object)[-1:]) & _ADMINISTERED:
        return "administrator"
    return _USUAL_ACTOR.get(idea.action.kind, "user")


def _plausible_benefit(idea: Idea, actor: str) -> str:
    if not idea.understood:
        return "the need behind this idea is met"
    if idea.fact and not idea.action.kind:
        return "I can rely on it"
    return benefit_of(idea.action, actor)


def _title(idea: Idea) -> str:
    """
    Return the wish without its side conditions, as a heading.
    """
    wish = idea.wish
    if idea.fact:
        wish = "fix: " + idea.action.object if idea.action.kind == "fix" else idea.fact
    wish = re.sub(r"^(?:have|use) (?:an? |the )?", "", wish)
    wish = re.sub(r"^be (?=\w)", "get ", wish)
    wish = _TITLE_CLAUSE.sub("", wish) or wish
    wish = re.sub(r"\bmy ", "the ", wish)
    return shorten(capitalised(bare(wish).strip("“”")), _MAX_TITLE_LENGTH) or quote(idea.wish, 70)
