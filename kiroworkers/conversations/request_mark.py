"""
Write and read the markers that say in a recording where a request begins and ends.

A marker is one line that a person can read, because players show it::

    >>> mark = RequestMark("answered", "r-1", {"task": "story", "characters": "312"})
    >>> mark.label()
    'answered request=r-1 task=story characters=312'
    >>> read_mark(mark.label()) == mark
    True
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

#: What a marker says: a prompt is about to be typed, the agent has replied, and the request has
#: ended or goes on with another worker.
ASKED, ANSWERED, ENDED, RETRY = "asked", "answered", "ended", "retry"

#: Pieces are missing, because the disk could not follow.
GAP = "gap"

#: A long session goes on in a new file; the last output before that is repeated.
CONTINUED = "continued"

#: The session is over.
CLOSED = "closed"

_PLAIN = re.compile(r"[\w.:/+,-]+", re.ASCII)
_FIELD = re.compile(r'([a-z0-9_]+)=("(?:[^"\\]|\\.)*"|[^\s"]*)', re.ASCII)

#: The longest value that a marker shows, in characters.
_MAX_VALUE = 200


@frozen
class RequestMark:
    """
    Represent a marker.

    Attributes:
        kind: What has happened.
        request: The identifier of the request; empty if the marker is not about one.
        data: More facts, by name.
    """

    kind: str
    request: str = ""
    data: Mapping[str, str] = field(factory=dict)

    def label(self) -> str:
        """
        Return the marker as one line.
        """
        facts = {"request": self.request, **self.data} if self.request else self.data
        return " ".join([self.kind, *(f"{name}={_quoted(facts[name])}" for name in facts)])

    def json(self) -> dict[str, str]:
        """
        Return the marker as a JSON object.
        """
        facts = {name: value[:_MAX_VALUE] for name, value in self.data.items()}
        return {"mark": self.kind, **({"request": self.request} if self.request else {}), **facts}


def read_mark(label: str) -> RequestMark | None:
    """
    Return the marker that `label` is, or None if it is a marker of another program.
    """
    kind, _, rest = label.partition(" ")
    if not _PLAIN.fullmatch(kind):
        return None
    facts: dict[str, str] = {}
    position = 0
    while position < len(rest):
        match = _FIELD.match(rest, position)
        if match is None:
            return None
        facts[match[1]] = _unquoted(match[2])
        position = match.end() + 1
    return RequestMark(kind, facts.pop("request", ""), facts)


def mark_from_json(value: Any) -> RequestMark | None:
    """
    Return the marker in a JSON object, or None if it is not one.
    """
    match value:
        case {"mark": str(kind)}:
            facts = {name: str(fact) for name, fact in value.items() if name != "mark"}
            return RequestMark(kind, facts.pop("request", ""), facts)
        case _:
            return None


def _quoted(value: str) -> str:
    value = value[:_MAX_VALUE]
    return value if _PLAIN.fullmatch(value) else json.dumps(value)


def _unquoted(value: str) -> str:
    if not value.startswith('"'):
        return value
    try:
        return str(json.loads(value))
    except ValueError:
        return value
