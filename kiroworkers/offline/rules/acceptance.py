"""
The rules for ``generate-test``: a user story as given, when, then.

One outcome for each acceptance criterion, said so that it can be observed; what
the criteria leave open comes from the story's wish, and from its title.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from kiroworkers.offline.rules.action import Action
from kiroworkers.offline.rules.criteria import criteria_for
from kiroworkers.offline.rules.facts import indicative
from kiroworkers.offline.rules.idea import Idea, read_idea
from kiroworkers.offline.rules.observable import observable
from kiroworkers.offline.rules.people import about_them, as_actor
from kiroworkers.offline.rules.verbs import third_person
from kiroworkers.offline.rules.words import (
    bare,
    capitalised,
    definite,
    is_plural,
    sentences,
    shorten,
    text_of,
    uncapitalised,
    with_article,
    words,
)

#: More criteria than these are not one story; the answer stays of a size to read.
MOST_CRITERIA = 100
_LONGEST = 300
_LONGEST_TITLE = 80

_STEP = re.compile(r"\b(given|when|then)\b[:,]?\s+", re.I)
_SCENARIO = re.compile(r"^(?:given\b.+\b(?:when|then)\b|when\b.+\bthen\b)", re.I)
_AND = re.compile(r",? and (?=(?:the|a|an|i|they|it|their|no|there|my)\b)|,$", re.I)
_WITHIN = re.compile(r"\bwithin (\d[\d.]* ?\w+)", re.I)


@dataclass
class _Scenario:
    given: list[str] = field(default_factory=list)
    when: list[str] = field(default_factory=list)
    then: list[str] = field(default_factory=list)


def generate_test(request: Mapping[str, Any]) -> dict[str, Any]:
    """
    An acceptance test for ``request["story"]``, as the contract asks for it.
    """
    story = request.get("story")
    story = story if isinstance(story, Mapping) else {}
    title = bare(text_of(story.get("title")))
    idea = _read_story(story, title, str(request.get("idea") or ""))
    actor = shorten(idea.actor or "user", 60)
    scenario = _Scenario()
    for criterion in _criteria(story):
        _take_in(scenario, criterion, idea, actor)
    if not scenario.then:
        said = " ".join([idea.wish, title, text_of(request.get("idea"))])
        scenario.then = _fallback(idea, actor, said)
    scenario.then += _limits(idea, story, request, scenario.then)
    return {
        "title": _title(idea, actor, title),
        "given": _unique([*_preconditions(idea, actor, scenario), *scenario.given]),
        "when": _unique(scenario.when or _steps(idea, actor)),
        "then": _unique(scenario.then),
    }


def _read_story(story: Mapping[str, Any], title: str, said: str) -> Idea:
    """
    What the story wants: from its wish, else its title, else the idea.
    """
    wish, actor = text_of(story.get("iWant")), text_of(story.get("asA"))
    description = str(story.get("description") or "")
    whole = next((each for each in (description, said) if re.match(r"\s*as an? ", each, re.I)), "")
    if bare(wish):
        text = (
            wish if re.match(r"(?:i|we) ", wish, re.I) else f"I want to {re.sub('^to ', '', wish)}"
        )
        # "I want to a list" is no English: a noun stays a noun.
        idea = read_idea(
            text if read_idea(wish).action.verb not in ("have", "use", "see") else wish
        )
    else:
        idea = read_idea(whole or title or said or "this")
    named = as_actor(re.sub(r"^as ", "", actor, flags=re.I)) or idea.actor
    named = named or (read_idea(said).actor if said.strip() else "")
    return Idea(
        idea.actions,
        bare(named),
        idea.benefit,
        idea.fact,
        idea.condition,
        idea.only,
        idea.remarks,
        idea.understood,
    )


def _criteria(story: Mapping[str, Any]) -> Iterator[str]:
    """
    The criteria, and the scenarios of the description.
    """
    listed = story.get("acceptanceCriteria")
    said = [text_of(each) for each in (listed if isinstance(listed, list) else [])[:MOST_CRITERIA]]
    yield from (bare(each) for each in said if bare(each))
    description = text_of(story.get("description"))
    yield from (each for each in sentences(description) if _SCENARIO.match(each))


def _take_in(scenario: _Scenario, criterion: str, idea: Idea, actor: str) -> None:
    """
    Sort `criterion` into the lists of `scenario`.
    """
    criterion = re.sub(r"^(?:scenario|ac\d*|\d+)[.:)]\s*", "", criterion, flags=re.I)
    if _SCENARIO.match(criterion) is None:
        found = re.match(r"(given|when|then|and):? (?=\S)(.+)", criterion, re.I)
        if found is not None and found[1].lower() == "given":
            scenario.given.append(_sentence(found[2], actor))
            return
        if found is not None and found[1].lower() == "when" and ", " not in criterion:
            scenario.when.append(_sentence(found[2], actor))
            return
        said = found[2] if found is not None and found[1].lower() in ("then", "and") else criterion
        scenario.then.append(_outcome(said, idea, actor))
        return
    pieces = _STEP.split(criterion)
    for keyword, piece in zip(pieces[1::2], pieces[2::2], strict=True):
        parts = [bare(each) for each in _AND.split(bare(piece)) if bare(each)]
        match keyword.lower():
            case "given":
                scenario.given += [_sentence(each, actor) for each in parts]
            case "when":
                scenario.when += [_sentence(each, actor) for each in parts]
            case _:
                scenario.then += [_outcome(each, idea, actor) for each in parts]


def _sentence(text: str, actor: str) -> str:
    """
    `text` said about the actor, not by them.
    """
    # The actor is a client's text: a template of `re.sub` would read it.
    text = re.sub(r"^I am\b", lambda _: f"The {actor} is", text)
    found = re.match(r"I (?!am\b)(\w+)(.*)$", text)
    if found is not None:
        third = (
            found[1]
            if found[1] in ("can", "could", "must", "was", "had", "cannot")
            else (third_person(found[1]))
        )
        text = f"The {actor} {third}{found[2]}"
    text = re.sub(r"^(?:that|there's) ", "", text, flags=re.I)
    return shorten(capitalised(bare(about_them(text))), _LONGEST)


def _outcome(text: str, idea: Idea, actor: str) -> str:
    return observable(_sentence(indicative(text), actor), about_them(_doing(idea)), actor)


def _doing(idea: Idea) -> str:
    return shorten(idea.wish, 100)


def _fallback(idea: Idea, actor: str, text: str) -> list[str]:
    """
    What can be seen when the wish is fulfilled, where no criterion says it.
    """
    if idea.fact:
        return [_sentence(idea.fact, actor)]
    return [_sentence(each, actor) for each in criteria_for(idea, actor, text)[:3]]


def _limits(idea: Idea, story: Mapping[str, Any], request: Mapping[str, Any],
            then: list[str]) -> list[str]:  # fmt: skip
    """
    A time limit of the story or the idea that no outcome speaks of yet.
    """
    texts = [text_of(story.get(name)) for name in ("iWant", "soThat", "title")]
    found = _WITHIN.search(" ".join([*texts, text_of(request.get("idea"))]))
    if found is None or any(found[1] in each for each in then):
        return []
    return [f"All this is seen within {found[1]}"]


def _preconditions(idea: Idea, actor: str, scenario: _Scenario) -> list[str]:
    """
    Who is there, and what must exist before anything can be done with it.
    """
    person = capitalised(with_article(actor))
    if scenario.given and any(
        "signed in" in each or "logged in" in each for each in scenario.given
    ):
        return []
    match idea.action.kind:
        case "login":
            return [f"{person} has an account and is not signed in"]
        case "register":
            return [f"{person} has no account yet"]
    found = [f"{person} is signed in"]
    thing = shorten(idea.action.object, 100)
    if thing and idea.understood and not scenario.given and not idea.fact:
        found += _existing(about_them(thing), idea.action, actor)
    said = " ".join(scenario.then).lower()
    if re.search(r"\bfilter", said) and not scenario.given and idea.action.kind != "filter":
        found.append("A filter is set that some entries match and others do not")
    return found


def _existing(thing: str, action: Action, actor: str) -> list[str]:
    first = thing.split(" ")[0].lower()
    if action.kind in ("create", "schedule", "comment", "send", "pay", "notify", "mode"):
        return []
    if first in ("which", "what", "who", "how", "whether", "where", "when", "why", "that", "if"):
        return []
    if action.kind in ("import", "upload"):
        return [f"There is a file with {re.sub('^(?:an?|the) ', '', thing)} to {action.verb}"
                if action.kind == "import" else f"{capitalised(definite(thing))} to upload "
                f"{'are' if is_plural(thing) else 'is'} at hand"]  # fmt: skip
    if first == "their":
        return [f"The {actor} has {with_article(thing.removeprefix('their '))}"]
    if first in ("a", "an"):
        return [f"There is {thing}"]
    if words(thing)[-1:] and words(thing)[-1] in (
        "list",
        "table",
        "board",
        "report",
        "backlog",
        "history",
    ):
        return [f"{capitalised(definite(thing))} has entries"]
    if is_plural(thing):
        many = re.sub(r"^(?:the|all|every|each|any) ", "", thing)
        return [f"There are {many}"] if first not in ("their", "these", "those", "both") else [
            f"{capitalised(thing)} exist"]  # fmt: skip
    return [f"{capitalised(definite(thing))} exists"]


def _steps(idea: Idea, actor: str) -> list[str]:
    """
    The actions, each done by the actor; for somebody who is told, what happens.
    """
    if idea.action.kind == "notify" and idea.condition:
        what = re.sub(
            r"^(?:when|whenever|if|once|as soon as|after|every time|each time) ",
            "",
            idea.condition,
            flags=re.I,
        )
        if what != idea.condition:
            return [_sentence(what, actor)]
    if idea.fact:
        about = idea.action.object or "the part of the application that this is about"
        if idea.action.kind == "fix":
            return [f"The {actor} repeats the steps that led to the problem"]
        return [f"The {actor} checks {definite(shorten(about, 100))}"]
    return [shorten(_does(each, actor), _LONGEST) for each in idea.actions[:10]]


def _does(action: Action, actor: str) -> str:
    text = about_them(action.text)
    if not action.verb or not text.lower().startswith(action.verb):
        first, _, rest = text.partition(" ")
        if first.lower().endswith("ly") and rest:
            return f"The {actor} {first} {_third(rest)}"
        return f"The {actor} tries to {text}"
    if action.verb == "have":
        return f"The {actor} uses {definite(about_them(action.object)) or 'it'}"
    if action.verb.startswith("be "):
        return f"The {actor} waits to {text}"
    return f"The {actor} {_third(text)}"


def _third(text: str) -> str:
    first, space, rest = text.partition(" ")
    done = f"{third_person(first)}{space}{rest}"
    # "drag and drop" are two verbs at once.
    return re.sub(
        r"^(\w+ and )(drop|paste|replace|out)\b",
        lambda found: found[1] + third_person(found[2]),
        done,
    )


def _title(idea: Idea, actor: str, title: str) -> str:
    if not idea.understood or idea.fact:
        return shorten(capitalised(idea.fact or title), _LONGEST_TITLE) or "Acceptance test"
    doing = about_them(idea.wish)
    can = "is " + doing.removeprefix("be ") if doing.startswith("be ") else "can " + doing
    return shorten(capitalised(f"{uncapitalised(actor)} {can}"), _LONGEST_TITLE)


def _unique(items: list[str]) -> list[str]:
    kept = list(dict.fromkeys(each for each in items if each))
    return kept or ["The application is open"]
