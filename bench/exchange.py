"""
What is said in the exchange that is measured, for those that know no dialect,
task or schema: a story is asked for, and the agent is made to forget it.
"""

from __future__ import annotations

import json
import re

from kiroworkers.tasks import builtin_tasks

#: The line editor reads again: what was asked for is done.
PROMPT = b"\x1b[?2004h"

CLEAR = b"/clear\r"
CONFIRM = b"y\r"

#: The line editor was left: what follows is no echo any more.
_SUBMITTED = b"\x1b[?2004l"

_STORY = builtin_tasks()["generate-story"]
_JSON = re.compile(rb"\{.*\}", re.DOTALL)


def prompt(idea: str) -> str:
    """
    What the server would ask.
    """
    return _STORY.prompt(_STORY.accept({"idea": idea}))


#: The prompt's text before and after the idea.
_BEFORE, _AFTER = prompt("<idea>").split('"<idea>"')


def payload(idea: str) -> bytes:
    """
    The keys that ask for a story for `idea`, with no more care than it takes.
    """
    return f"\x1b[200~{_BEFORE}{json.dumps(idea)}{_AFTER}\x1b[201~\r".encode()


def request(idea: str) -> bytes:
    """
    What a client sends to ask for a story for `idea`.
    """
    body = json.dumps({"idea": idea}).encode()
    return (
        b"POST /kiro/generate-story HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    ) + body


def answer(printed: bytes) -> bytes:
    """
    The JSON in what was printed in a turn, as it stands there.
    """
    found = _JSON.search(printed, printed.find(_SUBMITTED))
    if found is None:
        raise RuntimeError(f"no JSON in {printed!r}")
    return found[0]
