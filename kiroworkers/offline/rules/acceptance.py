"""
Apply the rules for ``generate-test``: turn a user story into given, when, then.

Each acceptance criterion becomes one observable outcome.  The story's wish and title
supply what the criteria leave open.
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
from kiroworkers.offline.rules.observable import make_observable
from kiroworkers.offline.rules.people import as_actor, in_third_person
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

#: Criteria that are read, so that the answer stays readable.
MAX_CRITERIA = 100
_MAX_LENGTH = 300
_MAX_TITLE_LENGTH = 80

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
    Return an acceptance test for a story.

    Args:
        request: A ``generate-test`` request.  Its ``story`` may hold ``title``, ``asA``,
            ``iWant``, ``description`` and ``acceptanceCriteria``; its ``idea`` is optional.

    Returns:
        An answer with ``title``, ``given``, ``when`` and ``then``, as the task's schema
        requires; the last three are lists of sentences.
    """
    story = request.get("story")
    story = story if isinstance(story, Mapping) else {}
    title = bare(text_of(story.get("title")))
    idea = _read_wish(story, title, str(request.get("idea") or ""))
    actor = shorten(idea.actor or "user", 60)
    scenario = _Scenario()
    for criterion in _criteria(story):
        _add_criterion(scenario, criterion, idea, actor)
    if not scenario.then:
        text = " ".join([idea.wish, title, text_of(request.get("idea"))])
        scenario.then = _default_outcomes(idea, actor, text)
    scenario.then += _time_limit(idea, story, request, scenario.then)
    return {
        "title": _title(idea, actor, title),
        "given": _unique([*_preconditions(idea, actor, scenario), *scenario.given]),
        "when": _unique(scenario.when or _steps(idea, actor)),
        "then": _unique(scenario.then),
    }


def _read_wish(story: Mapping[str, Any], title: str, idea_text: str) -> Idea:
    """
    Return the story's wish as understood, or else its title, or else the idea.
    """
    wish, actor = text_of(story.get("iWant")), text_of(story.get("asA"))
    description = str(story.get("description") or "")
    sentence = next(
        (text for text in (description, idea_text) if re.match(r"\s*as an? ", text, re.I)), ""
    )
    if bare(wish):
        text = (
            wish if re.match(r"(?:i|we) ", wish, re.I) else f"I want to {re.sub('^to ', '', wish)}"
        )
        # A wish that is a noun must not become "I want to a list".
        idea = read_idea(
            text if read_idea(wish).action.verb not in ("have", "use", "see") else wish
        )
    else:
        idea = read_idea(sentence or title or idea_text or "this")
    actor_name = as_actor(re.sub(r"^as ", "", actor, flags=re.I)) or idea.actor
    actor_name = actor_name or (read_idea(idea_text).actor if idea_text.strip() else "")
    return Idea(
        idea.actions,
        bare(actor_name),
        idea.benefit,
        idea.fact,
        idea.condition,
        idea.only,
        idea.remarks,
        idea.understood,
    )


def _criteria(story: Mapping[str, Any]) -> Iterator[str]:
    """
    Yield the criteria, and the scenarios in the description.
    """
    listed = story.get("acceptanceCriteria")
    texts = [
        text_of(criterion)
        for criterion in (listed if isinstance(listed, list) else [])[:MAX_CRITERIA]
    ]
    yield from (bare(text) for text in texts if bare(text))
    description = text_of(story.get("description"))
    yield from (sentence for sentence in sentences(description) if _SCENARIO.match(sentence))


def _add_criterion(scenario: _Scenario, criterion: str, idea: Idea, actor: str) -> None:
    """
    Add the steps of `criterion` to the lists of `scenario`.
    """
    criterion = re.sub(r"^(?:scenario|ac\d*|\d+)[.:)]\s*", "", criterion, flags=re.I)
    if _SCENARIO.match(criterion) is None:
        step = re.match(r"(given|when|then|and):? (?=\S)(.+)", criterion, re.I)
        if step is not None and step[1].lower() == "given":
            scenario.given.append(_sentence(step[2], actor))
            return
        if step is not None and step[1].lower() == "when" and ", " not in criterion:
            scenario.when.append(_sentence(step[2], actor))
            return
        outcome = step[2] if step is not None and step[1].lower() in ("then", "and") else criterion
        scenario.then.append(_observable_outcome(outcome, idea, actor))
        return
    pieces = _STEP.split(criterion)
    for keyword, piece in zip(pieces[1::2], pieces[2::2], strict=True):
        parts = [bare(part) for part in _AND.split(bare(piece)) if bare(part)]
        match keyword.lower():
            case "given":
                scenario.given += [_sentence(part, actor) for part in parts]
            case "when":
                scenario.when += [_sentence(part, actor) for part in parts]
            case _:
                scenario.then += [_observable_outcome(part, idea, actor) for part in parts]


