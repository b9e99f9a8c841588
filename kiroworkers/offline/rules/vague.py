"""
Find words that every reader understands differently, and suggest checks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from kiroworkers.offline.rules.words import without_quotes

#: Patterns of vague words, each with a template of an observable check.
_CHECKS: tuple[tuple[str, str], ...] = (
    (r"fast(?:er|est)?|quick(?:ly|er)?(?! (?:search|filter|view|link|access|start|action|add))|"
     r"rapid(?:ly)?|speedy|performant|good performance|performance is (?:good|ok|fine)|"
     r"responsive|instant(?:ly)?|low latency",
     "the result is seen within a time agreed beforehand, such as 2 seconds"),
    (r"user[- ]friendly|easy(?: to \w+)?|easily|easier|intuitive(?:ly)?|simple to \w+|is simple|"
     r"convenient(?:ly)?|effortless(?:ly)?|seamless(?:ly)?|smooth(?:ly)?|comfortable|"
     r"understandable",
     "{an_actor} who has not seen it before can {action} without help"),
    (r"(?:is|are|be|look|looks) (?:nice|good|great|beautiful|attractive|clean)|modern|sleek|"
     r"pretty|nicer|nice[- ]looking",
     "the screen matches the design agreed on"),
    (r"(?:is|are|be|more|fully) secure(?:ly)?|securely|(?:is|are|be) safe",
     "somebody who is not signed in is refused"),
    (r"reliabl[ey]|robust(?:ly)?|(?:is|are|be) stable|resilient",
     "done ten times in a row, it ends with the same result each time"),
    (r"scalable|scales(?: well)?",
     "with ten times the usual number of entries, it still ends within the time agreed"),
    (r"works? (?:well|fine|correctly|properly|as expected|as intended|as it should|as before)|"
     r"works?$|functions? (?:well|correctly|properly)|correctly|properly|as expected|"
     r"appropriate(?:ly)?|adequate(?:ly)?|suitabl[ey]|reasonabl[ey]|sufficient(?:ly)?",
     "after {an_actor} tries to {action}, what is shown is what was asked for"),
    (r"better|improved?|improvements?|enhanced?|optimi[sz]ed?|efficient(?:ly)?|more "
     r"effective(?:ly)?|flexible|flexibly|powerful",
     "a figure agreed on beforehand is measured before and after, and has improved"),
    (r"various|several|some(?! (?:time|day)\b)|etc\.?|and so on|and more|and others?|and such|"
     r"stuff|a few|a lot of|lots of|many(?!-)|things?|different kinds of|somehow|maybe|possibly|"
     r"perhaps|as needed|if possible|where (?:appropriate|necessary|possible)|if (?:needed|"
     r"necessary)",
     "each case that is meant is listed, and each gives the result described"),
    (r"tbd|tba|tbc|todo|(?<!has )(?<!have )to be (?:defined|decided|determined|discussed)|\?\?+|"
     r"xxx",
     "what is still open here is decided, and the decision is seen on the screen"),
)  # fmt: skip
_PATTERNS = tuple(
    (re.compile(rf"(?<![\w-])(?:{pattern})(?![\w-])", re.I), check) for pattern, check in _CHECKS
)
_MEASURE = re.compile(
    r"\d+(?:[.,]\d+)? ?(?:%|ms\b|s\b|sec|min|hour|day|week|month|click|step|px|kb\b|mb\b|gb\b|"
    r"times|entries|rows|users|percent|pages?|files?|characters?)|\b(?:one|two|three|five|ten|"
    r"half) (?:second|minute|hour|day|click|step)s?\b|\bby half\b|\bmeasured\b",
    re.I,
)


def has_measure(text: str) -> bool:
    """
    Return whether `text` gives a figure, such as "5 seconds".
    """
    return _MEASURE.search(text) is not None


def vague_words(text: str) -> Iterator[tuple[str, str]]:
    """
    Yield the vague words of `text` in order, each with a template of a check.

    Quoted words do not count.  A text that gives a figure has no vague words.  The
    templates contain `{an_actor}` and `{action}`.
    """
    text = without_quotes(text)
    if has_measure(text):
        return
    matches = []
    for pattern, check in _PATTERNS:
        matches += [(match.start(), match[0], check) for match in pattern.finditer(text)]
    for _, word, check in sorted(matches):
        yield word, check
