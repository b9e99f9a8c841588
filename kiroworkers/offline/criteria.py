"""
Acceptance criteria for an idea: what its kind of action leads to, sharpened by
the formats, limits, numbers and conditions in its words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from kiroworkers.offline.idea import Idea
from kiroworkers.offline.kinds import filled, kind_for
from kiroworkers.offline.words import (
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
    r"((?:\d+(?:\.\d+)?|one|two|three|five|ten|a) ?(?:ms|milliseconds?|s|seconds?|minutes?|hours?|"
    r"days?|clicks?|steps?))\b",
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
_BY = re.compile(r"\bby ((?:[\w-]+ )?[\w-]+(?:(?:, | and | or )(?:[\w-]+ )?[\w-]+){0,3})", re.I)
_NUMBER = r"(\d[\d.,]*(?: ?[\w%-]+){0,2})"
_AT_MOST = re.compile(
    rf"\b(?:up to|at most|no more than|a maximum of|maximum|not more than) {_NUMBER}", re.I)  # fmt: skip
_AT_LEAST = re.compile(rf"\b(?:at least|a minimum of|minimum|no fewer than) {_NUMBER}", re.I)
_SIZE = re.compile(r"\b(?:of|under|below) (\d+ ?(?:kb|mb|gb))\b", re.I)
_OFTEN = re.compile(
    r"\b((?:every|each) (?:\w*day|morning|evening|night|week|month|quarter|year|hour|\d+ \w+)"
    r"(?: at \d{1,2}(?::\d\d)?(?: ?[ap]m)?)?|daily|weekly|monthly|hourly|nightly)\b",
    re.I,
)
_WITHOUT = re.compile(r"\bwithout ((?:[\w'-]+ ){0,4}[\w'-]+)", re.I)
_WHERE = re.compile(
    r"\b(on (?:a |my |the |their )?(?:mobile|phones?|smartphones?|tablets?|touch screens?)|"
    r"offline|with the keyboard|by keyboard)\b", re.I)  # fmt: skip
_ONE_CLICK = re.compile(r"\b(?:with|in|by) (?:a single|one|1) (click|tap|step)\b", re.I)
_FACT = re.compile(
    r"\b(?:is|are|has|have|contains?|shows?|must|should|may|can|cannot|needs? to|gets?|appears?|"
    r"includes?|lists?)\b",
    re.I,
)
_STATE = re.compile(r"^have (?P<subject>.+?) (?P<state>(?:at|sorted|shown|be|in|no|within).+)$")


def criteria_for(idea: Idea, actor: str, text: str) -> list[str]:
    """
    At least one sentence that can be checked; the most telling first.
    """
    templates = kind_for(idea.action).outcomes
    own = [filled(each, idea.action, actor) for each in templates]
    found = [*_of_problem(idea), *_of_condition(idea, actor), *_of_words(idea, actor, text)]
    further = [
        filled(kind_for(each).outcomes[0], each, actor)
        for each in idea.actions[1:] if each.kind != idea.action.kind
    ]  # fmt: skip
    first = [] if idea.action.verb == "make sure" or (found and _is_state(idea)) else own[:1]
    ordered = [*first, *further, *found, *_of_remarks(idea), *own[len(first) :]]
    unique = dict.fromkeys(_sentence(each) for each in ordered)
    return list(unique)[: max(_MOST, min(8, 1 + len(further) + len(found)))]


def _sentence(text: str) -> str:
    return shorten(capitalised(bare(text)), _LONGEST)


def _is_state(idea: Idea) -> bool:
    return idea.action.verb in ("have", "be sure") and idea.action.text.startswith(
        ("have ", "be s")
    )


def _of_problem(idea: Idea) -> Iterator[str]:
    """
    What is said of a thing rather than done by somebody.
    """
    text = idea.action.text
    if text.startswith("have this problem fixed: "):
        yield f"It no longer happens that {text.partition(': ')[2]}"
    elif text.startswith(("make sure that ", "be sure that ")):
        yield f"A check shows that {text.partition(' that ')[2]}"
    elif idea.action.verb == "have" and idea.action.object and text != f"have {idea.action.object}":
        subject = idea.action.object
        state = text.removeprefix("have ").removeprefix(subject).strip()
        if state and not state.startswith(("of ", "to ", "for ", "with ", "that ", "which ")):
            yield f"A check shows {subject} {state}"
            yield f"Where it is not so, a message at {definite(subject)} gives the reason"


def _of_condition(idea: Idea, actor: str) -> Iterator[str]:
    condition = uncapitalised(idea.condition)
    if condition and idea.action.kind == "notify":
        yield f"The {actor} gets a message {condition}"
    elif condition.startswith(("when", "if", "once", "after", "as soon", "while", "whenever")):
        yield f"{capitalised(condition)}, this happens: {idea.action.text.replace(' ' + condition, '')}"
    elif condition.startswith("unless"):
        yield f"It does not happen when {condition.removeprefix('unless ')}"
    elif condition.startswith(("before", "until")):
        yield f"It takes place {condition}, not afterwards"
    if idea.only:
        yield f"Anybody who is not {with_article(actor)} is refused with a message"


def _of_words(idea: Idea, actor: str, text: str) -> Iterator[str]:
    said = words(text)
    for name, sentence in _FORMATS.items():
        if name in said and idea.action.kind in ("export", "import", "report", "share", "use"):
            yield sentence if idea.action.kind != "import" else (
                f"A file that is not valid {name.upper()} is refused with a message")  # fmt: skip
    if {"filtered", "selected", "chosen"} & set(said) and idea.action.kind == "export":
        yield "The file holds exactly what matches the filter or selection on the screen"
    if "login" in said or "authentication" in said or "two-factor" in said:
        yield "Without the right credentials, access is refused"
    yield from _of_keys(idea)
    for found in _DURATION.finditer(text):
        yield f"It is done within {found[1]}"
    for found in _ONE_CLICK.finditer(text):
        yield f"One {found[1].lower()} is enough"
    for found in _AT_MOST.finditer(text):
        yield f"{capitalised(_numbered(found[1]))} {_accepted(found[1])}; more is refused with a message"
    for found in _SIZE.finditer(text):
        yield f"A size of {found[1]} is accepted; a larger one is refused with a message"
    for found in _AT_LEAST.finditer(text):
        yield f"{_numbered(found[1])} {_accepted(found[1])}; fewer are refused with a message"
    for found in _OFTEN.finditer(text):
        yield f"It happens {found[1].lower().replace('nightly', 'every night')} without anybody starting it"
    for found in _WITHOUT.finditer(idea.action.text):
        yield f"It works without {bare(found[1])}"
    for found in _WHERE.finditer(text):
        yield f"It works {found[1].lower()}"
    if "real-time" in said or "realtime" in said or "real time" in text.lower():
        yield "A change is seen by others within 2 seconds, without reloading"


def _of_keys(idea: Idea) -> Iterator[str]:
    """
    "by status and owner": one check for each.
    """
    found = _BY.search(idea.action.text)
    if found is None or idea.action.kind not in ("filter", "sort", "search", "group", "report"):
        return
    it = definite(idea.action.object) if idea.action.object else "the entries"
    for key in re.split(r", | and | or ", found[1]):
        key = re.sub(r"^(?:its|their|the|my|an?) ", "", key)
        match idea.action.kind:
            case "filter":
                yield f"Choosing {with_article(key)} shows only {it} with that {key}"
            case "sort":
                yield f"Sorting by {key} puts {it} in the order of their {key}"
            case "search":
                yield f"Searching by {key} shows only {it} with that {key}"
            case _:
                yield f"The result shows one group for each {key}"


def _numbered(amount: str) -> str:
    return " ".join(
        each for each in amount.split(" ")
        if each.lower() not in ("of", "for", "per", "and", "in", "at", "long", "on", "to", "with")
    )  # fmt: skip


def _accepted(amount: str) -> str:
    return "are accepted" if is_plural(_numbered(amount)) else "is accepted"


def _of_remarks(idea: Idea) -> Iterator[str]:
    """
    What the idea says in further sentences, where it states a fact.
    """
    for remark in idea.remarks[:4]:
        if 3 <= len(words(remark)) <= 25 and _FACT.search(remark) and not remark.endswith("?"):
            yield remark
