"""
Find missing information in a story, for the valuable and estimable criteria.

A story is valuable if it says why it is wanted, and estimable if it says exactly who
wants what.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from kiroworkers.offline.rules.finding import Finding, wished_action, with_the
from kiroworkers.offline.rules.people import is_system
from kiroworkers.offline.rules.story_text import StoryText
from kiroworkers.offline.rules.vague import vague_words
from kiroworkers.offline.rules.words import (
    capitalised,
    listed,
    quote,
    sentences,
    stems,
    without_quotes,
    word_set,
    words,
)

# Rules for the valuable criterion.

_EMPTY_BENEFIT = re.compile(
    r"^(?:(?:i|we|they|users?) (?:can )?(?:have|use|do|see) (?:it|this|that)|it (?:works|is "
    r"(?:done|there|possible|better|nice|good))|it's (?:better|nice|good|done)|n/?a|none|-+|tbd|"
    r"todo|the feature (?:exists|is available|works)|(?:it is |that's )?(?:what|because) "
    r".{0,12}want(?:s|ed)?(?: it)?|\?+)$",
    re.I,
)
_TECHNICAL = re.compile(
    r"^(?:to )?(?:refactor\w*|rewrite (?:the )?(?:\w+ )?(?:code|module|class|backend|service)|"
    r"bump|clean up (?:the )?(?:\w+ )?code|(?:upgrade|update) (?:the )?(?:\w+ )?(?:dependenc\w+|"
    r"librar\w+|framework|packages?|sdk)|(?:write|add|increase) (?:more |the )?(?:unit|"
    r"integration)[- ]tests?|(?:set up|add|configure) (?:a |the )?(?:ci|continuous integration|"
    r"build server|linter|logging framework|build pipeline)|(?:add|create) (?:a |an |the "
    r")?(?:\w+ )?(?:database (?:table|index)|db (?:table|index)|index (?:on|to) (?:the )?\w+ "
    r"table)|(?:rename|move|extract|remove) (?:the )?(?:\w+ )?(?:class|method|function|module|"
    r"dead code))\b",
    re.I,
)
_BUILDERS = word_set("developer developers engineer programmer coder dev devs")
_ABOUT_CODE = re.compile(
    r"\b(?:code\w*|maintain\w*|refactor\w*|technical debt|clean\w*|architecture|build|library|"
    r"framework|class|module|unit tests?|deploy\w*|debug\w*)\b",
    re.I,
)


def no_benefit(story: StoryText) -> Iterator[Finding]:
    """
    Find a missing or empty benefit, or one that only repeats the action.
    """
    who = story.actor or "the user"
    if not story.benefit:
        yield Finding(
            f"The story does not say why anybody wants to {quote(wished_action(story), 80)}."
            if story.wish
            else f"The story does not say what {quote(story.title, 80)} is good for.",
            f"Complete the sentence: “so that {with_the(who)} …”, with something that is better "
            "afterwards.",
        )
    elif _EMPTY_BENEFIT.match(story.benefit):
        yield Finding(
            f"The benefit {quote(story.benefit)} says nothing that would be missed.",
            f"Ask {with_the(who)} what goes wrong today without "
            f"{quote(wished_action(story), 60)}, and write that down.",
        )
    else:
        gain = stems(story.benefit) - stems("can could possible allowed use")
        if gain and len(gain - stems(story.goal)) * 5 <= len(gain) and len(gain) > 1:
            yield Finding(
                f"The benefit {quote(story.benefit)} repeats the action {quote(story.goal)}.",
                f"Ask “and then?”: what does {with_the(who)} do with the result, or no "
                "longer has to do?",
            )


def serves_builders(story: StoryText) -> Iterator[Finding]:
    """
    Find a story that serves its developers or the product itself.
    """
    last = (words(story.actor) or [""])[-1]
    technical = _TECHNICAL.match(story.wish) or _TECHNICAL.match(story.title)
    if last and is_system(last):
        yield Finding(
            f"{quote(capitalised(story.actor), 40)} is part of the product: it wants nothing.",
            f"Name the person who gains when {with_the(story.actor)} does this.",
        )
    elif technical is not None:
        yield Finding(
            f"{quote(technical[0])} is a task for those who build the product; nobody who uses "
            "it sees a difference.",
            "Name the change that users will notice and make this a part of it, or keep it as a "
            "technical task.",
        )
    elif last in _BUILDERS and (
        not story.benefit or _ABOUT_CODE.search(f"{story.benefit} {story.wish}")
    ):
        yield Finding(
            f"{quote(capitalised(story.actor), 40)} builds the product, and the story speaks of "
            "its inside.",
            "Name who is served by the result, and what they can do then.",
        )


# Rules for the estimable criterion.


def vague(story: StoryText) -> Iterator[Finding]:
    """
    Find words that every reader understands differently.
    """
    terms: dict[str, None] = {}
    for text in story.wish_texts:
        for sentence in sentences(text):
            terms |= dict.fromkeys(word.lower() for word, _ in vague_words(sentence))
    if terms:
        quoted = [quote(term, 40) for term in list(terms)[:3]]
        yield Finding(
            f"{listed(quoted)} {'mean' if len(quoted) > 1 else 'means'} something else to every "
            "reader.",
            f"Put a figure, a list or an example in place of {quoted[0]}: what would "
            f"{with_the(story.actor or 'user')} see when it is reached?",
        )


def open_question(story: StoryText) -> Iterator[Finding]:
    """
    Find an open question in the story.
    """
    for text in story.wish_texts:
        for sentence in re.findall(r"[^.!?\n]{3,200}\?", without_quotes(text)):
            yield Finding(
                f"A question is still open: {quote(sentence.strip())}.",
                "Answer it with those who know, and write the answer in its place.",
            )
            return


def missing_parts(story: StoryText) -> Iterator[Finding]:
    """
    Find a missing actor or action, or a wish too short to estimate.
    """
    fewest = 2 if story.criteria else 3
    short = len(words(story.goal)) < fewest and len(words(story.description)) < 5
    if not story.actor:
        yield Finding(
            f"The story does not say who wants {quote(story.goal, 80)}.",
            "Name one kind of user: whoever would miss it most.",
        )
    if not story.wish and not any(action.kind for action in story.actions):
        yield Finding(
            f"The story names {quote(story.title, 80)} but not what is done with it.",
            f"Write what {with_the(story.actor or 'user')} wants to do: a verb and its object.",
        )
    elif short and story.english:
        yield Finding(
            f"{quote(story.goal)} is too short to be estimated.",
            f"Say what exactly, where and how much: {quote(story.goal, 40)} of what, for which "
            "case?",
        )
