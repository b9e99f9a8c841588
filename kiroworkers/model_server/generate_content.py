"""
Speak Google's protocol of ``POST /v1beta/models/MODEL:generateContent`` and of its stream.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
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

_ROLES: Mapping[str, str] = {"model": "assistant"}
_USAGE = {"promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2}

#: The model's name in a path.
_MODEL = re.compile(r"([^/]+):\w+\Z")

#: Names that the service accepts in both spellings.
_SYSTEM = ("systemInstruction", "system_instruction")
_CONFIG = ("generationConfig", "generation_config")
_FUNCTIONS = ("functionDeclarations", "function_declarations")
_RESULT = ("functionResponse", "function_response")

#: What is escaped in a stream, as by Google's own writers of JSON: its client for JavaScript
#: reads no event that contains one of these unescaped.
_ESCAPES = {"\u2028".encode(): b"\\u2028", "\u2029".encode(): b"\\u2029"}


def read(path: str, body: Json) -> ModelRequest:
    """
    Read a request for an answer or for a count of tokens.
    """
    inner = body.get("generateContentRequest")
    if isinstance(inner, dict):
        body = inner
    model = _MODEL.search(path)
    tools = objects_in(body.get("tools"))
    functions = [
        function for tool in tools for key in _FUNCTIONS for function in objects_in(tool.get(key))
    ]
    mime_types = [
        member(body, key, name)
        for key in _CONFIG
        for name in ("responseMimeType", "response_mime_type")
    ]
    given = body.get("contents")
    return ModelRequest(
        path,
        (
            *(
                message
                for key in _SYSTEM
                for message in messages_of(
                    "system", text_of(member(body.get(key), "parts") or body.get(key))
                )
            ),
            *([Message("user", given)] if isinstance(given, str) else ()),
            *(message for content in objects_in(given) for message in _messages(content)),
            *messages_of("tools", all_text(tools)),
            *other_messages(body, *_SYSTEM, "contents", "tools"),
        ),
        tuple(name for function in functions if (name := word(function.get("name")))),
        path.endswith(":streamGenerateContent"),
        any(kind not in (None, "text/plain") for kind in mime_types),
        model[1] if model is not None else "",
    )


def _messages(content: Json) -> Iterator[Message]:
    """
    Yield the messages in a content, where results of functions may come with other parts.
    """
    role = word(content.get("role")) or "user"
    parts = content.get("parts")
    parts = parts if isinstance(parts, list) else [parts]
    for is_result, group in groupby(parts, _is_result):
        yield Message("tool" if is_result else _ROLES.get(role, role), text_of(list(group)))


def _is_result(part: Any) -> bool:
    return any(member(part, key) is not None for key in _RESULT)


class GenerateContentWriter(Writer):
    """
    Write an answer, each event of which is a response with a part of it.
    """

    def stream(self, reply: ModelReply) -> Iterator[bytes]:
        """
        Yield the events of a stream.
        """
        for piece in pieces(reply.text):
            yield _event(self._response([{"text": piece}]))
        if reply.endless:
            return
        # The text is sent; what is left is the call, or an empty text.
        parts = self._parts(ModelReply(tool=reply.tool))
        yield _event(self._response(parts, "STOP"))

    def body(self, reply: ModelReply) -> Json:
        """
        Return the body of a response that is not a stream.
        """
        return self._response(self._parts(reply), "STOP")

    def _parts(self, reply: ModelReply) -> list[Json]:
        parts: list[Json] = []
        if reply.text or reply.tool is None:
            parts.append({"text": reply.text})
        if reply.tool is not None:
            call = {"name": reply.tool.name, "args": dict(reply.tool.arguments)}
            parts.append({"functionCall": {"id": f"call_{self._number}", **call}})
        return parts

    def _response(self, parts: list[Json], finish: str | None = None) -> Json:
        candidate: dict[str, Any] = {"content": {"role": "model", "parts": parts}, "index": 0}
        if finish is not None:
            candidate["finishReason"] = finish
        return {
            "candidates": [candidate],
            "usageMetadata": _USAGE,
            "modelVersion": self._model,
            "responseId": f"response-{self._number}",
        }


def _event(response: Json) -> bytes:
    data = event(response)
    for character, escape in _ESCAPES.items():
        data = data.replace(character, escape)
    return data
