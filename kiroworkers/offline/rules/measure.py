"""
What a story takes on (small), and how its end is seen (testable).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from kiroworkers.offline.rules import verbs
from kiroworkers.offline.rules.fault import Fault, act
from kiroworkers.offline.rules.reading import Story
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
# Small.

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


def several_actions(story: Story) -> Iterator[Fault]:
    """
    Joins actions that could each be a story.
    """
    own = [each for at, each in enumerate(story.actions) if not at or each.verb not in _SAME_GOAL]
    distinct = list({each.verb: each for each in own if each.verb}.values())
    same_object = len({each.object for each in distinct}) < 2
    if len(distinct) > 2 or (len(distinct) == 2 and not same_object):
        said = [quote(each.text, 40) for each in distinct[:4]]
        yield Fault(
            f"The story joins {len(distinct)} actions: {listed(said)}.",
            f"Write one story for each, and begin with {said[0]}.",
        )
    umbrella = _UMBRELLA.match(act(story))
    if umbrella is not None and len(own) == 1:
        what, verb = umbrella["what"], umbrella["verb"].lower()
        yield Fault(
            f"{quote(umbrella[0])} hides several actions: {verbs.gerund(verb)} may mean to add, "
            "change, find and remove.",
            f"Write one story for each that is needed, such as “add {with_article(what)}”."
            if " " not in what and not what.endswith("s")
            else f"Write one story for each that is needed; adding {quote(what, 40)} may come "
            "first.",
        )


def wide(story: Story) -> Iterator[Fault]:
    """
    Wants it for everything at once.
    """
    for text in (story.wish, story.title):
        found = _WIDE.search(without_quotes(text))
        if found is not None:
            yield Fault(
                f"{quote(found[0])} makes the story as large as the product.",
                f"Name the one or two cases of {quote(found[0])} that matter most, and leave the "
                "rest to later stories.",
            )
            return


def large(story: Story) -> Iterator[Fault]:
    """
    Is long, has many criteria or many points.
    """
    if story.points is not None and story.points >= 8:
        yield Fault(
            f"{story.points} story points are the size of several stories.",
            f"Split {quote(story.goal, 60)}: the simplest case first, exceptions and further "
            "cases later.",
        )
    if story.criteria_count > 8:
        yield Fault(
            f"{story.criteria_count} acceptance criteria are more than one story needs.",
            f"Group them by purpose and split: {quote((story.criteria or ('',))[-1], 60)} may be "
            "a story of its own.",
        )
    length = len(words(story.wish))
    if length > _MANY_WORDS or len(words(" ".join(story.texts))) > _MANY_WORDS_IN_ALL:
        yield Fault(
            f"The wish takes {length} words."
            if length > _MANY_WORDS
            else f"The story takes more than {_MANY_WORDS_IN_ALL} words.",
            f"Keep what is wanted to one line, such as {quote(story.goal, 60)}, and move the "
            "details to the acceptance criteria.",
        )


# Testable.

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


def no_criteria(story: Story) -> Iterator[Fault]:
    """
    Says nothing of when it is done.
    """
    if not story.criteria:
        yield Fault(
            f"There is no acceptance criterion: nobody can tell when {quote(story.goal, 80)} is "
            "done.",
            "Write what can be seen afterwards: one sentence for the usual case, one for the "
            "case in which it fails.",
        )


def vague_criteria(story: Story) -> Iterator[Fault]:
    """
    Criteria that cannot be seen to hold.
    """
    for criterion in story.criteria:
        found = next(vague_words(criterion), None)
        said = found[0] if found is not None else ""
        inside = None if has_measure(criterion) else _INSIDE.search(criterion)
        said = said or (inside[0] if inside is not None else "")
        if said:
            check = found[1] if found is not None else "somebody names what they see when it holds"
            check = check.format(
                an_actor=with_article(story.actor or "user"), action=act(story)[:60]
            )
            yield Fault(
                f"{quote(criterion)} cannot be observed: {quote(said, 40)} is a matter of opinion.",
                f"Say what is seen, for example: {check}.",
            )
            return


def never_wrong(story: Story) -> Iterator[Fault]:
    """
    Criteria that promise that nothing ever goes wrong.
    """
    for criterion in story.criteria:
        found = _NEVER_WRONG.search(criterion)
        if found is not None and not any(map(str.isdigit, criterion)):
            yield Fault(
                f"{quote(criterion)} can never be shown to hold: {quote(found[0], 40)} has no "
                "limit.",
                "Give a measure and a span: how many at most, in how many tries or in which time?",
            )
            return


def repeated_criteria(story: Story) -> Iterator[Fault]:
    """
    Criteria that say the title, or each other, again.
    """
    seen: dict[frozenset[str], str] = {}
    # What is wished to be so is seen by just that.
    if not story.wish.startswith(("have ", "make sure ", "be sure ", "be ")):
        seen = {stems(each): each for each in (story.title, story.wish) if each}
    for criterion in story.criteria:
        meaning = stems(criterion)
        if meaning and meaning in seen:
            yield Fault(
                f"{quote(criterion)} says no more than {quote(seen[meaning])}.",
                "Say what is seen afterwards that was not there before.",
            )
            return
        seen[meaning] = criterion
