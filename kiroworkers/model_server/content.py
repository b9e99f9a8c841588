"""
Read the texts of a request's body, in any form.

Agents send more than their protocol's documentation says.  Nothing here fails on a value of
another type, and no text is left out, because a text may show what an agent remembers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kiroworkers.model_server.request import Message

Json = Mapping[str, Any]

#: The keys of a message or one of its parts that describe it and are not part of its text.
_MARKS = {
    "cache_control",
    "call_id",
    "id",
    "role",
    "status",
    "tool_call_id",
    "tool_use_id",
    "type",
}

#: The keys of a message or one of its parts whose value is again a text or a list of parts.
_CONTENT = {"content", "output", "summary"}


class BadRequest(Exception):
    """
    Raised when a request cannot be answered.

    Attributes:
        status: The status of the response.
        code: The code of the error, in OpenAI's terms.
    """

    def __init__(self, reason: str, status: int = 400, code: str = "invalid_request") -> None:
        super().__init__(reason)
        self.status = status
        self.code = code


def objects_in(value: Any) -> list[Json]:
    """
    Return the objects in the list `value`, or `value` itself if it is an object.
    """
    if isinstance(value, dict):
        return [value]
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def member(value: Any, *keys: str) -> Any:
    """
    Return the value at the path of `keys`, or None.
    """
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def word(value: Any) -> str:
    """
    Return `value` if it is a string, otherwise an empty one.
    """
    return value if isinstance(value, str) else ""


def text_of(content: Any) -> str:
    """
    Return the text of a message or its content: a string, a part, or a list of parts.
    """
    return "\n".join(_texts(content))


def all_text(value: Any) -> str:
    """
    Return all strings in `value`, joined with line feeds.
    """
    return "\n".join(_strings(value))


def messages_of(role: str, text: str) -> tuple[Message, ...]:
    """
    Return a message with `text`, or none if it is empty.
    """
    return (Message(role, text),) if text else ()


def other_messages(body: Json, *known: str) -> tuple[Message, ...]:
    """
    Return the texts of a body's members other than `known`: settings, names and schemas.
    """
    others = {key: value for key, value in body.items() if key not in known}
    return messages_of("other", all_text(others))


def _texts(content: Any) -> Iterator[str]:
    match content:
        case str():
            yield content
        case list():
            for part in content:
                yield from _texts(part)
        case dict():
            for key, value in content.items():
                if key in _CONTENT:
                    yield from _texts(value)
                elif key not in _MARKS:
                    yield from _strings(value)


def _strings(value: Any) -> Iterator[str]:
    # Not recursive: JSON may be nested more deeply than Python can call functions.
    pending = [value]
    while pending:
        match pending.pop():
            case str(text) if text:
                yield text
            case list(items):
                pending.extend(reversed(items))
            case dict(members):
                pending.extend(reversed(members.values()))
