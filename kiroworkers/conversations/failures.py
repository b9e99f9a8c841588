"""
Why an agent gives no answer, by the words it says so in.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from attrs import field, frozen

from kiroworkers.conversations.events import AgentFailure

#: Every kind that a dialect may name.
FAILURE_KINDS = (
    "login_required",
    "login_expired",
    "throttled",
    "out_of_credits",
    "network",
    "context_full",
    "model_gone",
)

#: Longest text that is quoted as a proof.
_LONGEST_PROOF = 200

_DURATION = re.compile(
    r"\b(?:in|after|for|wait) (\d{1,6}) ?(s|m|h)(?:ec(?:ond)?s?|in(?:ute)?s?|(?:ou)?rs?)?\b", re.I
)
_SECONDS = {"s": 1, "m": 60, "h": 3600}


@frozen
class FailurePattern:
    """
    A text that proves a trouble.

    Attributes:
        kind: one of `FAILURE_KINDS`.
        text: searched in plain text.
        blocks: no prompt follows, because the agent waits for a choice.
    """

    kind: str
    text: re.Pattern[str] = field(eq=False)
    blocks: bool = False


def find_failure(signs: Iterable[FailurePattern], text: str) -> AgentFailure | None:
    """
    The trouble that the first of `signs` finds in what an agent said; the line
    that proves it is its detail.
    """
    for sign in signs:
        found = sign.text.search(text)
        if found is not None:
            start = text.rfind("\n", 0, found.start()) + 1
            end = text.find("\n", found.end())
            line = text[start : end if end >= 0 else len(text)].strip()
            return AgentFailure(sign.kind, line[:_LONGEST_PROOF], _patience(line))
    return None


def _patience(line: str) -> int | None:
    """
    How long to wait, in whole seconds, where `line` says it.
    """
    found = _DURATION.search(line)
    return int(found[1]) * _SECONDS[found[2].lower()] if found else None
