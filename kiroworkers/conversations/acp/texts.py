"""
Make an agent's text safe to log, to show and to search.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from kiroworkers.conversations.transcript import plain_text
from kiroworkers.images import without_base64

#: The maximum number of characters that are read of an error.
_MAX_ERROR_LENGTH = 2000

#: The maximum length of a name in an error's data (the type of the error, or an action), and
#: the maximum number of actions.
_MAX_NAME_LENGTH = 100
_MAX_ACTIONS = 10

_SURROGATE = re.compile("[\ud800-\udfff]")


def repair_surrogates(text: str) -> str:
    """
    Join surrogate pairs that were sent in two chunks, and replace single surrogates.
    """
    if text.isascii() or _SURROGATE.search(text) is None:
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def answer_text(update: Mapping[str, Any]) -> str:
    """
    Return the text of an update that is part of an answer; empty for any other update.
    """
    match update:
        case {
            "sessionUpdate": "agent_message_chunk",
            "content": {"type": "text", "text": str(text)},
        }:
            return repair_surrogates(text)
    return ""


def printable(text: str, max_length: int) -> str:
    """
    Return the first `max_length` characters of an agent's text, safe to log.
    """
    return plain_text(text[:max_length].encode("utf-8", "replace"))


def one_line(text: str, max_length: int) -> str:
    """
    Return `text` as `printable` does, on one line.
    """
    return " ".join(printable(text, max_length).split())


def error_text(error: Mapping[str, Any]) -> str:
    """
    Return an error object as one line, to be searched for the dialect's failures.
    """
    code, message = error.get("code"), error.get("message")
    details = "; ".join(
        part for part in _details(error.get("data")) if part and part != str(message)
    )
    text = f"{code}: {message}" + (f" ({details})" if details else "")
    # It may quote an image of the prompt.
    start = without_base64(text[:_MAX_ERROR_LENGTH].encode("utf-8", "replace"))
    return one_line(start.decode(), _MAX_ERROR_LENGTH)


def _details(data: Any) -> Iterator[str]:
    """
    Yield the parts of an error's data that say what went wrong.

    The other parts may quote the request, and so the text of a client.
    """
    match data:
        case str(details) | {"details": str(details)} | {"message": str(details)}:
            yield details
    if isinstance(data, dict):
        for name in ("errorType", "retryErrorType", "errorKind"):
            yield _name(data.get(name))
        match data:
            case {"cause": {"reason": reason}}:
                yield _name(reason)
            case {"actions": [*actions]}:
                names = filter(None, map(_name, actions[:_MAX_ACTIONS]))
                yield f"actions: {', '.join(names)}"


def _name(value: Any) -> str:
    return value if isinstance(value, str) and len(value) <= _MAX_NAME_LENGTH else ""
