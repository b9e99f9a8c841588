"""
Turn requirements into facts: "Rows must match" into "Rows match".
"""

from __future__ import annotations

import re

from kiroworkers.offline.rules.verbs import third_person
from kiroworkers.offline.rules.words import is_plural

_MODAL = re.compile(
    r"^(?P<who>.{1,120}?) (?P<modal>should|must|shall|will|needs? to|ha(?:s|ve) to)(?P<not> not|"
    r"n't| never| no longer)?(?P<adverb> (?:also|always|only|then|still))?(?P<able> be (?:able|"
    r"allowed|possible) to)? (?P<verb>[\w-]+)(?P<rest>.*)$",
    re.I,
)
_OPEN_CLAUSE = re.compile(r"^(?:when|if|after|before|once|while|unless|given)\b[^,]*$", re.I)


def as_fact(subject: str, predicate: str, negative: bool = False) -> str:
    """
    Return a sentence that states a fact about `subject`.

    Args:
        subject: The subject of the sentence.
        predicate: The rest of the sentence, beginning with a verb in base form.
        negative: Whether to negate the verb.
    """
    verb, space, rest = predicate.partition(" ")
    plural_subject = is_plural(subject) or subject.lower() in ("i", "you", "we", "they")
    if verb.lower() == "be":
        form = ("are" if plural_subject else "is") + (" not" if negative else "")
    elif negative:
        form = f"{'do' if plural_subject else 'does'} not {verb}"
    else:
        form = verb if plural_subject else third_person(verb)
    return f"{subject} {form}{space}{rest}"


def indicative(sentence: str) -> str:
    """
    Return `sentence` without its "should", "must" or "will".

    A sentence without such a word is returned unchanged.
    """
    match = _MODAL.match(sentence)
    if match is None or _OPEN_CLAUSE.match(match["who"]):
        return sentence
    # In "When there is no stock, an error should be shown" the subject follows the comma.
    before, comma, subject = match["who"].rpartition(", ")
    adverb = match["adverb"] or ""
    rest = match["rest"]
    if match["able"]:
        fact = f"{subject} {'cannot' if match['not'] else 'can'} {match['verb']}{rest}"
    elif adverb and match["verb"].lower() != "be":
        fact = as_fact(subject, f"{match['verb']}{rest}", bool(match["not"]))
        fact = fact if match["not"] else fact.replace(subject, f"{subject}{adverb}", 1)
    else:
        predicate = f"{match['verb']}{adverb}{rest}" if adverb else f"{match['verb']}{rest}"
        fact = as_fact(subject, predicate, bool(match["not"]))
    return f"{before}{comma}{fact}"
