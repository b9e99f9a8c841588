"""
Find what constrains a story, for the independent and negotiable criteria.

A story is independent if it waits for no other work, and negotiable if it prescribes no
solution.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from kiroworkers.offline.rules.finding import Finding
from kiroworkers.offline.rules.story_text import StoryText
from kiroworkers.offline.rules.words import (
    quote,
    sentences,
)

# Rules for the independent criterion.

_WORK = (
    r"(?:stor(?:y|ies)|tickets?|epics?|features?|issue|task|pull request|pr|api|backend|"
    r"endpoint|migration|release|service|other team|\w+ team|refactoring|upgrade)"
)
_TICKET = r"(?:#\d+|[A-Z][A-Z0-9]{1,9}-\d+)"
_NO_TICKETS = re.compile(r"\b(?:UTF|ISO|SHA|RFC|AES|HTTP|WCAG|COVID|IEC|EN|RS|CP|MD|TLS|DIN)-\d+")
_DEPENDS = re.compile(
    r"(?:^|\b(?:this|it|this story|which|and|story|work|but) (?:(?:is|also|strictly|only|can) )*)"
    r"(?P<what>(?:depends? (?:up)?on|dependent on|blocked by|relies on|builds on|waits? for|"
    r"waiting for|be done after|"
    r"start after|prerequisites?:|follow-up (?:to|of)) .{2,80})"
    rf"|\b(?P<other>(?:depends? on|dependent on|blocked by|relies on|requires?|needs?|waits? for|"
    rf"builds on|after|once)"
    rf"(?: the| our| another| a| an| other)?(?: [\w-]+){{0,3}}? (?:{_WORK} {_TICKET}|{_TICKET}|"
    rf"{_WORK} (?:first|to be \w+|"
    r"(?:is|are|has been|have been) (?:implemented|merged|deployed|developed|built|released|"
    r"finished|ready|live|in place))))"
    r"|\b(?P<done>(?:after|once|when|as soon as|until) [^.,]{2,60}? (?:is|are|has been|have been) "
    r"(?:implemented|merged|deployed|developed|rolled out|in production))\b",
    re.I,
)
_NAMES_STORY = re.compile(
    rf"\b(?:stor(?:y|ies)|ticket|issue|epic|pull request|task) (?:no\.? ?|number )?(?:#?\d+|"
    rf"{_TICKET})\b|(?:^|\s)#\d{{1,6}}\b|\b(?:see|like|from|with|as in|per) {_TICKET}"
)


def depends(story: StoryText) -> Iterator[Finding]:
    """
    Find a dependency on other work, or a reference to it.
    """
    for text in [*story.texts, *story.criteria]:
        for sentence in sentences(_NO_TICKETS.sub(" ", text)):
            match = _DEPENDS.search(sentence)
            if match is not None:
                dependency = match["what"] or match["other"] or match["done"]
                yield Finding(
                    f"The story waits for something else: {quote(dependency)}.",
                    f"Cut {quote(story.goal, 60)} so that it is of use without it, for example "
                    "with a stand-in for what is missing; or order the two and drop the remark.",
                )
                return
            match = _NAMES_STORY.search(sentence)
            if match is not None:
                yield Finding(
                    f"The story refers to another piece of work: {quote(match[0].strip())}.",
                    "Say here what the reader needs to know from it, and keep the link outside "
                    "the story's text.",
                )
                return


# Rules for the negotiable criterion.

_TECH = (
    r"react(?:\.js)?|angular|vue(?:\.js)?|svelte|jquery|django|flask|rails|laravel|spring(?: "
    r"boot)?|node(?:\.js)?|postgres(?:ql)?|mysql|mongo(?:db)?|redis|kafka|rabbitmq|graphql|"
    r"docker|kubernetes|elasticsearch|websockets?|bootstrap|tailwind|typescript|javascript|java|"
    r"python|rust|golang|php|sql|sqlite|dynamodb|lambda|aws|azure|terraform|microservices?|redux|"
    r"webpack|hibernate|celery|nginx|ajax|cron(?: ?jobs?)?|stored procedures?|machine learning|"
    r"blockchain|json schema"
)
_PRESCRIBES = (
    ("technology", re.compile(
        rf"\b(?:using|use|uses|via|with|written in|implemented (?:in|with)|built (?:in|with|on)|"
        rf"based on|"
        rf"by means of|on top of|through|in) (?:an? |the |our )?(?:new )?(?:{_TECH})\b(?! "
        rf"(?:files?|skills?|course))|"
        rf"\b(?:{_TECH}) (?:tables?|components?|library|query|queries|hooks?|widgets?|cache|"
        rf"jobs?|cluster|"
        r"framework|functions?|triggers?|index|endpoints?|backend|frontend)\b", re.I)),
    ("database", re.compile(
        r"\b(?:table|column|collection|index|field) [`\"']?[a-z]+_[a-z_]+[`\"']?|"
        r"\b[a-z]+_[a-z_]+[`\"']? (?:table|column|index)\b|\b(?:foreign|primary) keys?\b|"
        r"\bstored procedures?\b|\bdatabase tables?\b|\bselect \S+ from \w+", re.I)),
    ("code", re.compile(
        r"\b(?:REST|GraphQL|SOAP) endpoint\b|\b(?:GET|POST|PUT|PATCH|DELETE) /\w\S*|\b\w+\(\)|"
        r"\b(?:class|method|function) [`\"']?[a-z]+[A-Z]\w+|\b(?:singleton|factory|observer) "
        r"pattern\b")),
    ("measure of the screen", re.compile(
        r"\b\d+ ?(?:px|pixels?|rem|em)\b|#(?:[0-9a-f]{6}|(?=[0-9a-f]*[a-f])[0-9a-f]{3})\b", re.I)),
    ("colour or place", re.compile(
        r"\b(?:red|green|blue|yellow|orange|grey|gray|white|black|purple|pink) (?:button|link|"
        r"banner|icon|header|background|border|box|font|label)s?\b|\b(?:button|link|icon|menu|"
        r"box|banner|logo)s? (?:in|at|on) the (?:top|bottom|upper|lower|left|right)(?:[ "
        r"-](?:left|right))?(?: corner| side)?\b", re.I)),
)  # fmt: skip
_WIDGET = re.compile(
    r"\b(?:drop-?downs?|(?:modal|pop-?up)(?: (?:window|dialog))?|radio buttons?|checkbox(?:es)?|"
    r"hamburger menu|accordion|carousel|(?:left|right) sidebar|combo ?box)\b",
    re.I,
)


def prescribes(story: StoryText) -> Iterator[Finding]:
    """
    Find a technology, design or measure that the story prescribes.
    """
    for what, pattern in _PRESCRIBES:
        for text in [*story.texts, *story.criteria]:
            match = pattern.search(text)
            if match is not None:
                yield _prescribed(what, match[0], story)
                break


def prescribes_widget(story: StoryText) -> Iterator[Finding]:
    """
    Find a screen element that is named instead of its purpose.
    """
    for text in (story.title, story.wish):
        match = _WIDGET.search(text)
        if match is not None:
            yield _prescribed("element of the screen", match[0], story)
            return


def _prescribed(what: str, phrase: str, story: StoryText) -> Finding:
    return Finding(
        f"{quote(phrase.strip())} prescribes a solution ({what}).",
        f"Say what has to be achieved by {quote(story.goal, 60)} and leave "
        f"{quote(phrase.strip(), 40)} to those who build it; where it is a real constraint, give "
        "the reason for it.",
    )
