"""
Speak OpenAI's protocol of ``POST /v1/responses``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import count
from typing import Any

from kiroworkers.model_server.content import (
    BadRequest,
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

_ROLES: Mapping[str, str] = {"developer": "system"}
_USAGE = {
    "input_tokens": 1,
    "input_tokens_details": {"cached_tokens": 0},
    "output_tokens": 1,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 2,
}


def read(path: str, body: Json) -> ModelRequest:
    """
    Read a request.

    Raises:
        BadRequest: The request continues a conversation that only the service would know.
    """
    for key in ("previous_response_id", "conversation"):
        if body.get(key):
            reason = f"{key}: this server keeps no conversations; send all of it"
            raise BadRequest(reason, code="previous_response_not_found")
    given = body.get("input")
    tools = objects_in(body.get("tools"))
    return ModelRequest(
        path,
        (
            *messages_of("system", text_of(body.get("instructions"))),
            *(
                [Message("user", given)]
                if isinstance(given, str)
                else map(_message, objects_in(given))
            ),
            *messages_of("tools", all_text(tools)),
            *other_messages(body, "instructions", "input", "tools"),
        ),
        tuple(_names(tools)),
        body.get("stream") is True,
        member(body, "text", "format", "type") in ("json_object", "json_schema"),
        word(body.get("model")),
    )


def _names(tools: Iterable[Json]) -> Iterator[str]:
    """
    Yield the names of tools; those in a namespace follow its name and a dot.
    """
    for tool in tools:
        name, members = word(tool.get("name")), objects_in(tool.get("tools"))
        if members:
            yield from (f"{name}.{inner}" for inner in _names(members))
        elif name:
            yield name


def _message(item: Json) -> Message:
    kind = word(item.get("type"))
    if kind.endswith("_output"):
        return Message("tool", text_of(item))
    # Reasoning and calls of tools have no role.
    role = word(item.get("role")) or ("assistant" if kind else "user")
    return Message(_ROLES.get(role, role), text_of(item))


class ResponsesWriter(Writer):
    """
    Write an answer, whose items are a message and the call of a tool.
    """

    def __init__(self, model: str, number: int) -> None:
        super().__init__(model, number)
        self._events = count()

    def stream(self, reply: ModelReply) -> Iterator[bytes]:
        """
        Yield the events of a stream.
        """
        yield self._event("response.created", response=self._response("in_progress", []))
        yield self._event("response.in_progress", response=self._response("in_progress", []))
        output = self._output(reply)
        for index, item in enumerate(output):
            if item["type"] == "message":
                yield from self._message_events(index, item, reply.endless)
            else:
                yield from self._call_events(index, item)
            if reply.endless:
                return
            yield self._event("response.output_item.done", output_index=index, item=item)
        yield self._event("response.completed", response=self._response("completed", output))

    def body(self, reply: ModelReply) -> Json:
        """
        Return the body of a response that is not a stream.
        """
        return self._response("completed", self._output(reply))

    def _message_events(self, index: int, item: Json, endless: bool) -> Iterator[bytes]:
        begun = {**item, "status": "in_progress", "content": []}
        yield self._event("response.output_item.added", output_index=index, item=begun)
        at = {"item_id": item["id"], "output_index": index, "content_index": 0}
        [part] = item["content"]
        text = part["text"]
        yield self._event("response.content_part.added", **at, part={**part, "text": ""})
        for piece in pieces(text):
            yield self._event("response.output_text.delta", **at, delta=piece, logprobs=[])
        if endless:
            return
        yield self._event("response.output_text.done", **at, text=text, logprobs=[])
        yield self._event("response.content_part.done", **at, part=part)

    def _call_events(self, index: int, item: Json) -> Iterator[bytes]:
        begun = {**item, "status": "in_progress", "arguments": ""}
        yield self._event("response.output_item.added", output_index=index, item=begun)
        at = {"item_id": item["id"], "output_index": index}
        kind = "response.function_call_arguments"
        for piece in pieces(item["arguments"]):
            yield self._event(f"{kind}.delta", **at, delta=piece)
        yield self._event(f"{kind}.done", **at, name=item["name"], arguments=item["arguments"])

    def _output(self, reply: ModelReply) -> list[Json]:
        output: list[Json] = []
        if reply.text or reply.tool is None:
            content = [
                {"type": "output_text", "text": reply.text, "annotations": [], "logprobs": []}
            ]
            output.append(self._item("message", "msg", role="assistant", content=content))
        if reply.tool is not None and not reply.endless:
            output.append(self._call(reply.tool))
        return output

    def _call(self, tool: ToolCall) -> Json:
        arguments = json.dumps(dict(tool.arguments))
        call_id = f"call_{self._number}"
        namespace, _, name = tool.name.rpartition(".")
        members = {"call_id": call_id, "name": name, "arguments": arguments}
        if namespace:
            members["namespace"] = namespace
        return self._item("function_call", "fc", **members)

    def _item(self, kind: str, prefix: str, **members: Any) -> Json:
        head = {"type": kind, "id": f"{prefix}_{self._number}", "status": "completed"}
        return {**head, **members}

    def _response(self, status: str, output: list[Json]) -> Json:
        return {
            "id": f"resp_{self._number}",
            "object": "response",
            "created_at": 1,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "metadata": {},
            "model": self._model,
            "output": output,
            "parallel_tool_calls": False,
            "tool_choice": "auto",
            "tools": [],
            "usage": _USAGE if status == "completed" else None,
        }

    def _event(self, kind: str, **members: Any) -> bytes:
        return event({"type": kind, "sequence_number": next(self._events), **members}, kind)
