"""
Read an idea: who wants what, why, and under which condition.

`read_idea` knows the usual forms of a wish ("As a …", "Users should be able to …", "Let
managers …", "CSV export").  If none matches, it takes the words as they are::

    >>> idea = read_idea("Let managers approve timesheets so that pay is right")
    >>> idea.actor, idea.action.text, idea.benefit
    ('manager', 'approve timesheets', 'pay is right')
"""

from __future__ import annotations

import re
from dataclasses import replace

from kiroworkers.offline.rules.action import split_clause
from kiroworkers.offline.rules.sentence_patterns import (
    AS_A,
    MAX_PHRASE_LENGTH,
    TROUBLE,
    Idea,
    read_sentence,
)
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
# After these words, "to avoid" names the wish and not the reason for another wish.
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
    Return the idea in `text`, as far as the rules understand it.

    Any text is accepted; `Idea.understood` tells whether it looked like English.
    """
    text_sentences = sentences(text) or [tidy(text)]
    main = next((index for index, sentence in enumerate(text_sentences) if AS_A.match(sentence)), 0)
    wish = _LEADING_OFTEN.sub(_move_frequency_last, _without_politeness(text_sentences[main]))
    remarks = [sentence for index, sentence in enumerate(text_sentences) if index != main]
    wish, benefit, plain_why = _split_benefit(wish)
    condition = ""
    leading = _LEADING_WHEN.match(wish)
    if leading is not None:
        wish, condition = _without_politeness(leading["rest"]), uncapitalised(leading["when"])
    idea = read_sentence(wish)
    if not benefit:
        benefit, remarks = _benefit_of_remarks(remarks)
    return replace(
        idea,
        benefit=_in_first_person(shorten(benefit, MAX_PHRASE_LENGTH), plain_why),
        condition=condition or split_clause(idea.actions[-1].text)[1],
        remarks=tuple(remarks),
    )


def _move_frequency_last(match: re.Match[str]) -> str:
    return f"{match[2]} {uncapitalised(match[1])}"


def _without_politeness(text: str) -> str:
    # Three times, for openings such as "Hi, please could we".
    for _ in range(3):
        text = _POLITE.sub("", text, count=1)
    return text.rstrip("?").strip() or text


def _split_benefit(text: str) -> tuple[str, str, bool]:
    """
    Split a wish from its reason.

    Returns:
        The wish, the reason (may be empty), and whether the reason states a desired
        result rather than a problem or need.
    """
    leading = _LEADING_WHY.match(text)
    if leading is not None:
        return leading["rest"], *_reason(leading["how"], leading["why"])
    match = _BENEFIT.search(text)
    if (
        match is None
        or not match.start()
        or not match["why"].strip()
        or (_NO_PURPOSE.search(text[: match.start()]))
    ):
        return text, "", True
    return text[: match.start()], *_reason(match["how"], match["why"])


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
    for index, remark in enumerate(remarks):
        match = re.match(
            r"(?:this|that|it) (?:would |will |should )?(?:helps?|lets?|allows?) (?:us|me|them|"
            r"users) (?:to )?(.+)$|(?:so that|so) (.+)$",
            remark,
            re.I,
        )
        if match is not None:
            rest = remarks[:index] + remarks[index + 1 :]
            return (f"I can {match[1]}" if match[1] else uncapitalised(match[2])), rest
    return "", remarks


def _in_first_person(benefit: str, plain: bool) -> str:
    """
    Return a benefit such as "they can plan" as the actor says it: "I can plan".
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
