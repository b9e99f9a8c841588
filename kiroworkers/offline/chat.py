"""
What the offline agent replies where a conversation is to go on: that it cannot.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

_REPLY = (
    "offline agent: I answer by rules, and no model is asked, so I cannot converse. "
    "Your last message had {length} characters."
)


def _reply_to(asked: Mapping[str, Any]) -> str:
    messages = asked.get("messages") or [{}]
    return _REPLY.format(length=len(messages[-1].get("content", "")))


#: As `offline.rules.RULES`.  An object fits a client's schema only by chance.
CHAT: Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "chat": lambda asked: {"reply": _reply_to(asked)},
    "chat-object": lambda asked: {"error": _reply_to(asked)},
}
