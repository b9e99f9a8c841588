"""
Acceptance criteria for an idea: what its kind of action leads to, sharpened by
the formats, limits, numbers and conditions in its words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from kiroworkers.offline.rules.idea import Idea
from kiroworkers.offline.rules.kinds import outcomes_of
from kiroworkers.offline.rules.people import about_them
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

_MOST = 6
_LONGEST = 200

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
_OFTEN = re.compile(
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
_WHENS = ("when", "if", "once", "after", "as soon", "while", "whenever", "each", "every")
_ALWAYS_SO = ("The same is seen after signing in again", "The same is seen by another user")


def criteria_for(idea: Idea, actor: str, text: str) -> list[str]:
    """
    At least one sentence that can be checked; the most telling first.
    """
    own = outcomes_of(idea.action, actor)
    if idea.fact:
        # What its verb would lead to says nothing of something that is to be so.
        skipped = 0 if idea.action.kind == "fix" else 1
        own = [idea.fact, *(own[skipped:] if idea.action.kind else _ALWAYS_SO)]
    elif idea.action.kind == "notify" and (told := _told(idea)):
        own = [f"The {actor} gets one message {about_them(told)}", *own[1:]]
    further = [
        outcomes_of(each, actor)[0] for each in idea.actions[1:] if each.kind != idea.action.kind
    ]
    found = [*_of_condition(idea, actor), *_of_words(idea, text)]
    ordered = [own[0], *further, *found, *_of_remarks(idea), *own[1:]]
    unique = dict.fromkeys(_sentence(each) for each in ordered)
    return list(unique)[: max(_MOST, min(8, 1 + len(further) + len(found)))]


def _told(idea: Idea) -> str:
    """
    When somebody is told: what follows "be notified", or the condition.
    """
    rest = idea.action.rest if idea.action.verb.startswith("be ") else ""
    return idea.condition if idea.condition not in rest else rest


def _sentence(text: str) -> str:
    return shorten(capitalised(bare(text)), _LONGEST)


def _of_condition(idea: Idea, actor: str) -> Iterator[str]:
    condition = uncapitalised(idea.condition)
    if condition.startswith(_WHENS) and idea.action.kind != "notify" and not idea.fact:
        doing = about_them(idea.action.text.replace(f" {condition}", ""))
        yield f"{capitalised(about_them(condition))}, this happens: {doing}"
    elif condition.startswith("unless"):
        yield f"It does not happen when {condition.removeprefix('unless ')}"
    elif condition.startswith(("before", "until")) and idea.action.kind != "notify":
        yield f"It takes place {condition}, not afterwards"
    if idea.only:
        yield f"Anybody who is not {with_article(actor)} is refused with a message"


def _of_words(idea: Idea, text: str) -> Iterator[str]:
    said = words(text)
    for name, sentence in _FORMATS.items():
        if name in said and idea.action.kind in ("export", "import", "report", "share", "use"):
            yield (
                sentence
                if idea.action.kind != "import"
                else (f"A file that is not valid {name.upper()} is refused with a message")
            )
    if {"filtered", "selected", "chosen"} & set(said) and idea.action.kind == "export":
        yield "The file holds exactly what matches the filter or selection on the screen"
    if "two-factor" in said and idea.action.kind == "login":
        yield "With the password alone, without the second factor, access is refused"
    yield from _of_keys(idea)
    for found in _DURATION.finditer(text):
        yield f"It is done within {found[1]}"
    for found in _ONE_CLICK.finditer(text):
        yield f"One {found[1].lower()} is enough"
    for found in _AT_MOST.finditer(text):
        amount = capitalised(_numbered(found[1]))
        yield f"{amount} {_accepted(found[1])}; more is refused with a message"
    for found in _SIZE.finditer(text):
        yield f"A size of {found[1]} is accepted; a larger one is refused with a message"
    for found in _AT_LEAST.finditer(text):
        yield f"{_numbered(found[1])} {_accepted(found[1])}; fewer are refused with a message"
    for found in _OFTEN.finditer(text):
        yield f"It happens {_often(found[1])} without anybody starting it"
    for found in _WITHOUT.finditer(idea.action.text):
        yield f"It works without {bare(found[1])}"
    for found in _WHERE.finditer(text):
        yield f"It works {found[1].lower()}"
    if "real-time" in said or "realtime" in said or "real time" in text.lower():
        yield "A change is seen by others as soon as it is made, without reloading"


def _of_keys(idea: Idea) -> Iterator[str]:
    """
    "by status and owner": one check for each.
    """
    found = _BY.search(idea.action.text)
    if found is None or idea.action.kind not in ("filter", "sort", "search", "group", "report"):
        return
    it = definite(idea.action.object) if idea.action.object else "the entries"
    for said in re.split(r",? and |,? or |, ", _KEYS_END.split(found[1], maxsplit=1)[0])[:4]:
        key = re.sub(r"^(?:its|their|the|my|an?) ", "", said).strip()
        if not 1 <= len(key.split(" ")) <= 3:
            continue
        match idea.action.kind:
            case "filter":
                only = it if is_plural(it) else f"what in {it} has"
                joint = f" with that {key}" if is_plural(it) else f" that {key}"
                yield f"Choosing {with_article(key)} shows only {only}{joint}"
            case "sort":
                yield f"Sorting by {key} puts {it} in the order of their {key}"
            case "search":
                yield f"Searching by {key} shows only {it} with that {key}"
            case _:
                yield f"The result shows one group for each {key}"


def _often(found: str) -> str:
    return uncapitalised(found).replace("nightly", "every night")


def _numbered(amount: str) -> str:
    return " ".join(
        each
        for each in amount.split(" ")
        if each.lower() not in ("of", "for", "per", "and", "in", "at", "long", "on", "to", "with")
    )


def _accepted(amount: str) -> str:
    return "are accepted" if is_plural(_numbered(amount)) else "is accepted"


def _of_remarks(idea: Idea) -> Iterator[str]:
    """
    What the idea says in further sentences, where it states a fact.
    """
    for remark in idea.remarks[:4]:
        if 3 <= len(words(remark)) <= 25 and _FACT.search(remark) and not remark.endswith("?"):
            yield remark
