"""
Review a story by a few rules, each of which quotes what it found.

The rules look for what a story lacks and for fixed phrases.  They do not judge whether the
story is good, so a text that they cannot read gets no score.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from kiroworkers.offline.statements import is_english, shorten
from kiroworkers.offline.story import NO_ACTOR, NO_BENEFIT, NO_CONDITION, own_words

_ITEM = r"(?:(?:the |story |ticket |issue |task )*#\d+|[A-Z]{2,10}-\d+|(?:story|ticket|issue) \S+)"
#: What may be found anywhere in a story: the criterion, the pattern, what it means, what to do.
_PHRASES = [
    ("independent", rf"(?:depends on|blocked by|waits? for|requires|after|needs) {_ITEM}",
     "It waits for other work", "Reorder or join the stories, so that each can be done alone."),
    ("negotiable", r"(?:implement(?:ed)?|written|built|coded) (?:in|with|using) [\w.+#-]+",
     "It prescribes a solution", "State what is needed, and leave the means open."),
    ("estimable", r"etc\b|and so on\b|tb[dc]\b|somehow\b|as appropriate\b|\?\?+",
     "Its extent is open", "List everything that is included."),
]  # fmt: skip
_VAGUE = re.compile(
    r"\b(?:fast|faster|quick|quickly|slow|easy|easily|simple|intuitive|user-friendly|nice|good|better|"
    r"best|modern|robust|scalable|flexible|seamless|efficient|optimal|responsive|soon)\b",
    re.IGNORECASE,
)
#: The story points and the number of criteria from which on a story is to be split.
_LARGE, _MANY_CRITERIA = 8, 9
#: How much of the score each criterion counts.
_WEIGHTS = {
    "independent": 10, "negotiable": 10, "valuable": 25, "estimable": 15, "small": 15,
    "testable": 25,
}  # fmt: skip


def analyze_invest(request: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return the review for `request`, an accepted input of the task ``analyze-invest``.
    """
    story = request.get("story") or {}
    names = ("title", "asA", "iWant", "soThat", "description")
    parts = {name: " ".join(str(story.get(name) or "").split()) for name in names}
    criteria = [" ".join(str(text).split()) for text in story.get("acceptanceCriteria") or ()]
    criteria = [text for text in criteria if text]
    findings = [
        {"criterion": criterion, "message": message, "suggestion": suggestion}
        for criterion, message, suggestion in _findings(parts, criteria, story.get("storyPoint"))
    ]
    failed = {finding["criterion"] for finding in findings}
    words = f"{len(failed)} of 6 criteria have findings" if failed else "No rule found a problem"
    answer: dict[str, Any] = {
        "summary": f"{words}. The rules check the form; they do not understand the story.",
        "warnings": findings,
        "strengths": [
            f"{name} is stated: {_quoted(parts[name])}"
            for name in ("asA", "soThat")
            if parts[name] not in ("", NO_ACTOR, NO_BENEFIT)
        ],
    }
    if is_english(own_words(" ".join([*parts.values(), *criteria]))):
        answer["score"] = 100 - sum(_WEIGHTS[criterion] for criterion in failed)
    else:
        answer["summary"] += " There is no score: the text could not be read as English."
    return answer


def _findings(
    parts: Mapping[str, str], criteria: list[str], points: Any
) -> Iterator[tuple[str, str, str]]:
    text = "\n".join([*parts.values(), *criteria])
    for criterion, pattern, meaning, advice in _PHRASES:
        match = re.search(rf"(?<!\w){pattern}", text)
        if match is not None:
            yield criterion, f"{meaning}: {_quoted(match[0])}.", advice
    benefit, wish = parts["soThat"], parts["iWant"]
    if benefit in ("", NO_BENEFIT) and "so that" not in parts["title"].lower():
        yield "valuable", f"No benefit is stated: soThat is {_quoted(benefit)}.", (
            "Say in soThat why it is wanted.")  # fmt: skip
    elif benefit and benefit.lower() == wish.lower():
        yield "valuable", f"The benefit repeats the wish: {_quoted(benefit)}.", (
            "Say in soThat why it is wanted.")  # fmt: skip
    if isinstance(points, int) and points >= _LARGE:
        yield "small", f"It is estimated at {points} story points.", "Split it."
    elif wish.lower().count(" and ") >= 2 or wish.count(", ") >= 4:
        yield "small", f"It joins several wishes: {_quoted(wish)}.", (
            "Write one story for each of them.")  # fmt: skip
    elif len(criteria) >= _MANY_CRITERIA:
        yield "small", f"It has {len(criteria)} acceptance criteria.", "Split it."
    if not criteria:
        yield "testable", "There are no acceptance criteria.", (
            "Add what must be true for the story to be done.")  # fmt: skip
    for text in criteria:
        vague = _VAGUE.search(text)
        if text.startswith(NO_CONDITION):
            yield "testable", f"{_quoted(text)} states no condition.", (
                "Say what can be observed when it works.")  # fmt: skip
        elif vague is not None and not re.search(r"\d", text):
            yield "testable", f"{_quoted(text)} has no limit: {_quoted(vague[0])}.", (
                "Name a limit that can be measured.")  # fmt: skip
            break


def _quoted(text: str) -> str:
    return f"“{shorten(text, 120)}”" if text else "empty"
