"""
Find who wants what, and why, where a text states it in a fixed form.

Nothing is inferred: without such a form, actor and benefit are unknown.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from kiroworkers.offline.statements import Statement

_PEOPLE = (
    "user|customer|client|admin|administrator|manager|editor|author|reader|visitor|guest|member|"
    "owner|developer|tester|designer|analyst|operator|agent|employee|student|teacher|buyer|seller|"
    "reviewer|auditor|accountant|engineer|doctor|nurse|patient|driver|subscriber|player|parent"
)
_PERSON = (
    rf"(?:the |an? |all |our |any |every |each |new )?(?P<actor>(?:[\w-]+ ){{0,2}}?(?:{_PEOPLE})s?)"
)
#: The actions with which ideas usually begin, so that "I want to" may precede them.
_ACTION = re.compile(
    r"(?:add|allow|approve|archive|assign|book|build|cancel|change|check|choose|compare|confirm|copy|"
    r"create|delete|display|download|edit|enable|export|filter|find|fix|generate|group|hide|import|"
    r"improve|integrate|invite|let|link|list|log|make|mark|merge|migrate|move|notify|open|pay|prevent|"
    r"print|publish|receive|reduce|remind|remove|rename|replace|report|reset|restore|save|schedule|"
    r"search|see|select|send|set|share|show|sign|sort|split|start|stop|store|support|switch|sync|tag|"
    r"track|translate|undo|update|upload|use|validate|view|warn)(?= |$)",
    re.IGNORECASE,
)
_MODAL = re.compile(r"\b(?:should|must|can|could|may|will)\b", re.IGNORECASE)
#: Who wants what: the usual template of a story in three languages, and a few English forms.
_WISHES = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"\bas (?:an?|the) (?P<actor>[^,;.]{1,80}?),? +(?:i|we) (?:want|need|would like|wish) +"
        r"(?:to +(?:be able to +)?)?(?P<wish>.+)",
        r"^als (?P<actor>[^,;.]{1,80}?),? +(?:möchten?|will|wollen|brauchen?) +(?:ich|wir) *,? *"
        r"(?P<wish>.+)",
        r"^en tant qu(?:e +|[’'])(?P<actor>[^,;.]{1,80}?),? +(?:je|nous) +"
        r"(?:veux|voulons|voudrais|souhaite|souhaitons) +(?P<wish>.+)",
        rf"^(?:(?:therefore|also|then|so|and),? )?(?:only )?{_PERSON} +(?:should|must|can|could|"
        r"may|need to|wants? to|would like to)(?! not\b)(?: be (?:able|allowed) to)? +(?P<wish>.+)",
        rf"^(?:let|allow|enable|help) {_PERSON} +(?:to +)?(?P<wish>.+)",
        r"^(?:i|we) (?:(?:want|need|would like) +to|should|must) +(?:be able to +)?(?P<wish>.+)",
        r"^it (?:should|must) be possible to +(?P<wish>.+)",
    )
]
_FOR = re.compile(rf"^[^,]*\bfor {_PERSON}[.!]?$", re.IGNORECASE)
#: Why: what begins a clause that states a benefit, a purpose or a reason.
_WHY = re.compile(
    r"(?:^|,? +)(?:(?:so that|damit|afin que|pour que) +(?P<benefit>.+)"
    r"|in order to +(?P<purpose>.+)|afin (?:de +|d[’'])(?P<but>.+)|because(?: of)? +(?P<reason>.+)"
    r"|for +(?P<grounds>[\w -]{1,40}? (?:reasons|purposes))\b.*)",
    re.IGNORECASE,
)
_WHY_FIRST = re.compile(
    r"^(?P<why>(?:so that|in order to|because) +[^,]{3,200}), +(?P<wish>.+)", re.IGNORECASE
)


class Wish(NamedTuple):
    """
    Hold who wants what and why; what the text does not state is empty.

    If `stated`, the wish completes "I want to" in the language of the text.
    """

    actor: str = ""
    wish: str = ""
    benefit: str = ""
    stated: bool = False


def read_wish(found: Iterable[Statement]) -> Wish:
    """
    Return what the statements of an idea say; the first that states something counts.
    """
    wishes = [_read(statement.text) for statement in found]
    whole = next((wish for wish in wishes if wish.stated), (wishes or [Wish()])[0])
    actor = next((wish.actor for wish in wishes if wish.actor), "")
    benefit = next((wish.benefit for wish in wishes if wish.benefit), "")
    return whole._replace(actor=whole.actor or actor, benefit=whole.benefit or benefit)


def starts_with_action(text: str) -> bool:
    """
    Return whether "I want to" may precede `text`, which is no whole sentence then.
    """
    return _ACTION.match(text) is not None and _MODAL.search(text) is None


def _read(text: str) -> Wish:
    text = text.rstrip(".!。 ") or text
    first = _WHY_FIRST.match(text)
    text = f"{first['wish']} {first['why']}" if first else text
    why = _WHY.search(text)
    benefit, rest = (
        ("", text) if why is None else (_benefit(why), text[: why.start()].rstrip(" ,;"))
    )
    for pattern in _WISHES:
        match = pattern.search(rest)
        if match is not None:
            return Wish(_one(match.groupdict().get("actor")), match["wish"].strip(), benefit, True)
    if why is not None and why["reason"] and not starts_with_action(rest):
        rest, benefit = text, ""  # The reason of a complaint is no benefit.
    actor = _FOR.match(rest)
    return Wish(_one(actor and actor["actor"]), rest or text, benefit)


def _benefit(why: re.Match[str]) -> str:
    if why["purpose"]:
        return f"it is possible to {why['purpose'].strip()}"
    reason = why["reason"] or why["grounds"]
    return (
        f"this reason is met: {reason.strip()}"
        if reason
        else (why["benefit"] or why["but"]).strip()
    )


def _one(actor: str | None) -> str:
    """
    Return `actor` in the singular if it is one of the known people.
    """
    actor = re.sub(rf"\b({_PEOPLE})s$", r"\1", (actor or "").strip(), flags=re.IGNORECASE)
    return actor.lower() if actor.lower() in _PEOPLE.split("|") else actor
