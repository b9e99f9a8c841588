"""
Speak OpenAI's protocol of ``POST /v1/chat/completions``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
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
from kiroworkers.model_server.reply import ModelReply, ToolCall
from kiroworkers.model_server.request import Message, ModelRequest
from kiroworkers.model_server.writing import Writer, event, pieces

_ROLES: Mapping[str, str] = {"developer": "system", "function": "tool"}
_USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}


def read(path: str, body: Json) -> ModelRequest:
    """
    Read a request.
    """
    tools = objects_in(body.get("tools"))
    names = (word(member(tool, word(tool.get("type")), "name")) for tool in tools)
    return ModelRequest(
        path,
        (
            *map(_message, objects_in(body.get("messages"))),
            *messages_of("tools", all_text(tools)),
            *other_messages(body, "messages", "tools"),
        ),
        tuple(filter(None, names)),
        body.get("stream") is True,
        member(body, "response_format", "type") in ("json_object", "json_schema"),
        word(body.get("model")),
    )


def _message(item: Json) -> Message:
    role = word(item.get("role")) or "user"
    return Message(_ROLES.get(role, role), text_of(item))


class ChatCompletionsWriter(Writer):
    """
    Write an answer, each event of which is a chunk of a completion.
    """

    def stream(self, reply: ModelReply) -> Iterator[bytes]:
        """
        Yield the events of a stream.
        """
        yield self._chunk({"role": "assistant", "content": ""})
        for piece in pieces(reply.text):
            yield self._chunk({"content": piece})
        if reply.endless:
            return
        if reply.tool is not None:
            call = self._call(reply.tool)
            arguments = call["function"].pop("arguments")
            yield self._chunk({"tool_calls": [{"index": 0, **call}]})
            for piece in pieces(arguments):
                function = {"arguments": piece}
                yield self._chunk({"tool_calls": [{"index": 0, "function": function}]})
        yield self._chunk({}, _finish(reply))
        yield event(self._body("chat.completion.chunk", choices=[], usage=_USAGE))
        yield b"data: [DONE]\n\n"

    def body(self, reply: ModelReply) -> Json:
        """
        Return the body of a response that is not a stream.
        """
        message: dict[str, Any] = {"role": "assistant", "content": reply.text}
        if reply.tool is not None:
            message["tool_calls"] = [self._call(reply.tool)]
        choice = {"index": 0, "message": message, "finish_reason": _finish(reply)}
        return self._body("chat.completion", choices=[choice], usage=_USAGE)

    def _call(self, tool: ToolCall) -> dict[str, Any]:
        function = {"name": tool.name, "arguments": json.dumps(dict(tool.arguments))}
        return {"id": f"call_{self._number}", "type": "function", "function": function}

    def _chunk(self, delta: Json, finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return event(self._body("chat.completion.chunk", choices=[choice]))

    def _body(self, kind: str, **members: Any) -> Json:
        head = {"id": f"chatcmpl-{self._number}", "object": kind, "created": 1}
        return {**head, "model": self._model, **members}


def _finish(reply: ModelReply) -> str:
    return "stop" if reply.tool is None else "tool_calls"
