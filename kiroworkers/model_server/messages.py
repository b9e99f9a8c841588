"""
Speak Anthropic's protocol of ``POST /v1/messages``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from kiroworkers.model_server.content import (
    Json,
    all_text,
    member,
    messages_of,
    objects_in,
    other_messages,
    text_of,
    word,
)
from kiroworkers.model_server.reply import ModelReply
from kiroworkers.model_server.request import Message, ModelRequest
from kiroworkers.model_server.writing import Writer, event, pieces

_USAGE = {
    "input_tokens": 1,
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 0,
    "output_tokens": 1,
}


def read(path: str, body: Json) -> ModelRequest:
    """
    Read a request for an answer or for a count of tokens.
    """
    tools = objects_in(body.get("tools"))
    output_format = body.get("output_format") or member(body, "output_config", "format")
    return ModelRequest(
        path,
        (
            *messages_of("system", text_of(body.get("system"))),
            *(message for item in objects_in(body.get("messages")) for message in _messages(item)),
            *messages_of("tools", all_text(tools)),
            *other_messages(body, "system", "messages", "tools"),
        ),
        tuple(name for tool in tools if (name := word(tool.get("name")))),
        body.get("stream") is True,
        output_format is not None,
        word(body.get("model")),
    )


def _messages(item: Json) -> Iterator[Message]:
    """
    Yield the messages in a message, where results of tools come with the user's texts.
    """
    role = word(item.get("role")) or "user"
    content = item.get("content")
    parts = content if isinstance(content, list) else [content]
    for is_result, group in groupby(parts, _is_result):
        yield Message("tool" if is_result else role, text_of(list(group)))


def _is_result(part: Any) -> bool:
    return word(member(part, "type")).endswith("tool_result")


class MessagesWriter(Writer):
    """
    Write an answer, whose blocks are a text and the use of a tool.
    """

    def stream(self, reply: ModelReply) -> Iterator[bytes]:
        """
        Yield the events of a stream.
        """
        yield _event("message_start", message=self._message([], None))
        for index, block in enumerate(self._blocks(reply)):
            yield from _block_events(index, block, reply.endless)
            if reply.endless:
                return
        delta = {"stop_reason": _stop_reason(reply), "stop_sequence": None}
        yield _event("message_delta", delta=delta, usage=_USAGE)
        yield _event("message_stop")

    def body(self, reply: ModelReply) -> Json:
        """
        Return the body of a response that is not a stream.
        """
        return self._message(self._blocks(reply), _stop_reason(reply))

    def _blocks(self, reply: ModelReply) -> list[Json]:
        blocks: list[Json] = []
        if reply.text or reply.tool is None:
            blocks.append({"type": "text", "text": reply.text})
        if reply.tool is not None and not reply.endless:
            call = {"name": reply.tool.name, "input": dict(reply.tool.arguments)}
            blocks.append({"type": "tool_use", "id": f"toolu_{self._number}", **call})
        return blocks

    def _message(self, blocks: list[Json], stop_reason: str | None) -> Json:
        return {
            "id": f"msg_{self._number}",
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": blocks,
            "stop_reason": stop_reason,
            "stop_sequence": None,
            "usage": _USAGE,
        }


def _block_events(index: int, block: Json, endless: bool) -> Iterator[bytes]:
    if block["type"] == "text":
        begun = {**block, "text": ""}
        deltas = [{"type": "text_delta", "text": piece} for piece in pieces(block["text"])]
    else:
        begun = {**block, "input": {}}
        # The first piece of the arguments is empty, as the service sends it.
        parts = ["", *pieces(json.dumps(block["input"]))]
        deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in parts]
    yield _event("content_block_start", index=index, content_block=begun)
    for delta in deltas:
        yield _event("content_block_delta", index=index, delta=delta)
    if not endless:
        yield _event("content_block_stop", index=index)


def _event(name: str, **members: Any) -> bytes:
    return event({"type": name, **members}, name)


def _stop_reason(reply: ModelReply) -> str:
    return "end_turn" if reply.tool is None else "tool_use"
