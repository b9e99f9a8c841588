"""
Answer a prompt: by the rules of a built-in task, or with a sample that fits the schema.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from kiroworkers.offline.acceptance import generate_test
from kiroworkers.offline.review import analyze_invest
from kiroworkers.offline.sample import sample
from kiroworkers.offline.story import generate_story

#: The tasks that are answered by rules.
RULES: Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "generate-story": generate_story,
    "generate-test": generate_test,
    "analyze-invest": analyze_invest,
}

#: What precedes an answer that has nothing to do with the request; `offline.toml` reads it.
SAMPLE_NOTICE = "Sample only, not an answer to your request:"

_TASK = re.compile(r"^Task: *([\w-]+)", re.MULTILINE)
_REQUEST = re.compile(r"^Request: *(?=\{)", re.MULTILINE)
_SCHEMA = re.compile(r"\bschema\b[^{}\n]{0,80}(?=\{)", re.IGNORECASE)
_EXAMPLE = re.compile(r"\bexample\b[^{}\n]{0,80}(?=\{)", re.IGNORECASE)
_CHAT = (
    "offline agent: no model was asked, so I cannot converse. "
    "Your last message had {length} characters."
)


def reply(text: str) -> str:
    """
    Return the answer to `text`, as JSON in a code fence.

    Args:
        text: The prompt of a task, or an idea in plain words, which gets a user story.

    Returns:
        The answer, or a sentence that says why the task or its request is not understood.
    """
    task = _TASK.search(text)
    if task is None:
        return _fenced("By rules, offline:", generate_story({"idea": text.strip()}))
    request = _object_after(_REQUEST, text)
    schema = _object_after(_SCHEMA, text)
    if request is not None and task[1] in RULES and _knows(task[1], schema):
        return _fenced("By rules, offline:", RULES[task[1]](request))
    if task[1] == "chat" and request is not None:
        return _fenced(SAMPLE_NOTICE, {"reply": _chat(request)})
    if schema is None:
        return f"I cannot answer the task {task[1]}: its prompt has no JSON Schema on one line."
    # The answer to a prompt is an object, whatever else the schema allows.
    made = sample({"type": "object", **schema}, _object_after(_EXAMPLE, text), request)
    if made == {} and task[1] == "chat-object" and request is not None:
        made = {"reply": _chat(request)}  # Any object will do.
    return _fenced(SAMPLE_NOTICE, made)


def _knows(task: str, schema: Mapping[str, Any] | None) -> bool:
    """
    Return whether `schema` is that of the built-in `task`, not of another one of its name.
    """
    members = {"generate-story": "asA", "generate-test": "given", "analyze-invest": "warnings"}
    return schema is None or members[task] in schema.get("properties", {})


def _chat(request: Mapping[str, Any]) -> str:
    match request.get("messages"):
        case [*_, {"content": str(last)}]:
            return _CHAT.format(length=len(last))
    return _CHAT.format(length=0)


def _object_after(mark: re.Pattern[str], text: str) -> dict[str, Any] | None:
    """
    Return the first JSON object that follows `mark`; None if there is none.
    """
    for match in mark.finditer(text):
        try:
            value, _ = json.JSONDecoder().raw_decode(text, match.end())
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            return value
    return None


def _fenced(notice: str, answer: Any) -> str:
    text = json.dumps(answer, ensure_ascii=False, separators=(",", ":"))
    # The interface decodes entities inside a fence, and backticks end it.
    text = text.replace("&", "\\u0026").replace("`", "\\u0060")
    return f"{notice}\n\n```json\n{text}\n```"
