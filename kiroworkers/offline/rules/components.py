"""
Choose the components that a story affects from a list of names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from kiroworkers.offline.rules.words import MAX_READ_LENGTH, stem, stems, tidy, word_set, words

_MAX_COMPONENTS = 3
_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_A-Za-z]+")
#: Parts of names that do not tell the purpose of the component.
_GENERIC = word_set(
    "service services module component manager management core system app application engine "
    "handler controller common main base lib the and of my"
)
#: For a part of a component's name: words that refer to it without naming it.
_RELATED: Mapping[str, str] = {
    "work": "story stories task backlog board sprint epic issue ticket project item timesheet",
    "model": "field attribute status type entity",
    "document": "file pdf csv upload attachment export import word excel spreadsheet",
    "intelligence": "ai suggest summarise summary recommend predict classify extract recognise",
    "review": "approve approval reject comment feedback annotate accept vote",
    "governance": "policy permission role audit compliance approve approval rule retention access",
    "orchestration": "workflow schedule automate trigger pipeline assign queue sync integrate",
    "engagement": "notify notification email message remind reminder invite alert chat slack",
    "run": "execute start job pipeline build deploy rerun schedule",
    "verify": "test check validate verification quality failed pass",
    "traceability": "trace history audit origin version change requirement",
    "insight": "report chart dashboard metric statistics overview trend number analyse",
    "auth": "login log sign password sso account register authentication role permission token",
    "identity": "login log sign password sso account register authentication",
    "user": "profile account register member password login",
    "account": "profile register password login user",
    "billing": "invoice pay payment price refund subscription credit charge tax",
    "payment": "invoice pay price refund card checkout paypal charge",
    "order": "cart checkout purchase delivery shipping basket",
    "search": "find filter query lookup sort",
    "report": "chart dashboard metric statistics overview export csv analyse",
    "analytics": "report chart dashboard metric statistics trend",
    "notification": "notify email alert remind reminder message sms push",
    "mail": "email notify newsletter message",
    "frontend": "page screen button dashboard mode layout view menu form",
    "ui": "page screen button dashboard mode layout view menu form colour dark",
    "web": "page screen button browser",
    "mobile": "phone app ios android offline push",
    "backend": "database api server migrate",
    "api": "endpoint integrate webhook rest token",
    "data": "database migrate import export csv record",
    "storage": "file upload backup archive attachment",
    "security": "encrypt password permission role audit login",
    "admin": "configure setting role permission manage",
    "settings": "configure preference language theme mode",
    "inventory": "stock product warehouse item",
    "catalog": "product price item category",
    "calendar": "booking appointment schedule meeting date",
    "integration": "integrate slack connect webhook sync api",
}
_RELATED_STEMS = {
    stem(part): frozenset(stem(word) for word in related.split())
    for part, related in _RELATED.items()
}


def choose_components(text: str, names: Sequence[str]) -> list[str]:
    """
    Return the names of the components that `text` mentions, the best match first.

    A word of the name that occurs in the text counts twice as much as a related word.

    Args:
        text: The idea.
        names: All component names; the result spells them the same.

    Returns:
        At most three of `names`.
    """
    text_stems = stems(text) | {stem(word) for word in words(text)}
    scores: dict[str, int] = {}
    remaining = MAX_READ_LENGTH * 4
    for name in names:
        remaining -= len(name)
        if remaining < 0:
            break
        score = _score(text_stems, name)
        if score:
            scores.setdefault(name, score)
    best = max(scores.values(), default=0)
    chosen = sorted(scores, key=lambda name: -scores[name])
    # A name with a far lower score than the best probably shares a word by chance.
    return [name for name in chosen if scores[name] * 2 >= best][:_MAX_COMPONENTS]


def _score(text_stems: frozenset[str], name: str) -> int:
    score = 0
    for raw in _PARTS.findall(tidy(name)):
        part = raw.lower()
        if part in _GENERIC:
            continue
        root = stem(part)
        score += 2 * (root in text_stems)
        score += min(2, len(text_stems & _RELATED_STEMS.get(root, frozenset())))
    return score
