"""
Answer the chat tasks: tell the client that the offline agent cannot converse.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

_REPLY = (
    "offline agent: I answer by rules, and no model is asked, so I cannot converse. "
    "Your last message had {length} characters."
)


def _reply_to(request: Mapping[str, Any]) -> str:
    match request.get("messages"):
        case [*_, {"content": str(last)}]:
            return _REPLY.format(length=len(last))
    return _REPLY.format(length=0)


#: Rules for the chat tasks, as in `offline.rules.RULES`.  The object of ``chat-object`` fits a
#: client's schema only by chance.
CHAT: Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "chat": lambda request: {"reply": _reply_to(request)},
    "chat-object": lambda request: {"error": _reply_to(request)},
}
