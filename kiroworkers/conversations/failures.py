"""
Recognize why an agent gives no answer, from the words that it prints.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from attrs import field, frozen

from kiroworkers.conversations.events import AgentFailure
from kiroworkers.errors import FailureKind

#: Every kind of failure that a dialect file may name; the others are not recognized by
#: words.
FAILURE_KINDS = (
    FailureKind.LOGIN_REQUIRED,
    FailureKind.LOGIN_EXPIRED,
    FailureKind.THROTTLED,
    FailureKind.SUSPENDED,
    FailureKind.OUT_OF_CREDITS,
    FailureKind.NETWORK,
    FailureKind.STREAM_TIMEOUT,
    FailureKind.CONTEXT_FULL,
    FailureKind.MODEL_GONE,
    FailureKind.REFUSAL,
    FailureKind.AGENT_ERROR,
)

#: The maximum number of characters of the agent's line that a failure's detail quotes.
_MAX_DETAIL_LENGTH = 200

_DURATION = re.compile(
    r"\b(?:in|after|for|wait) (\d{1,6}) ?(s|m|h)(?:ec(?:ond)?s?|in(?:ute)?s?|(?:ou)?rs?)?\b", re.I
)
#: The period of a limit, which is the longest possible wait.
_WINDOW = re.compile(r"\b(\d{1,4})-(s|m|h)(?:econd|inute|our) (?:\w{1,20} ){0,3}limit\b", re.I)
_SECONDS_PER_UNIT = {"s": 1, "m": 60, "h": 3600}


@frozen
class FailurePattern:
    """
    Represent a text by which a failure of the agent is recognized.

    Attributes:
        kind: The kind of failure; one of `FAILURE_KINDS`.
        text: The pattern to search for in the agent's output as plain text.
        blocks: Whether no prompt follows, because the agent waits for a choice.
    """

    kind: FailureKind
    text: re.Pattern[str] = field(eq=False)
    blocks: bool = False


def find_failure(patterns: Iterable[FailurePattern], text: str) -> AgentFailure | None:
    """
    Return the failure of the first of `patterns` that matches `text`, or None.

    The whole line around the match becomes the failure's detail.
    """
    for pattern in patterns:
        match = pattern.text.search(text)
        if match is not None:
            start = text.rfind("\n", 0, match.start()) + 1
            end = text.find("\n", match.end())
            line = text[start : end if end >= 0 else len(text)].strip()
            detail, delay = line[:_MAX_DETAIL_LENGTH], _seconds_to_wait(line)
            return AgentFailure(pattern.kind, detail, delay, words=match[0])
    return None


def _seconds_to_wait(line: str) -> int | None:
    """
    Return the waiting time that `line` names, in whole seconds; None if it names none.
    """
    match = _DURATION.search(line) or _WINDOW.search(line)
    return int(match[1]) * _SECONDS_PER_UNIT[match[2].lower()] if match else None
