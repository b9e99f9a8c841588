"""
Derive acceptance criteria from an idea.

The kind of action supplies the usual outcomes.  Formats, limits, numbers and
conditions that the idea names make them specific.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from kiroworkers.offline.rules.idea import Idea
from kiroworkers.offline.rules.kinds import outcomes_of
from kiroworkers.offline.rules.people import in_third_person
from kiroworkers.offline.rules.words import (
    bare,
    capitalised,
    definite,
    is_plural,
    shorten,
    uncapitalised,
    with_article,
    words,
)

_MAX_CRITERIA = 6
_MAX_LENGTH = 200

_DURATION = re.compile(
    r"\b(?:within|in (?:less than|under|at most)|under|in less than|in no more than) "
    r"((?:\d+(?:\.\d+)?|one|two|three|five|ten|a) ?(?:ms|milliseconds?|s|seconds?|minutes?|"
    r"hours?|days?|clicks?|steps?))\b",
    re.I,
)
_FORMATS = {
    "csv": "The first row of the CSV file names the columns",
    "pdf": "The PDF file opens in a PDF reader and can be searched",
    "excel": "The Excel file opens in a spreadsheet program without a warning",
    "xlsx": "The Excel file opens in a spreadsheet program without a warning",
    "json": "The JSON file is read by a JSON parser without an error",
    "xml": "The XML file is read by an XML parser without an error",
    "markdown": "The Markdown file shows the headings and lists of the original",
    "html": "The HTML file opens in a browser without an error",
    "zip": "The ZIP file can be unpacked and holds every file once",
    "ical": "The iCal file can be opened in a calendar program",
}
_BY = re.compile(r"\bby ([^.;:()]{1,100})", re.I)
_KEYS_END = re.compile(r" (?:in|on|with|for|from|to|so|at|of|when|if|that|within|without|using)\b")
_NUMBER = r"(\d[\d.,]*(?: ?[\w%-]+){0,2})"
_AT_MOST = re.compile(
    rf"\b(?:up to|at most|no more than|a maximum of|maximum|not more than) {_NUMBER}",
    re.I,
)
_AT_LEAST = re.compile(rf"\b(?:at least|a minimum of|minimum|no fewer than) {_NUMBER}", re.I)
_SIZE = re.compile(r"\b(?:of|under|below) (\d+ ?(?:kb|mb|gb))\b", re.I)
_FREQUENCY = re.compile(
    r"\b((?:every|each) (?:\w*day|morning|evening|night|week|month|quarter|year|hour|\d+ \w+)(?: "
    r"at \d{1,2}(?::\d\d)?(?: ?[ap]m)?)?|daily|weekly|monthly|hourly|nightly)\b",
    re.I,
)
_WITHOUT = re.compile(r"\bwithout ((?:[\w'-]+ ){0,4}[\w'-]+)", re.I)
_WHERE = re.compile(
    r"\b(on (?:a |my |the |their )?(?:mobile|phones?|smartphones?|tablets?|touch screens?)|"
    r"offline|with the keyboard|by keyboard)\b",
    re.I,
)
_ONE_CLICK = re.compile(r"\b(?:with|in|by) (?:a single|one|1) (click|tap|step)\b", re.I)
_FACT = re.compile(
    r"\b(?:is|are|has|have|contains?|shows?|must|should|may|can|cannot|needs? to|gets?|appears?|"
    r"includes?|lists?)\b",
    re.I,
)
#: Kinds of action for which a named file format is a requirement.
_KINDS_WITH_FILES = ("export", "import", "report", "share", "use")
_CONDITION_WORDS = ("when", "if", "once", "after", "as soon", "while", "whenever", "each", "every")
_DEFAULT_OUTCOMES = ("The same is seen after signing in again", "The same is seen by another user")


def criteria_for(idea: Idea, actor: str, text: str) -> list[str]:
    """
    Return criteria that can be checked, the most significant first.

    Args:
        idea: The idea as understood.
        actor: The story's actor, such as "project manager".
        text: The idea's text, for its formats, limits and numbers.

    Returns:
        At least one sentence, and usually no more than eight.
    """
    outcomes = outcomes_of(idea.action, actor)
    if idea.fact:
        # The outcomes of the verb do not describe a state, so the first is left out.
        skipped = 0 if idea.action.kind == "fix" else 1
        outcomes = [idea.fact, *(outcomes[skipped:] if idea.action.kind else _DEFAULT_OUTCOMES)]
    elif idea.action.kind == "notify" and (condition := _notification_condition(idea)):
        outcomes = [f"The {actor} gets one message {in_third_person(condition)}", *outcomes[1:]]
    further = [
        outcomes_of(action, actor)[0]
        for action in idea.actions[1:]
        if action.kind != idea.action.kind
    ]
    specific = [*_condition_criteria(idea, actor), *_wording_criteria(idea, text)]
    ordered = [outcomes[0], *further, *specific, *_remark_criteria(idea), *outcomes[1:]]
    unique = dict.fromkeys(_sentence(criterion) for criterion in ordered)
    return list(unique)[: max(_MAX_CRITERIA, min(8, 1 + len(further) + len(specific)))]


def _notification_condition(idea: Idea) -> str:
    """
    Return the event that the actor is notified of.
    """
    rest = idea.action.rest if idea.action.verb.startswith("be ") else ""
    return idea.condition if idea.condition not in rest else rest


def _sentence(text: str) -> str:
    return shorten(capitalised(bare(text)), _MAX_LENGTH)


def _condition_criteria(idea: Idea, actor: str) -> Iterator[str]:
    condition = uncapitalised(idea.condition)
    if condition.startswith(_CONDITION_WORDS) and idea.action.kind != "notify" and not idea.fact:
        doing = in_third_person(idea.action.text.replace(f" {condition}", ""))
        yield f"{capitalised(in_third_person(condition))}, this happens: {doing}"
    elif condition.startswith("unless"):
        yield f"It does not happen when {condition.removeprefix('unless ')}"
    elif condition.startswith(("before", "until")) and idea.action.kind != "notify":
        yield f"It takes place {condition}, not afterwards"
    if idea.only:
        yield f"Anybody who is not {with_article(actor)} is refused with a message"


def _wording_criteria(idea: Idea, text: str) -> Iterator[str]:
    text_words = words(text)
    for name, sentence in _FORMATS.items():
        if name in text_words and idea.action.kind in _KINDS_WITH_FILES:
            if idea.action.kind == "import":
                yield f"A file that is not valid {name.upper()} is refused with a message"
            else:
                yield sentence
    if {"filtered", "selected", "chosen"} & set(text_words) and idea.action.kind == "export":
        yield "The file holds exactly what matches the filter or selection on the screen"
    if "two-factor" in text_words and idea.action.kind == "login":
        yield "With the password alone, without the second factor, access is refused"
    yield from _key_criteria(idea)
    for match in _DURATION.finditer(text):
        yield f"It is done within {match[1]}"
    for match in _ONE_CLICK.finditer(text):
        yield f"One {match[1].lower()} is enough"
    for match in _AT_MOST.finditer(text):
        amount = capitalised(_counted(match[1]))
        yield f"{amount} {_acceptance_clause(match[1])}; more is refused with a message"
    for match in _SIZE.finditer(text):
        yield f"A size of {match[1]} is accepted; a larger one is refused with a message"
    for match in _AT_LEAST.finditer(text):
        amount = _counted(match[1])
        yield f"{amount} {_acceptance_clause(match[1])}; fewer are refused with a message"
    for match in _FREQUENCY.finditer(text):
        yield f"It happens {_frequency(match[1])} without anybody starting it"
    for match in _WITHOUT.finditer(idea.action.text):
        yield f"It works without {bare(match[1])}"
    for match in _WHERE.finditer(text):
        yield f"It works {match[1].lower()}"
    if "real-time" in text_words or "realtime" in text_words or "real time" in text.lower():
        yield "A change is seen by others as soon as it is made, without reloading"


def _key_criteria(idea: Idea) -> Iterator[str]:
    """
    Yield one criterion for each key in a phrase like "by status and owner".
    """
    by_phrase = _BY.search(idea.action.text)
    if by_phrase is None or idea.action.kind not in ("filter", "sort", "search", "group", "report"):
        return
    target = definite(idea.action.object) if idea.action.object else "the entries"
    for phrase in re.split(r",? and |,? or |, ", _KEYS_END.split(by_phrase[1], maxsplit=1)[0])[:4]:
        key = re.sub(r"^(?:its|their|the|my|an?) ", "", phrase).strip()
        if not 1 <= len(key.split(" ")) <= 3:
            continue
        match idea.action.kind:
            case "filter":
                only = target if is_plural(target) else f"what in {target} has"
                joint = f" with that {key}" if is_plural(target) else f" that {key}"
                yield f"Choosing {with_article(key)} shows only {only}{joint}"
            case "sort":
                yield f"Sorting by {key} puts {target} in the order of their {key}"
            case "search":
                yield f"Searching by {key} shows only {target} with that {key}"
            case _:
                yield f"The result shows one group for each {key}"


def _frequency(frequency: str) -> str:
    return uncapitalised(frequency).replace("nightly", "every night")


def _counted(amount: str) -> str:
    return " ".join(
        word
        for word in amount.split(" ")
        if word.lower() not in ("of", "for", "per", "and", "in", "at", "long", "on", "to", "with")
    )


def _acceptance_clause(amount: str) -> str:
    return "are accepted" if is_plural(_counted(amount)) else "is accepted"


def _remark_criteria(idea: Idea) -> Iterator[str]:
    """
    Yield the other sentences of the idea that state a fact.
    """
    for remark in idea.remarks[:4]:
        if 3 <= len(words(remark)) <= 25 and _FACT.search(remark) and not remark.endswith("?"):
            yield remark
