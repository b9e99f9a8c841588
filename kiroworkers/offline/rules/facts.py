"""
Turning what should be into what is: "Rows must match" to "Rows match".
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


def states(subject: str, predicate: str, negative: bool = False) -> str:
    """
    `subject` with `predicate`, which begins with a verb in base form, as a fact.
    """
    verb, space, rest = predicate.partition(" ")
    many = is_plural(subject) or subject.lower() in ("i", "you", "we", "they")
    if verb.lower() == "be":
        form = ("are" if many else "is") + (" not" if negative else "")
    elif negative:
        form = f"{'do' if many else 'does'} not {verb}"
    else:
        form = verb if many else third_person(verb)
    return f"{subject} {form}{space}{rest}"


def indicative(sentence: str) -> str:
    """
    `sentence` without "should", "must" or "will"; others stay as they are.
    """
    found = _MODAL.match(sentence)
    if found is None or _OPEN_CLAUSE.match(found["who"]):
        return sentence
    # "When there is no stock, an error should be shown": the subject follows the comma.
    before, comma, subject = found["who"].rpartition(", ")
    adverb = found["adverb"] or ""
    rest = found["rest"]
    if found["able"]:
        said = f"{subject} {'cannot' if found['not'] else 'can'} {found['verb']}{rest}"
    elif adverb and found["verb"].lower() != "be":
        said = states(subject, f"{found['verb']}{rest}", bool(found["not"]))
        said = said if found["not"] else said.replace(subject, f"{subject}{adverb}", 1)
    else:
        predicate = f"{found['verb']}{adverb}{rest}" if adverb else f"{found['verb']}{rest}"
        said = states(subject, predicate, bool(found["not"]))
    return f"{before}{comma}{said}"