def _sentence(text: str, actor: str) -> str:
    """
    Return `text` in the third person, as a sentence about the actor.
    """
    # The actor is a client's text, so it must not be part of a template of `re.sub`.
    text = re.sub(r"^I am\b", lambda _: f"The {actor} is", text)
    first_person = re.match(r"I (?!am\b)(\w+)(.*)$", text)
    if first_person is not None:
        verb = (
            first_person[1]
            if first_person[1] in ("can", "could", "must", "was", "had", "cannot")
            else (third_person(first_person[1]))
        )
        text = f"The {actor} {verb}{first_person[2]}"
    text = re.sub(r"^(?:that|there's) ", "", text, flags=re.I)
    return shorten(capitalised(bare(in_third_person(text))), _MAX_LENGTH)


def _observable_outcome(text: str, idea: Idea, actor: str) -> str:
    return make_observable(
        _sentence(indicative(text), actor), in_third_person(_short_wish(idea)), actor
    )


def _short_wish(idea: Idea) -> str:
    return shorten(idea.wish, 100)


def _default_outcomes(idea: Idea, actor: str, text: str) -> list[str]:
    """
    Return outcomes that follow from the wish, for a story without criteria.
    """
    if idea.fact:
        return [_sentence(idea.fact, actor)]
    return [_sentence(criterion, actor) for criterion in criteria_for(idea, actor, text)[:3]]


def _time_limit(idea: Idea, story: Mapping[str, Any], request: Mapping[str, Any],
            then: list[str]) -> list[str]:  # fmt: skip
    """
    Return an outcome for a time limit that no outcome mentions yet, or none.
    """
    texts = [text_of(story.get(name)) for name in ("iWant", "soThat", "title")]
    limit = _WITHIN.search(" ".join([*texts, text_of(request.get("idea"))]))
    if limit is None or any(limit[1] in outcome for outcome in then):
        return []
    return [f"All this is seen within {limit[1]}"]


def _preconditions(idea: Idea, actor: str, scenario: _Scenario) -> list[str]:
    """
    Return the actor's state, and the things that must exist before the actions.
    """
    person = capitalised(with_article(actor))
    if scenario.given and any(
        "signed in" in precondition or "logged in" in precondition
        for precondition in scenario.given
    ):
        return []
    match idea.action.kind:
        case "login":
            return [f"{person} has an account and is not signed in"]
        case "register":
            return [f"{person} has no account yet"]
    preconditions = [f"{person} is signed in"]
    thing = shorten(idea.action.object, 100)
    if thing and idea.understood and not scenario.given and not idea.fact:
        preconditions += _object_preconditions(in_third_person(thing), idea.action, actor)
    outcomes = " ".join(scenario.then).lower()
    if re.search(r"\bfilter", outcomes) and not scenario.given and idea.action.kind != "filter":
        preconditions.append("A filter is set that some entries match and others do not")
    return preconditions


def _object_preconditions(thing: str, action: Action, actor: str) -> list[str]:
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
        noun = re.sub(r"^(?:the|all|every|each|any) ", "", thing)
        return [f"There are {noun}"] if first not in ("their", "these", "those", "both") else [
            f"{capitalised(thing)} exist"]  # fmt: skip
    return [f"{capitalised(definite(thing))} exists"]


def _steps(idea: Idea, actor: str) -> list[str]:
    """
    Return the actions of the actor as steps.

    For an actor who is notified, the step is the event that triggers the message.
    """
    if idea.action.kind == "notify" and idea.condition:
        event = re.sub(
            r"^(?:when|whenever|if|once|as soon as|after|every time|each time) ",
            "",
            idea.condition,
            flags=re.I,
        )
        if event != idea.condition:
            return [_sentence(event, actor)]
    if idea.fact:
        about = idea.action.object or "the part of the application that this is about"
        if idea.action.kind == "fix":
            return [f"The {actor} repeats the steps that led to the problem"]
        return [f"The {actor} checks {definite(shorten(about, 100))}"]
    return [shorten(_step(action, actor), _MAX_LENGTH) for action in idea.actions[:10]]


def _step(action: Action, actor: str) -> str:
    text = in_third_person(action.text)
    if not action.verb or not text.lower().startswith(action.verb):
        first, _, rest = text.partition(" ")
        if first.lower().endswith("ly") and rest:
            return f"The {actor} {first} {_conjugated(rest)}"
        return f"The {actor} tries to {text}"
    if action.verb == "have":
        return f"The {actor} uses {definite(in_third_person(action.object)) or 'it'}"
    if action.verb.startswith("be "):
        return f"The {actor} waits to {text}"
    return f"The {actor} {_conjugated(text)}"


def _conjugated(text: str) -> str:
    first, space, rest = text.partition(" ")
    done = f"{third_person(first)}{space}{rest}"
    # Both verbs of "drag and drop" need the ending.
    return re.sub(
        r"^(\w+ and )(drop|paste|replace|out)\b",
        lambda match: match[1] + third_person(match[2]),
        done,
    )


def _title(idea: Idea, actor: str, title: str) -> str:
    if not idea.understood or idea.fact:
        return shorten(capitalised(idea.fact or title), _MAX_TITLE_LENGTH) or "Acceptance test"
    doing = in_third_person(idea.wish)
    can = "is " + doing.removeprefix("be ") if doing.startswith("be ") else "can " + doing
    return shorten(capitalised(f"{uncapitalised(actor)} {can}"), _MAX_TITLE_LENGTH)


def _unique(items: list[str]) -> list[str]:
    unique = list(dict.fromkeys(item for item in items if item))
    return unique or ["The application is open"]
