"""
Read the request body of a chat completion.

A field that would change the meaning of the response and is not supported is rejected.
A field that only tunes a model (temperature, max_tokens, seed, …) and an unknown field
are ignored.  Source of the format: OpenAI's API reference, "Create chat completion".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import frozen

from kiroworkers.chat.conversation import Conversation
from kiroworkers.chat.fields import (
    body_object,
    flag,
    optional,
    required_string,
    schema_format,
    stop_strings,
)
from kiroworkers.chat.image_list import ImageList
from kiroworkers.chat.reply_format import JsonFormat, TextFormat
from kiroworkers.errors import InvalidInput
from kiroworkers.images import Image, image_from_url

_ROLES = ("system", "developer", "user", "assistant", "tool")

#: The most stop strings of one request.
MAX_STOPS = 4


@frozen
class CompletionRequest:
    """
    Hold an accepted request for a chat completion.

    Attributes:
        conversation: The conversation to continue.
        streams: Whether the client wants a stream.
        includes_usage: Whether a stream ends with token counts.
    """

    conversation: Conversation
    streams: bool = False
    includes_usage: bool = False


def parse_completion(body: Any) -> CompletionRequest:
    """
    Return the request that `body` (parsed JSON) describes.

    Its `Conversation.schema_check` remains to be run.

    Raises:
        InvalidInput: A field is invalid or asks for something that is not supported.
    """
    body = body_object(body)
    _reject_unsupported(body)
    images = ImageList()
    conversation = Conversation(
        required_string(body.get("model"), "model"),
        _messages(body.get("messages"), images),
        _reply_format(optional(body, "response_format", dict, "an object")),
        stop_strings(body.get("stop"), "stop", MAX_STOPS),
        images.all(),
    )
    stream_options = optional(body, "stream_options", dict, "an object") or {}
    return CompletionRequest(
        conversation, flag(body, "stream"), stream_options.get("include_usage") is True
    )


def _reject_unsupported(body: Mapping[str, Any]) -> None:
    """
    Raise `InvalidInput` if a field of `body` asks for something that is not supported.
    """
    if body.get("n") not in (None, 1) or body.get("n") is True:
        raise InvalidInput("n", "n must be 1: each request gets one reply")
    for field, choice in (("tools", "tool_choice"), ("functions", "function_call")):
        if body.get(field) and body.get(choice) != "none":
            raise InvalidInput(
                field, f'{field} are not supported; omit them or set {choice} to "none"'
            )
    if body.get("logprobs"):
        raise InvalidInput("logprobs", "logprobs are not supported: agents do not report them")
    if body.get("audio") or body.get("modalities") not in (None, [], ["text"]):
        raise InvalidInput("modalities", "modalities: only text is supported")


def _messages(messages: Any, images: ImageList) -> tuple[Mapping[str, Any], ...]:
    if not isinstance(messages, list) or not messages:
        raise InvalidInput("messages", "messages must be a list of at least one message")
    return tuple(
        _message(message, f"messages[{index}]", images) for index, message in enumerate(messages)
    )


def _message(message: Any, field: str, images: ImageList) -> Mapping[str, Any]:
    """
    Return the parts of `message` that are supported.

    Args:
        message: The message.
        field: Its path in the body.
        images: Gets the message's images.
    """
    if not isinstance(message, dict):
        raise InvalidInput(field, f"{field} must be an object")
    role = message.get("role")
    if role not in _ROLES:
        raise InvalidInput(f"{field}.role", f"{field}.role must be one of {', '.join(_ROLES)}")
    accepted: dict[str, Any] = {"role": role}
    name = optional(message, "name", str, "a string", f"{field}.")
    if name is not None:
        accepted["name"] = name
    calls = message.get("tool_calls") if role == "assistant" else None
    if calls:
        accepted["tool_calls"] = _tool_calls(calls, f"{field}.tool_calls")
    if message.get("content") is not None or not calls:
        accepted["content"] = _content(
            message.get("content"), f"{field}.content", images if role == "user" else None
        )
    if role == "tool" and isinstance(message.get("tool_call_id"), str):
        accepted["tool_call_id"] = message["tool_call_id"]
    return accepted


def _tool_calls(calls: Any, field: str) -> list[dict[str, str]]:
    """
    Return the function calls that an assistant's message made earlier.
    """
    accepted = []
    for call in calls if isinstance(calls, list) else [calls]:
        match call:
            case {
                "id": str(identifier),
                "function": {"name": str(name), "arguments": str(arguments)},
            }:
                accepted.append({"id": identifier, "name": name, "arguments": arguments})
            case _:
                raise InvalidInput(field, f"{field} must be a list of function calls")
    return accepted


def _content(content: Any, field: str, images: ImageList | None) -> str:
    """
    Return the text of `content`.

    Args:
        content: A string or a list of parts.
        field: Its path in the body.
        images: Gets the images in it; None if there must be none.
    """
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise InvalidInput(field, f"{field} must be a string or a list of parts")
    return "".join(_part(part, f"{field}[{index}]", images) for index, part in enumerate(content))


def _part(part: Any, field: str, images: ImageList | None) -> str:
    match part:
        case {"type": "image_url"} if images is not None:
            return f"\n{images.add(_image(part, field))}\n"
        case {"type": "text", "text": str(text)} | {"type": "refusal", "refusal": str(text)}:
            return text
        case {"type": "text" | "refusal" as kind}:
            raise InvalidInput(field, f"{field} must have a string in its field {kind}")
        case {"type": str(kind)}:
            supported = "text is" if images is None else "text and image_url are"
            raise InvalidInput(
                field, f"{field} is of type {kind[:40]!r}; only {supported} supported here"
            )
    raise InvalidInput(field, f"{field} must be an object with a type")


def _image(part: Mapping[str, Any], field: str) -> Image:
    source = part.get("image_url")
    url = source.get("url") if isinstance(source, dict) else source
    return image_from_url(url, f"{field}.image_url.url")


def _reply_format(response_format: Mapping[str, Any] | None) -> TextFormat | JsonFormat:
    match response_format:
        case None | {"type": "text"}:
            return TextFormat()
        case {"type": "json_object"}:
            return JsonFormat()
        case {"type": "json_schema"}:
            schema = response_format.get("json_schema")
            field = "response_format.json_schema.schema"
            return schema_format(schema.get("schema") if isinstance(schema, dict) else None, field)
    field = "response_format.type"
    raise InvalidInput(field, f"{field} must be text, json_object or json_schema")
