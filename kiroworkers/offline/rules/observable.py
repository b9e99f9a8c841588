"""
Saying a criterion so that somebody, or a program, can see whether it holds.
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

_LONGEST = 300
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


def observable(criterion: str, action: str, actor: str) -> str:
    """
    `criterion` as something that is seen.

    Args:
        action: what the actor does, such as "export the list".
    """
    criterion = bare(criterion)
    text = indicative(criterion)
    checked = _NEEDLESS.sub("", text)
    # "Validate the email" is an order; "validate that it is shown" a fact.
    if checked != text and is_fact(checked):
        text = capitalised(checked)
    vague = next(vague_words(text), None)
    if vague is not None:
        seen = vague[1].format(an_actor=with_article(actor), actor=actor, action=action)
        return shorten(f"{quote(text, 120)} means: {seen}", _LONGEST)
    if is_fact(text) or not looks_english(text, _SIGHTS):
        return shorten(capitalised(text), _LONGEST)
    return shorten(capitalised(_ordered(text) or _named(text)), _LONGEST)


def is_fact(text: str) -> bool:
    """
    Does `text` say that something is so, with a verb in it?
    """
    said = words(text)
    if is_verb("".join(said[:1])):
        return False
    return _FINITE.search(text) is not None or any(each in BASE_OF_THIRD for each in said[1:4])


def _ordered(text: str) -> str:
    """
    "Show an error message" as "An error message is shown"; empty when no order.
    """
    first, _, rest = uncapitalised(text).partition(" ")
    if not is_verb(first) or not rest:
        return ""
    tokens = rest.split(" ")
    at = next((at for at, each in enumerate(tokens) if bare(each).lower() in _END), len(tokens))
    if not at:
        return ""
    thing, tail = " ".join(tokens[:at]), " ".join(tokens[at:])
    return f"{thing} {'are' if is_plural(thing) else 'is'} {participle(first)} {tail}".strip()


def _named(text: str) -> str:
    """
    "Header row" as "A header row is seen".
    """
    if len(text.split(" ")) > 12:
        return text
    noun = uncapitalised(text)
    return f"{with_article(noun)} {'are' if is_plural(noun) else 'is'} seen"
