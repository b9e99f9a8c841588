"""
Make the JSON of messages in the format of Anthropic's API, and the events of their streams.

Agents do not report token counts, so these are estimated; ``estimated`` says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from attrs import frozen

from kiroworkers.chat import ChatReply
from kiroworkers.web.chat.message_errors import anthropic_error
from kiroworkers.web.events import json_event


@frozen
class Message:
    """
    Make the JSON of one message, whole or as events; this is a `ReplyWriter`.

    Attributes:
        id: Identifier of the message.
        model: The model that the client asked for.
        given: The estimated tokens of the client's messages.
    """

    id: str
    model: str
    given: int

    def whole(self, reply: ChatReply) -> dict[str, Any]:
        """
        Return the whole message.
        """
        return {
            **self._message([{"type": "text", "text": reply.content}], reply.usage.made),
            **_end(reply),
        }

    def opening(self) -> Iterator[bytes]:
        """
        Yield the events that open the message and its only block.
        """
        yield _event("message_start", message=self._message([], 0))
        yield _event("content_block_start", index=0, content_block={"type": "text", "text": ""})
        yield _event("ping")

    def text(self, text: str) -> bytes:
        """
        Return the event that adds `text` to the block.
        """
        return _event("content_block_delta", index=0, delta={"type": "text_delta", "text": text})

    def closing(self, reply: ChatReply) -> Iterator[bytes]:
        """
        Yield the events that end the stream of `reply`, whose text was sent.
        """
        yield _event("content_block_stop", index=0)
        yield _event("message_delta", delta=_end(reply), usage=self._usage(reply.usage.made))
        yield _event("message_stop")

    def error(self, status: int, body: Mapping[str, Any]) -> bytes:
        """
        Return the event that ends the stream of a request that failed.

        Args:
            status: HTTP status of the failure.
            body: The error, as in `anthropic_error`.
        """
        return json_event(anthropic_error(status, body), "error")

    def _message(self, blocks: list[Mapping[str, Any]], made: int) -> dict[str, Any]:
        """
        Return the message, which has these `blocks` and `made` tokens so far.
        """
        return {
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": blocks,
            "stop_reason": None,
            "stop_sequence": None,
            "stop_details": None,
            "usage": self._usage(made),
        }

    def _usage(self, made: int) -> dict[str, Any]:
        return {
            **count_json(self.given),
            "output_tokens": made,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
        }


def count_json(tokens: int) -> dict[str, Any]:
    """
    Return the JSON of an estimated number of `tokens` that a client sent.
    """
    return {"input_tokens": tokens, "estimated": True}


def _end(reply: ChatReply) -> dict[str, Any]:
    """
    Return the fields that say why `reply` ended.
    """
    reason = "end_turn" if reply.stop is None else "stop_sequence"
    return {"stop_reason": reason, "stop_sequence": reply.stop, "stop_details": None}


def _event(kind: str, **members: Any) -> bytes:
    """
    Return an event, whose name is also in its data.
    """
    return json_event({"type": kind, **members}, kind)
