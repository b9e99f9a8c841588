"""
Reading an idea: who, what, why and under which condition.

`read_idea` knows the ways in which people write down what they wish ("As a …",
"Users should be able to …", "Let managers …", "CSV export") and takes the words
as they are where it knows none::

    >>> idea = read_idea("Let managers approve timesheets so that pay is right")
    >>> idea.actor, idea.action.text, idea.benefit
    ('manager', 'approve timesheets', 'pay is right')
"""

from __future__ import annotations

import re
from dataclasses import replace

from kiroworkers.offline.rules.action import split_clause
from kiroworkers.offline.rules.frames import AS_A, LONGEST_PHRASE, TROUBLE, Idea, framed
from kiroworkers.offline.rules.words import bare, sentences, shorten, tidy, uncapitalised

__all__ = ["Idea", "read_idea"]

_POLITE = re.compile(
    r"^(?:please|maybe|ideally|hi|hello|hey|also|basically|perhaps|i think|i believe|idea:|"
    r"feature request:|feature:|story:|user story:|(?:can|could|would) (?:we|you|i|one)(?: "
    r"please)?|is it possible to|why (?:can't|can) (?:i|we)|how (?:can|do) (?:i|we)|(?:it "
    r")?(?:would|might) be (?:really |very )?(?:nice|great|good|useful|helpful|cool|handy) (?:if|"
    r"to)(?: have)?|what if|wouldn't it be (?:nice|great) (?:if|to))[ ,:]+",
    re.I,
)
_BENEFIT = re.compile(
    r",? (?P<how>so that|so(?= (?:i|we|they|he|she|it|users|people|everyone|nobody|no one|our|my|"
    r"the)\b)|in order to|in order that|because|since(?= (?:i|we|they|it|the|our)\b)|as this|to "
    r"(?=avoid|reduce|prevent|ensure|make sure|save (?:time|money|effort|hours|costs)|speed up|"
    r"keep track|stay|comply|help (?:me|us|them)))\b,? *(?P<why>.*)$",
    re.I,
)
# "want to avoid" names the wish, not the reason for another.
_NO_PURPOSE = re.compile(
    r"\b(?:want|wants|need|needs|like|love|able|possible|try|trying|how|way|ability|option|have|"
    r"has|please)$",
    re.I,
)
_LEADING_OFTEN = re.compile(
    r"^((?:every|each) (?:\w+day|night|morning|evening|day|week|month|quarter|year|hour)(?: at "
    r"\d[\d:]*)?),? (.+)$",
    re.I,
)
_LEADING_WHY = re.compile(
    r"^(?P<how>in order to|so that|because|to (?=avoid|reduce|prevent|ensure|make sure|save|keep|"
    r"help|improve))\s*(?P<why>[^,]{3,200}), (?P<rest>.+)$",
    re.I,
)
_LEADING_WHEN = re.compile(
    r"^(?P<when>(?:when|whenever|if|once|after|before|as soon as|while|every time|each "
    r"time)\b[^,]{3,200}), (?:then )?(?P<rest>.+)$",
    re.I,
)


def read_idea(text: str) -> Idea:
    """
    What `text` says, as far as rules can tell.
    """
    said = sentences(text) or [tidy(text)]
    main = next((at for at, each in enumerate(said) if AS_A.match(each)), 0)
    whole = _LEADING_OFTEN.sub(_often_last, _unpolite(said[main]))
    remarks = [each for at, each in enumerate(said) if at != main]
    whole, benefit, plain_why = _split_benefit(whole)
    condition = ""
    leading = _LEADING_WHEN.match(whole)
    if leading is not None:
        whole, condition = _unpolite(leading["rest"]), uncapitalised(leading["when"])
    idea = framed(whole)
    if not benefit:
        benefit, remarks = _benefit_of_remarks(remarks)
    return replace(
        idea,
        benefit=_in_first_person(shorten(benefit, LONGEST_PHRASE), plain_why),
        condition=condition or split_clause(idea.actions[-1].text)[1],
        remarks=tuple(remarks),
    )


def _often_last(found: re.Match[str]) -> str:
    return f"{found[2]} {uncapitalised(found[1])}"


def _unpolite(text: str) -> str:
    # Three times are enough for "Hi, please could we".
    for _ in range(3):
        text = _POLITE.sub("", text, count=1)
    return text.rstrip("?").strip() or text


def _split_benefit(text: str) -> tuple[str, str, bool]:
    """
    `text` without its reason, the reason, and whether it says what should be.
    """
    leading = _LEADING_WHY.match(text)
    if leading is not None:
        return leading["rest"], *_reason(leading["how"], leading["why"])
    found = _BENEFIT.search(text)
    if (
        found is None
        or not found.start()
        or not found["why"].strip()
        or (_NO_PURPOSE.search(text[: found.start()]))
    ):
        return text, "", True
    return text[: found.start()], *_reason(found["how"], found["why"])


def _reason(how: str, why: str) -> tuple[str, bool]:
    how, why = how.lower().strip(), bare(why)
    if how.startswith(("in order to", "to")):
        return f"I can {uncapitalised(why)}", True
    if how in ("because", "since", "as this"):
        needed = re.match(r"(i|we|they) (?:need to|have to|want to|must) (.+)", why, re.I)
        if needed is not None:
            return f"{needed[1]} can {needed[2]}", True
        if TROUBLE.search(why):
            return f"it no longer matters that {uncapitalised(why)}", False
        return f"this need is met: {uncapitalised(why)}", False
    return uncapitalised(why), True


def _benefit_of_remarks(remarks: list[str]) -> tuple[str, list[str]]:
    for at, remark in enumerate(remarks):
        found = re.match(
            r"(?:this|that|it) (?:would |will |should )?(?:helps?|lets?|allows?) (?:us|me|them|"
            r"users) (?:to )?(.+)$|(?:so that|so) (.+)$",
            remark,
            re.I,
        )
        if found is not None:
            rest = remarks[:at] + remarks[at + 1 :]
            return (f"I can {found[1]}" if found[1] else uncapitalised(found[2])), rest
    return "", remarks


def _in_first_person(benefit: str, plain: bool) -> str:
    """
    "they can plan" as "I can plan": the actor speaks.
    """
    if not plain:
        return benefit
    return re.sub(
        r"^(?:they|he or she|he/she|users|the user) (?=(?:can (?!be\b)|could (?!be\b)|know|do "
        r"not|don't|have|need|no longer|never|always|get|see|save|spend|understand|learn|find|"
        r"stop))",
        "I ",
        benefit,
        flags=re.I,
    ).replace("I can save their ", "I can save my ")
