"""
The journal that Kiro keeps of a session: lines of JSON, each with a `kind`
(``Prompt``, ``AssistantMessage``, ``ToolResults``) and `data`.

A screen shows an answer re-flowed; the journal has it as it was given.  The
shape is known from tools of others that read it, so every line is read as one
that may be something else.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any


def answer_in(lines: Iterable[str], prompt: str) -> str | None:
    """
    What was last answered to `prompt`; None when the last prompt is another, or
    nothing was answered yet.
    """
    asked = False
    said: str | None = None
    for line in lines:
        match _entry(line):
            case {"kind": "Prompt", "data": data}:
                asked = _text(data).split() == prompt.split()
                said = None
            case {"kind": "ToolResults"}:
                said = None  # what was said before is not the last
            case {"kind": "AssistantMessage", "data": data} if asked:
                # A message that calls a tool is not the last one.
                said = None if _calls_tool(data) else _text(data)
    return said


def _entry(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None  # a line that is being written, or none of Kiro's


def _calls_tool(data: Any) -> bool:
    match data:
        case list():
            return any(map(_calls_tool, data))
        case {"content": content}:
            return _calls_tool(content)
        case _:
            return isinstance(data, dict) and "toolUse" in (data.get("kind"), data.get("type"))


def _text(data: Any) -> str:
    """
    The text in a message: a string, an item of text, or a list of them.
    """
    match data:
        case str():
            return data
        case list():
            return "".join(map(_text, data))
        case {"content": content}:
            return _text(content)
        case {"kind": "text", "data": str(text)} | {"type": "text", "text": str(text)}:
            return text
        case _:
            return ""
