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
    match asked.get("messages"):
        case [*_, {"content": str(last)}]:
            return _REPLY.format(length=len(last))
    return _REPLY.format(length=0)


#: As `offline.rules.RULES`.  An object fits a client's schema only by chance.
CHAT: Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "chat": lambda asked: {"reply": _reply_to(asked)},
    "chat-object": lambda asked: {"error": _reply_to(asked)},
}
