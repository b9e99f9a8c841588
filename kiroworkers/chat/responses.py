"""
Read the request body of a response, in the format of OpenAI's Responses API.

A field that would change the meaning of the response and is not supported is rejected.
A field that only tunes a model (temperature, max_output_tokens, reasoning, …) and an unknown
field are ignored.  Source of the format: OpenAI's API reference, "Create a model response".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from attrs import frozen

from kiroworkers.chat.conversation import Conversation
from kiroworkers.chat.fields import body_object, flag, optional, required_string, schema_format
from kiroworkers.chat.image_list import ImageList
from kiroworkers.chat.reply_format import JsonFormat, TextFormat
from kiroworkers.errors import InvalidInput
from kiroworkers.images import Image, image_from_url

#: Types of the parts that a message of each role may have.
_PARTS: Mapping[str, Sequence[str]] = {
    "system": ("input_text",),
    "developer": ("input_text",),
    "user": ("input_text", "input_image"),
    "assistant": ("input_text", "output_text", "refusal"),
}

#: Types of the parts that the output of a function may have.
_OUTPUT_PARTS = ("input_text", "input_image")

#: The most pairs in ``metadata``, and the most characters of a name and of a value.
MAX_PAIRS = 16
MAX_NAME = 64
MAX_VALUE = 512

#: Fields that are not supported, and why.
_UNSUPPORTED = {
    "previous_response_id": "no response is stored; send the whole conversation in input",
    "conversation": "no conversation is stored; send the whole of it in input",
    "background": "no response is stored; tasks can run as jobs",
    "prompt": "no prompt template is stored; send its text in instructions or input",
    "moderation": "replies are not moderated",
    "top_logprobs": "agents do not report probabilities",
}

#: The name in the response of a schema to which the client gave none.
_SCHEMA_NAME = "reply"


@frozen
class ResponseRequest:
    """
    Hold an accepted request for a response.

    Attributes:
        conversation: The conversation to continue.
        streams: Whether the client wants a stream.
        instructions: The instructions, which are also the first message of the conversation.
        metadata: Pairs that the response repeats.
        text_format: The format of the reply, as the response repeats it.
        tool_choice: The choice of tools, which the response repeats.
    """

    conversation: Conversation
    streams: bool
    instructions: str | None
    metadata: Mapping[str, str]
    text_format: Mapping[str, Any]
    tool_choice: str


def parse_response(body: Any) -> ResponseRequest:
    """
    Return the request that `body` (parsed JSON) describes.

    Its `Conversation.schema_check` remains to be run.

    Raises:
        InvalidInput: A field is invalid or asks for something that is not supported.
    """
    body = body_object(body)
    _reject_unsupported(body)
    instructions = optional(body, "instructions", str, "a string")
    images = ImageList()
    messages = _messages(body.get("input"), images)
    if instructions is not None:
        messages = ({"role": "system", "content": instructions}, *messages)
    text = optional(body, "text", dict, "an object") or {}
    wanted = optional(text, "format", dict, "an object", "text.")
    reply_format, text_format = _reply_format(wanted)
    return ResponseRequest(
        Conversation(
            required_string(body.get("model"), "model"),
            messages,
            reply_format,
            images=images.all(),
        ),
        flag(body, "stream"),
        instructions,
        _metadata(optional(body, "metadata", dict, "an object")),
        text_format,
        body.get("tool_choice") or "auto",
    )


def _reject_unsupported(body: Mapping[str, Any]) -> None:
    """
    Raise `InvalidInput` if a field of `body` asks for something that is not supported.
    """
    for field, reason in _UNSUPPORTED.items():
        if body.get(field):
            raise InvalidInput(field, f"{field} is not supported: {reason}")
    choice = body.get("tool_choice")
    if body.get("tools") and choice != "none":
        raise InvalidInput(
            "tools", 'tools are not supported; omit them or set tool_choice to "none"'
        )
    if choice not in (None, "auto", "none"):
        raise InvalidInput(
            "tool_choice", "tool_choice must be auto or none: tools are not supported"
        )
    include = body.get("include")
    if isinstance(include, list) and "message.output_text.logprobs" in include:
        raise InvalidInput(
            "include", "include must not ask for logprobs: agents do not report probabilities"
        )


def _messages(items: Any, images: ImageList) -> tuple[Mapping[str, Any], ...]:
    """
    Return the messages of the conversation in ``input``.
    """
    if isinstance(items, str):
        return ({"role": "user", "content": items},)
    if not isinstance(items, list):
        raise InvalidInput("input", "input is required and must be a string or a list of items")
    messages = tuple(
        message
        for index, item in enumerate(items)
        for message in _item_messages(item, f"input[{index}]", images)
    )
    if not messages:
        raise InvalidInput("input", "input must have at least one message")
    return messages


def _item_messages(item: Any, field: str, images: ImageList) -> Iterator[Mapping[str, Any]]:
    """
    Yield the message that `item` stands for, if any; `field` is its path in the body.
    """
    if not isinstance(item, dict):
        raise InvalidInput(field, f"{field} must be an object")
    match item.get("type") or "message":
        case "message":
            yield _message(item, field, images)
        case "function_call":
            yield _function_call(item, field)
        case "function_call_output":
            yield _function_output(item, field, images)
        case "reasoning":
            # How another model has thought says nothing to this one, and is often encrypted.
            pass
        case "item_reference":
            raise InvalidInput(f"{field}.type", f"{field} refers to an item, but none is stored")
        case kind:
            raise InvalidInput(
                f"{field}.type",
                f"{field} is of type {str(kind)[:40]!r}; only message, function_call, "
                "function_call_output and reasoning are supported",
            )


def _message(item: Mapping[str, Any], field: str, images: ImageList) -> Mapping[str, Any]:
    role = item.get("role")
    kinds = _PARTS.get(role) if isinstance(role, str) else None
    if kinds is None:
        raise InvalidInput(f"{field}.role", f"{field}.role must be one of {', '.join(_PARTS)}")
    content = _content(item.get("content"), f"{field}.content", kinds, images)
    return {"role": role, "content": content}


def _function_call(item: Mapping[str, Any], field: str) -> Mapping[str, Any]:
    """
    Return the message of an assistant that has called a function earlier.
    """
    match item:
        case {"call_id": str(identifier), "name": str(name), "arguments": str(arguments)}:
            call = {"id": identifier, "name": name, "arguments": arguments}
            return {"role": "assistant", "tool_calls": [call]}
    raise InvalidInput(field, f"{field} must have call_id, name and arguments, which are strings")


def _function_output(item: Mapping[str, Any], field: str, images: ImageList) -> Mapping[str, Any]:
    """
    Return the message with the output of a function.
    """
    return {
        "role": "tool",
        "content": _content(item.get("output"), f"{field}.output", _OUTPUT_PARTS, images),
        "tool_call_id": required_string(item.get("call_id"), f"{field}.call_id"),
    }


def _content(content: Any, field: str, kinds: Sequence[str], images: ImageList) -> str:
    """
    Return the text of `content`, which is a string or a list of parts of these `kinds`.
    """
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise InvalidInput(field, f"{field} must be a string or a list of parts")
    return "".join(
        _part(part, f"{field}[{index}]", kinds, images) for index, part in enumerate(content)
    )


def _part(part: Any, field: str, kinds: Sequence[str], images: ImageList) -> str:
    kind = part.get("type") if isinstance(part, dict) else None
    if not isinstance(kind, str):
        raise InvalidInput(field, f"{field} must be an object with a type")
    if kind not in kinds:
        raise InvalidInput(
            f"{field}.type",
            f"{field} is of type {kind[:40]!r}; only {', '.join(kinds)} are supported here",
        )
    if kind == "input_image":
        return f"\n{images.add(_image(part, field))}\n"
    name = "refusal" if kind == "refusal" else "text"
    text = part.get(name)
    if not isinstance(text, str):
        raise InvalidInput(f"{field}.{name}", f"{field}.{name} must be a string")
    return text


def _image(part: Mapping[str, Any], field: str) -> Image:
    if part.get("file_id") is not None:
        raise InvalidInput(
            f"{field}.file_id",
            f"{field}.file_id is not supported: no file is stored; send a data URL as image_url",
        )
    return image_from_url(part.get("image_url"), f"{field}.image_url")


def _reply_format(
    wanted: Mapping[str, Any] | None,
) -> tuple[TextFormat | JsonFormat, Mapping[str, Any]]:
    """
    Return the format of the reply, and how the response repeats it.
    """
    match wanted:
        case None | {"type": "text"}:
            return TextFormat(), {"type": "text"}
        case {"type": "json_object"}:
            return JsonFormat(), {"type": "json_object"}
        case {"type": "json_schema"}:
            schema = wanted.get("schema")
            name = optional(wanted, "name", str, "a string", "text.format.")
            # The object is checked whether or not the client wants that.
            repeated = {"type": "json_schema", "name": name or _SCHEMA_NAME, "strict": True}
            return schema_format(schema, "text.format.schema"), {**repeated, "schema": schema}
    field = "text.format.type"
    raise InvalidInput(field, f"{field} must be text, json_object or json_schema")


def _metadata(metadata: Mapping[str, Any] | None) -> Mapping[str, str]:
    pairs = metadata or {}
    if len(pairs) > MAX_PAIRS:
        raise InvalidInput("metadata", f"metadata must have at most {MAX_PAIRS} pairs")
    for name, value in pairs.items():
        if len(name) > MAX_NAME:
            raise InvalidInput(
                "metadata", f"metadata must have names of at most {MAX_NAME} characters"
            )
        if not isinstance(value, str) or len(value) > MAX_VALUE:
            raise InvalidInput(
                "metadata",
                f"metadata must have values that are strings of at most {MAX_VALUE} characters",
            )
    return pairs
