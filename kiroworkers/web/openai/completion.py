"""
A reply as a chat completion: whole, or in chunks.

How many tokens it took is estimated, which ``system_fingerprint`` says, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from attrs import frozen

from kiroworkers import __version__
from kiroworkers.chat import tokens_in

_FINGERPRINT = f"kiroworkers-{__version__}, usage estimated"


@frozen
class Completion:
    """
    One to be given, made at the time `created` (seconds since the epoch).
    """

    id: str
    created: int
    model: str

    def whole(self, content: str, usage: Mapping[str, Any]) -> dict[str, Any]:
        """
        All of it at once.
        """
        message = {"role": "assistant", "content": content, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
        return {**self._head("chat.completion"), "choices": [choice], "usage": usage}

    def piece(self, delta: Mapping[str, Any], finish: str | None = None) -> dict[str, Any]:
        """
        A chunk; the last with a reply has a reason to `finish`.
        """
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return {**self._head("chat.completion.chunk"), "choices": [choice]}

    def ending(self, usage: Mapping[str, Any]) -> dict[str, Any]:
        """
        The chunk that has no reply but the usage.
        """
        return {**self._head("chat.completion.chunk"), "choices": [], "usage": usage}

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": _FINGERPRINT,
        }


def estimated_usage(messages: Iterable[Mapping[str, Any]], content: str) -> dict[str, int]:
    """
    The tokens of the client's `messages` and of the reply's `content`, without our
    own part of the prompt.
    """
    payload = sum(tokens_in(each.get("content", "")) for each in messages)
    replied = tokens_in(content)
    return {
        "prompt_tokens": payload,
        "completion_tokens": replied,
        "total_tokens": payload + replied,
    }
