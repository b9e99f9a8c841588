"""
Rephrase a criterion so that a person or a program can check it.
"""

from __future__ import annotations

import re

from kiroworkers.offline.rules.facts import indicative
from kiroworkers.offline.rules.vague import vague_words
from kiroworkers.offline.rules.verbs import (
    BASE_OF_THIRD,
    is_verb,
    participle,
)
from kiroworkers.offline.rules.words import (
    PREPOSITIONS,
    bare,
    capitalised,
    is_plural,
    looks_english,
    quote,
    shorten,
    uncapitalised,
    with_article,
    word_set,
    words,
)

_MAX_LENGTH = 300
_FINITE = re.compile(
    r"\b(?:is|are|was|were|has|have|had|does|do|can|cannot|can't|doesn't|don't|isn't|aren't|"
    r"gets?|contains?|matches|match|shows?|appears?|equals?|opens?|remains?|stays?|works?|sees?|"
    r"holds?|returns?|takes?|starts?|ends?|gives?|fails?|lists?|includes?|goes|go|comes?|keeps?|"
    r"loads?|finishes|finish|receives?|displays?|exists?|becomes?|disappears?|changes|differs?|"
    r"lasts?)\b",
    re.I,
)
_SIGHTS = word_set(
    "csv pdf message button error header row column file link icon label field page list title "
    "colour color name date number warning total"
)
_END = PREPOSITIONS - {"of"} | {"when", "if", "that", "which", "after", "before", "once", "while"}
_NEEDLESS = re.compile(
    r"^(?:verify|check|ensure|make sure|validate|confirm|assert)(?: that)? (?=.* )",
    re.I,
)


def make_observable(criterion: str, action: str, actor: str) -> str:
    """
    Return `criterion` as an observable outcome.

    Args:
        criterion: An acceptance criterion.
        action: The action of the actor, such as "export the list".
        actor: Who acts, such as "project manager".
    """
    criterion = bare(criterion)
    text = indicative(criterion)
    checked = _NEEDLESS.sub("", text)
    # "Validate the email" is an order, but "validate that it is shown" states a fact.
    if checked != text and is_fact(checked):
        text = capitalised(checked)
    vague = next(vague_words(text), None)
    if vague is not None:
        seen = vague[1].format(an_actor=with_article(actor), actor=actor, action=action)
        return shorten(f"{quote(text, 120)} means: {seen}", _MAX_LENGTH)
    if is_fact(text) or not looks_english(text, _SIGHTS):
        return shorten(capitalised(text), _MAX_LENGTH)
    return shorten(capitalised(_ordered(text) or _named(text)), _MAX_LENGTH)


def is_fact(text: str) -> bool:
    """
    Return whether `text` states a fact, with a finite verb.
    """
    text_words = words(text)
    if is_verb("".join(text_words[:1])):
        return False
    return _FINITE.search(text) is not None or any(
        word in BASE_OF_THIRD for word in text_words[1:4]
    )


def _ordered(text: str) -> str:
    """
    Return "Show an error message" as "An error message is shown".

    The result is empty if `text` is not an order.
    """
    first, _, rest = uncapitalised(text).partition(" ")
    if not is_verb(first) or not rest:
        return ""
    tokens = rest.split(" ")
    end = next(
        (end for end, token in enumerate(tokens) if bare(token).lower() in _END), len(tokens)
    )
    if not end:
        return ""
    thing, tail = " ".join(tokens[:end]), " ".join(tokens[end:])
    return f"{thing} {'are' if is_plural(thing) else 'is'} {participle(first)} {tail}".strip()


def _named(text: str) -> str:
    """
    Return "Header row" as "A header row is seen"; leave a long text as it is.
    """
    if len(text.split(" ")) > 12:
        return text
    noun = uncapitalised(text)
    return f"{with_article(noun)} {'are' if is_plural(noun) else 'is'} seen"
