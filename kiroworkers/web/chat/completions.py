"""
Make the JSON of chat completions and their chunks.

Agents do not report token counts, so these are estimated; ``system_fingerprint`` says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from attrs import frozen

from kiroworkers import __version__
from kiroworkers.chat import ChatReply, Usage
from kiroworkers.web.chat.errors import openai_error
from kiroworkers.web.events import event, json_event

_FINGERPRINT = f"kiroworkers-{__version__}, usage estimated"


@frozen
class Completion:
    """
    Make the JSON of one completion, whole or in chunks; this is a `ReplyWriter`.

    Attributes:
        id: Identifier of the completion.
        created: When the request arrived, in seconds since the epoch.
        model: The model that the client asked for.
        includes_usage: Whether a stream ends with token counts.
    """

    id: str
    created: int
    model: str
    includes_usage: bool = False

    def whole(self, reply: ChatReply) -> dict[str, Any]:
        """
        Return the whole completion.
        """
        message = {"role": "assistant", "content": reply.content, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
        usage = _usage_json(reply.usage)
        return {**self._common("chat.completion"), "choices": [choice], "usage": usage}

    def opening(self) -> Iterator[bytes]:
        """
        Yield the events that open the message.
        """
        yield self._chunk({"role": "assistant", "content": ""})

    def text(self, text: str) -> bytes:
        """
        Return the event that adds `text` to the message.
        """
        return self._chunk({"content": text})

    def closing(self, reply: ChatReply) -> Iterator[bytes]:
        """
        Yield the events that end the stream of `reply`, whose text was sent.
        """
        yield self._chunk({}, "stop")
        if self.includes_usage:
            usage = _usage_json(reply.usage)
            chunk = {**self._common("chat.completion.chunk"), "choices": [], "usage": usage}
            yield json_event(chunk)
        yield event("[DONE]")

    def error(self, status: int, body: Mapping[str, Any]) -> bytes:
        """
        Return the event that ends the stream of a request that failed.

        Args:
            status: HTTP status of the failure.
            body: The error, as in `openai_error`.
        """
        return json_event(openai_error(status, body))

    def _chunk(self, delta: Mapping[str, Any], finish_reason: str | None = None) -> bytes:
        """
        Return the event with a chunk of the reply.

        Args:
            delta: What the chunk adds to the message.
            finish_reason: Why the reply ends with this chunk; None if it continues.
        """
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return json_event({**self._common("chat.completion.chunk"), "choices": [choice]})

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


def _usage_json(usage: Usage) -> dict[str, int]:
    return {
        "prompt_tokens": usage.given,
        "completion_tokens": usage.made,
        "total_tokens": usage.total,
    }
