"""
Make the JSON of chat completions and their chunks.

Agents do not report token counts, so these are estimated; ``system_fingerprint`` says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from attrs import frozen

from kiroworkers import __version__
from kiroworkers.chat import estimate_tokens

_FINGERPRINT = f"kiroworkers-{__version__}, usage estimated"


@frozen
class Completion:
    """
    Make the JSON of one completion, whole or in chunks.

    Attributes:
        id: Identifier of the completion.
        created: When the request arrived, in seconds since the epoch.
        model: The model that the client asked for.
    """

    id: str
    created: int
    model: str

    def whole(self, content: str, usage: Mapping[str, Any]) -> dict[str, Any]:
        """
        Return the whole completion.
        """
        message = {"role": "assistant", "content": content, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
        return {**self._common("chat.completion"), "choices": [choice], "usage": usage}

    def chunk(self, delta: Mapping[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
        """
        Return a chunk of the reply.

        Args:
            delta: What the chunk adds to the message.
            finish_reason: Why the reply ends with this chunk; None if it continues.
        """
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return {**self._common("chat.completion.chunk"), "choices": [choice]}

    def usage_chunk(self, usage: Mapping[str, Any]) -> dict[str, Any]:
        """
        Return the chunk that follows the reply and has only the usage.
        """
        return {**self._common("chat.completion.chunk"), "choices": [], "usage": usage}

    def _common(self, kind: str) -> dict[str, Any]:
        """
        Return the fields that a completion and its chunks have in common.
        """
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": _FINGERPRINT,
        }


def estimate_usage(messages: Iterable[Mapping[str, Any]], content: str) -> dict[str, int]:
    """
    Return the estimated token counts of a completion.

    Args:
        messages: The client's messages.  What the server adds to the prompt is not counted.
        content: The reply.
    """
    prompt_tokens = sum(estimate_tokens(message.get("content", "")) for message in messages)
    completion_tokens = estimate_tokens(content)
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }
