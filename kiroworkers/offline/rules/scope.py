"""
Find excess scope and unverifiable criteria, for the small and testable criteria.

A story is small if it has one action on a limited subject, and testable if its
acceptance criteria can be observed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from kiroworkers.offline.rules import verbs
from kiroworkers.offline.rules.finding import Finding, wished_action
from kiroworkers.offline.rules.story_text import StoryText
from kiroworkers.offline.rules.vague import has_measure, vague_words
from kiroworkers.offline.rules.words import (
    listed,
    quote,
    stems,
    with_article,
    without_quotes,
    word_set,
    words,
)

_MANY_WORDS = 35
_MANY_WORDS_IN_ALL = 220

# Rules for the small criterion.

_SAME_GOAL = word_set(
    "see get view receive know read open have use understand learn go continue find"
)
_WIDE = re.compile(
    r"\b(?:everything|(?:the )?(?:entire|whole|complete) (?:system|application|app|platform|site|"
    r"website|product|process|database|organi[sz]ation|company|module|workflow|ui|interface)|all "
    r"(?:of )?(?:the |our |possible |existing |other |supported )*(?:features|reports|pages|"
    r"screens|formats|modules|systems|platforms|kinds|types|browsers|languages|devices|functions|"
    r"functionality|use cases|cases|settings|integrations|fields|roles|customers' data|data)|"
    r"(?:every|any) (?:possible |single |other )*(?:page|screen|feature|module|kind|type|format|"
    r"browser|platform|device|report|language|system|field)|end[- ]to[- ]end|crud)\b",
    re.I,
)
_UMBRELLA = re.compile(r"^(?:to )?(?P<verb>manage|administer|maintain|handle) (?P<what>.+)$", re.I)


def several_actions(story: StoryText) -> Iterator[Finding]:
    """
    Find several actions that could each be a story.
    """
    actions = [
        action
        for index, action in enumerate(story.actions)
        if not index or action.verb not in _SAME_GOAL
    ]
    distinct = list({action.verb: action for action in actions if action.verb}.values())
    same_object = len({action.object for action in distinct}) < 2
    if len(distinct) > 2 or (len(distinct) == 2 and not same_object):
        quoted = [quote(action.text, 40) for action in distinct[:4]]
        yield Finding(
            f"The story joins {len(distinct)} actions: {listed(quoted)}.",
            f"Write one story for each, and begin with {quoted[0]}.",
        )
    umbrella = _UMBRELLA.match(wished_action(story))
    if umbrella is not None and len(actions) == 1:
        what, verb = umbrella["what"], umbrella["verb"].lower()
        yield Finding(
            f"{quote(umbrella[0])} hides several actions: {verbs.gerund(verb)} may mean to add, "
            "change, find and remove.",
            f"Write one story for each that is needed, such as “add {with_article(what)}”."
            if " " not in what and not what.endswith("s")
            else f"Write one story for each that is needed; adding {quote(what, 40)} may come "
            "first.",
        )


def too_wide(story: StoryText) -> Iterator[Finding]:
    """
    Find a wish that covers everything at once.
    """
    for text in (story.wish, story.title):
        match = _WIDE.search(without_quotes(text))
        if match is not None:
            yield Finding(
                f"{quote(match[0])} makes the story as large as the product.",
                f"Name the one or two cases of {quote(match[0])} that matter most, and leave the "
                "rest to later stories.",
            )
            return


def too_large(story: StoryText) -> Iterator[Finding]:
    """
    Find a story with too many words, criteria or points.
    """
    if story.points is not None and story.points >= 8:
        yield Finding(
            f"{story.points} story points are the size of several stories.",
            f"Split {quote(story.goal, 60)}: the simplest case first, exceptions and further "
            "cases later.",
        )
    if story.criteria_count > 8:
        yield Finding(
            f"{story.criteria_count} acceptance criteria are more than one story needs.",
            f"Group them by purpose and split: {quote((story.criteria or ('',))[-1], 60)} may be "
            "a story of its own.",
        )
    length = len(words(story.wish))
    if length > _MANY_WORDS or len(words(" ".join(story.texts))) > _MANY_WORDS_IN_ALL:
        yield Finding(
            f"The wish takes {length} words."
            if length > _MANY_WORDS
            else f"The story takes more than {_MANY_WORDS_IN_ALL} words.",
            f"Keep what is wanted to one line, such as {quote(story.goal, 60)}, and move the "
            "details to the acceptance criteria.",
        )


# Rules for the testable criterion.

_INSIDE = re.compile(
    r"\b(?:(?:code|architecture) is|clean code|refactored|best practices?|well[- ](?:documented|"
    r"written|structured|designed)|(?:users?|customers?|people|everyone|team|stakeholders?) "
    r"(?:is|are|feels?|will be|should be|must be) (?:happy|satisfied|delighted|comfortable|"
    r"confident|pleased|content)|feels?|looks? (?:nice|good|great|professional)|(?:is|are) (?:ok|"
    r"okay|fine|good|great|nice|acceptable|complete|usable))\b",
    re.I,
)
_NEVER_WRONG = re.compile(
    r"\b(?:no|without(?: any)?|zero|never (?:any|shows?)?|free of) ?(?:errors|bugs|problems|"
    r"issues|delays?|crashes|lag|downtime|defects|mistakes|confusion)\b(?! (?:is|are|message|"
    r"shown|appear|log))|\b(?:never|does not|doesn't|should not|must not|shouldn't|won't) "
    r"(?:crash|fail|break|hang|freeze|be slow|lag|be confusing)(?:es|s)?\b",
    re.I,
)


def no_criteria(story: StoryText) -> Iterator[Finding]:
    """
    Find a story without acceptance criteria.
    """
    if not story.criteria:
        yield Finding(
            f"There is no acceptance criterion: nobody can tell when {quote(story.goal, 80)} is "
            "done.",
            "Write what can be seen afterwards: one sentence for the usual case, one for the "
            "case in which it fails.",
        )


def vague_criteria(story: StoryText) -> Iterator[Finding]:
    """
    Find a criterion that cannot be observed.
    """
    for criterion in story.criteria:
        vague = next(vague_words(criterion), None)
        opinion = vague[0] if vague is not None else ""
        inside = None if has_measure(criterion) else _INSIDE.search(criterion)
        opinion = opinion or (inside[0] if inside is not None else "")
        if opinion:
            check = vague[1] if vague is not None else "somebody names what they see when it holds"
            check = check.format(
                an_actor=with_article(story.actor or "user"), action=wished_action(story)[:60]
            )
            yield Finding(
                f"{quote(criterion)} cannot be observed: {quote(opinion, 40)} is a matter of "
                "opinion.",
                f"Say what is seen, for example: {check}.",
            )
            return


def never_wrong(story: StoryText) -> Iterator[Finding]:
    """
    Find a criterion that promises that nothing ever goes wrong.
    """
    for criterion in story.criteria:
        match = _NEVER_WRONG.search(criterion)
        if match is not None and not any(map(str.isdigit, criterion)):
            yield Finding(
                f"{quote(criterion)} can never be shown to hold: {quote(match[0], 40)} has no "
                "limit.",
                "Give a measure and a span: how many at most, in how many tries or in which time?",
            )
            return


def repeated_criteria(story: StoryText) -> Iterator[Finding]:
    """
    Find a criterion that repeats the title, the wish or another criterion.
    """
    seen: dict[frozenset[str], str] = {}
    # A criterion may repeat the wish if the wish is for a state.
    if not story.wish.startswith(("have ", "make sure ", "be sure ", "be ")):
        seen = {stems(text): text for text in (story.title, story.wish) if text}
    for criterion in story.criteria:
        meaning = stems(criterion)
        if meaning and meaning in seen:
            yield Finding(
                f"{quote(criterion)} says no more than {quote(seen[meaning])}.",
                "Say what is seen afterwards that was not there before.",
            )
            return
        seen[meaning] = criterion
