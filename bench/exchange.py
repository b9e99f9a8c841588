"""
Define the exchange that is measured, for programs without dialects and schemas.

A story is requested, and the agent is told to clear its conversation.
"""

from __future__ import annotations

import json
import re

from kiroworkers.tasks import builtin_tasks

#: Printed when the line editor reads again, so that the turn is over.
PROMPT = b"\x1b[?2004h"

CLEAR = b"/clear\r"
CONFIRM = b"y\r"

#: Printed when the line editor ends, so that the output that follows is no echo.
_SUBMITTED = b"\x1b[?2004l"

_STORY = builtin_tasks()["generate-story"]
_JSON = re.compile(rb"\{.*\}", re.DOTALL)


def prompt(idea: str) -> str:
    """
    Return the prompt that the server would send for `idea`.
    """
    return _STORY.prompt(_STORY.accept({"idea": idea}))


#: The prompt's text before and after the idea.
_BEFORE, _AFTER = prompt("<idea>").split('"<idea>"')


def payload(idea: str) -> bytes:
    """
    Return the keys that request a story for `idea`, with minimal care.
    """
    return f"\x1b[200~{_BEFORE}{json.dumps(idea)}{_AFTER}\x1b[201~\r".encode()


def request(idea: str) -> bytes:
    """
    Return the HTTP request that asks for a story for `idea`.
    """
    body = json.dumps({"idea": idea}).encode()
    return (
        b"POST /kiro/generate-story HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    ) + body


def answer(printed: bytes) -> bytes:
    """
    Return the JSON in the output of a turn, as it was printed.
    """
    match = _JSON.search(printed, printed.find(_SUBMITTED))
    if match is None:
        raise RuntimeError(f"no JSON in {printed!r}")
    return match[0]
