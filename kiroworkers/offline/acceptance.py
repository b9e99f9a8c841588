"""
Write an acceptance test in the words of a story.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from kiroworkers.offline.statements import shorten, statements
from kiroworkers.offline.story import NO_ACTOR
from kiroworkers.offline.wishes import read_wish

_STEPS = re.compile(
    r"^given (?P<given>.+?),? +when (?P<when>.+?),? +then (?P<then>.+)$", re.IGNORECASE
)


def generate_test(request: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return the test for `request`, an accepted input of the task ``generate-test``.
    """
    story: Mapping[str, Any] = request.get("story") or {}
    title = " ".join(str(story.get("title") or "").split()) or "-"
    told = read_wish(statements(title))
    actor = " ".join(str(story.get("asA") or told.actor).split())
    action = " ".join(str(story.get("iWant") or told.wish or title).split())
    parts: dict[str, dict[str, None]] = {"given": {}, "when": {}, "then": {}}
    for criterion in (story.get("acceptanceCriteria") or ())[:40]:
        text = shorten(" ".join(str(criterion).split()), 600)
        steps = _STEPS.match(text)
        for name, words in steps.groupdict().items() if steps else [("then", text)]:
            parts[name].update({words: None} if words else {})
    action = shorten(action or title, 600)
    return {
        "title": f"Test: {shorten(title, 160)}",
        "given": list(parts["given"])
        or [f"Actor: {shorten(actor, 200) if actor and actor != NO_ACTOR else 'user'}"],
        "when": list(parts["when"]) or [f"The actor does this: {action}"],
        "then": list(parts["then"]) or [f"The result can be seen: {action}"],
    }
