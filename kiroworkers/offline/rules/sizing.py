"""
Estimate story points: add up small reasons for effort, to at most 8.
"""

from __future__ import annotations

from kiroworkers.offline.rules.idea import Idea
from kiroworkers.offline.rules.words import stem, word_set, words

_FIBONACCI = (1, 2, 3, 5, 8)

#: Effort by kind of action; 1 for a kind that is not listed.
_EFFORT_BY_KIND = {
    "view": 1, "sort": 1, "filter": 1, "print": 1, "copy": 1, "delete": 1, "group": 1,
    "create": 2, "edit": 1, "export": 2, "import": 3, "upload": 2, "search": 2, "notify": 2,
    "login": 2, "register": 2, "reset": 2, "report": 3, "configure": 2, "approve": 2, "share": 2,
    "connect": 4, "migrate": 4, "pay": 4, "schedule": 3, "translate": 3, "improve": 3, "track": 2,
}  # fmt: skip
_HEAVY = word_set(
    "migrate encrypt secure security real-time realtime sso payment offline synchronise "
    "synchronize algorithm ai machine-learning blockchain compliance gdpr audit two-factor "
    "multi-tenant scalable recommendation predict forecast legacy distributed"
)
_OUTSIDE = word_set(
    "api slack google github gitlab jira teams sap salesforce paypal stripe outlook webhook sms "
    "ldap oauth twitter facebook bank third-party external"
)
_WIDE = word_set("all every entire whole any complete multiple everything")
_LIGHT = word_set("rename label typo colour color icon tooltip wording text link placeholder")
_MAX_EFFORT_PER_REASON = 3


def story_points(idea: Idea, text: str) -> int:
    """
    Return an estimate for `idea`: 1, 2, 3, 5 or 8.

    Args:
        idea: The idea as understood.
        text: The idea's text, for words that imply much or little effort.
    """
    text_words = words(text)
    roots = {stem(word) for word in text_words}

    def effort_of(table: frozenset[str]) -> int:
        hits = sum(word in text_words or stem(word) in roots for word in table)
        return min(_MAX_EFFORT_PER_REASON, hits)

    effort = _EFFORT_BY_KIND.get(idea.action.kind, 1)
    effort += min(_MAX_EFFORT_PER_REASON, len(idea.actions) - 1)
    effort += 2 * effort_of(_HEAVY) + effort_of(_OUTSIDE) + bool(effort_of(_WIDE))
    effort += (len(text_words) > 30) + (len(text_words) > 80) + (len(idea.remarks) > 2)
    effort -= 2 * bool(effort_of(_LIGHT) and effort < 4)
    return next((size for size in _FIBONACCI if effort <= size), _FIBONACCI[-1])
