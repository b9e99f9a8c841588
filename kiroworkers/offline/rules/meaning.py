"""
What a story leaves out: why (valuable), and who and what exactly (estimable).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from kiroworkers.offline.rules.fault import Fault, act, the
from kiroworkers.offline.rules.people import is_system
from kiroworkers.offline.rules.reading import Story
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

# Valuable.

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


def no_benefit(story: Story) -> Iterator[Fault]:
    """
    Says nothing of why, or nothing that counts.
    """
    who = story.actor or "the user"
    if not story.benefit:
        yield Fault(
            f"The story does not say why anybody wants to {quote(act(story), 80)}."
            if story.wish
            else f"The story does not say what {quote(story.title, 80)} is good for.",
            f"Complete the sentence: “so that {the(who)} …”, with something that is better "
            "afterwards.",
        )
    elif _EMPTY_BENEFIT.match(story.benefit):
        yield Fault(
            f"The benefit {quote(story.benefit)} says nothing that would be missed.",
            f"Ask {the(who)} what goes wrong today without {quote(act(story), 60)}, and write "
            "that down.",
        )
    else:
        gain = stems(story.benefit) - stems("can could possible allowed use")
        if gain and len(gain - stems(story.goal)) * 5 <= len(gain) and len(gain) > 1:
            yield Fault(
                f"The benefit {quote(story.benefit)} repeats the action {quote(story.goal)}.",
                f"Ask “and then?”: what does {the(who)} do with the result, or no longer has to "
                "do?",
            )


def serves_builders(story: Story) -> Iterator[Fault]:
    """
    Serves those who build the product, or the product itself.
    """
    last = (words(story.actor) or [""])[-1]
    technical = _TECHNICAL.match(story.wish) or _TECHNICAL.match(story.title)
    if last and is_system(last):
        yield Fault(
            f"{quote(capitalised(story.actor), 40)} is part of the product: it wants nothing.",
            f"Name the person who gains when {the(story.actor)} does this.",
        )
    elif technical is not None:
        yield Fault(
            f"{quote(technical[0])} is a task for those who build the product; nobody who uses "
            "it sees a difference.",
            "Name the change that users will notice and make this a part of it, or keep it as a "
            "technical task.",
        )
    elif last in _BUILDERS and (
        not story.benefit or _ABOUT_CODE.search(f"{story.benefit} {story.wish}")
    ):
        yield Fault(
            f"{quote(capitalised(story.actor), 40)} builds the product, and the story speaks of "
            "its inside.",
            "Name who is served by the result, and what they can do then.",
        )


# Estimable.


def vague(story: Story) -> Iterator[Fault]:
    """
    Uses words that everybody reads in another way.
    """
    found: dict[str, None] = {}
    for text in story.asks:
        for sentence in sentences(text):
            found |= dict.fromkeys(word.lower() for word, _ in vague_words(sentence))
    if found:
        said = [quote(each, 40) for each in list(found)[:3]]
        yield Fault(
            f"{listed(said)} {'mean' if len(said) > 1 else 'means'} something else to every "
            "reader.",
            f"Put a figure, a list or an example in place of {said[0]}: what would "
            f"{the(story.actor or 'user')} see when it is reached?",
        )


def open_question(story: Story) -> Iterator[Fault]:
    """
    Asks instead of saying.
    """
    for text in story.asks:
        for sentence in re.findall(r"[^.!?\n]{3,200}\?", without_quotes(text)):
            yield Fault(
                f"A question is still open: {quote(sentence.strip())}.",
                "Answer it with those who know, and write the answer in its place.",
            )
            return


def missing_parts(story: Story) -> Iterator[Fault]:
    """
    Leaves out who or what, or is too short to know.
    """
    fewest = 2 if story.criteria else 3
    short = len(words(story.goal)) < fewest and len(words(story.description)) < 5
    if not story.actor:
        yield Fault(
            f"The story does not say who wants {quote(story.goal, 80)}.",
            "Name one kind of user: whoever would miss it most.",
        )
    if not story.wish and not any(each.kind for each in story.actions):
        yield Fault(
            f"The story names {quote(story.title, 80)} but not what is done with it.",
            f"Write what {the(story.actor or 'user')} wants to do: a verb and its object.",
        )
    elif short and story.english:
        yield Fault(
            f"{quote(story.goal)} is too short to be estimated.",
            f"Say what exactly, where and how much: {quote(story.goal, 40)} of what, for which "
            "case?",
        )
