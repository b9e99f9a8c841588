"""
Read the journal that Kiro keeps of a session.

A journal has a JSON object per line, each with a `kind` (``Prompt``,
``AssistantMessage``, ``ToolResults``) and `data`.  A screen shows an answer with its lines
rewrapped; the journal has it as the model gave it.

The format is not documented and is known from third-party tools that read it.  So nothing
is assumed about any line.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any


def answer_from_journal(lines: Iterable[str], prompt: str) -> str | None:
    """
    Return the last answer to `prompt` in the lines of a journal.

    None if the journal's last prompt is a different one, or is not answered yet.
    """
    prompt_matches = False
    answer: str | None = None
    for line in lines:
        match _entry(line):
            case {"kind": "Prompt", "data": data}:
                prompt_matches = _text(data).split() == prompt.split()
                answer = None
            case {"kind": "ToolResults"}:
                # The turn goes on, so the message before was not the answer.
                answer = None
            case {"kind": "AssistantMessage", "data": data} if prompt_matches:
                # After a message that calls a tool another one follows.
                answer = None if _calls_tool(data) else _text(data)
    return answer


def _entry(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None  # a line that is still being written, or not an entry


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
    Return the text of a message, which is a string, an item of text or a list of items.
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
