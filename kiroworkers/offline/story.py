"""
Write a user story in the words of an idea.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from kiroworkers.offline.statements import Statement, is_english, shorten, statements
from kiroworkers.offline.wishes import Wish, read_wish, starts_with_action

NO_ACTOR = "(actor not stated)"
NO_BENEFIT = "(benefit not stated)"
#: What stands before the wish in the only criterion of an idea without conditions.
NO_CONDITION = "This works as described: "
#: What stands before a wish that does not complete "I want to".
_THIS = "have this: "

#: The most acceptance criteria of a story, and the longest title (characters).
_MAX_CRITERIA, _MAX_TITLE = 30, 160

#: What makes a sentence a condition, besides a number.
_CONDITION = re.compile(
    r"\b(?:must|should|shall|only|at (?:least|most)|within|up to|cannot|can't|muss|müssen|soll|"
    r"sollen|darf|dürfen|mindestens|höchstens|nur|doit|doivent|devrait|devraient|ne peut|"
    r"uniquement|au moins|au plus)\b|^given\b.+\bthen\b"
    r"|なければならない|必要|べき|以内|以上|以下|のみ|だけ",
    re.IGNORECASE,
)


def generate_story(request: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return the story for `request`, an accepted input of the task ``generate-story``.
    """
    idea = str(request.get("idea") or "")
    found = statements(idea) or [Statement(shorten(" ".join(idea.split()) or "-", _MAX_TITLE))]
    wish, parent = read_wish(found), _read_parent(request.get("parentStory"))
    criteria = _criteria(found, wish)
    title = found[0].text.rstrip(".。") or found[0].text
    if wish.stated or starts_with_action(wish.wish):
        title = wish.wish[:1].upper() + wish.wish[1:]
    return {
        "title": shorten(title, _MAX_TITLE),
        "asA": wish.actor or parent.actor or NO_ACTOR,
        "iWant": _want(wish, is_english(idea)),
        "soThat": wish.benefit or parent.benefit or NO_BENEFIT,
        "storyPoint": next(size for size in (1, 2, 3, 5, 8) if size >= min(len(criteria), 8)),
        "components": _components(idea, request.get("components")),
        "acceptanceCriteria": criteria,
    }


def own_words(text: str) -> str:
    """
    Return `text` without what `generate_story` adds to the words of an idea.
    """
    return re.sub("|".join(map(re.escape, (NO_ACTOR, NO_BENEFIT, NO_CONDITION, _THIS))), "", text)


def _read_parent(parent: Any) -> Wish:
    parent = parent if isinstance(parent, dict) else {}
    wish = read_wish(statements(str(parent.get("title") or "")))
    actor, benefit = (str(parent.get(name) or "").strip() for name in ("asA", "soThat"))
    return Wish(actor=actor or wish.actor, benefit=benefit or wish.benefit)


def _want(wish: Wish, english: bool) -> str:
    words = shorten(wish.wish, 300)
    if wish.stated:
        return words
    if starts_with_action(words) and (english or words[:1].isupper()):
        first, space, others = words.partition(" ")
        return first.lower() + space + others
    return _THIS + words


def _criteria(found: list[Statement], wish: Wish) -> list[str]:
    """
    Return the conditions that the idea states, or else one criterion that names the wish.
    """
    conditions = [
        text
        for number, (text, bullet, heading) in enumerate(found)
        if not heading
        and (
            _CONDITION.search(text)
            or (bullet and len(found) > 1)
            or (number > 0 and re.search(r"\d", text))
        )
    ]
    conditions = list(dict.fromkeys(conditions)) or [NO_CONDITION + wish.wish]
    if len(conditions) > _MAX_CRITERIA:
        left = len(conditions) - _MAX_CRITERIA + 1
        conditions[_MAX_CRITERIA - 1 :] = [f"The other {left} conditions of the idea are met"]
    return conditions


def _components(idea: str, names: Any) -> list[str]:
    """
    Return the components of which the idea contains a word.
    """
    words = {word.removesuffix("s") for word in re.findall(r"\w+", idea.lower())}
    return list(
        dict.fromkeys(
            name
            for name in (names if isinstance(names, list) else ())
            if any(
                len(part) > 2 and part.lower().removesuffix("s") in words
                for part in re.findall(r"[A-Z]?[^\WA-Z_\d]+|[A-Z]+(?![^\WA-Z_\d])", str(name))
            )
        )
    )
