"""
Read the request body of a message, in the format of Anthropic's Messages API.

A field that would change the meaning of the response and is not supported is rejected.
A field that only tunes a model (temperature, max_tokens, thinking that the model decides, …) and
an unknown field are ignored.  Source of the format: Anthropic's API reference, "Create a Message".
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
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
from kiroworkers.images import Image, image_from_base64, image_from_url

_ROLES = ("user", "assistant", "system")

#: The most stop sequences of one request.
MAX_STOP_SEQUENCES = 4

#: Types of blocks that a message of each role may have.
_BLOCKS: Mapping[str, Sequence[str]] = {
    "user": ("text", "image", "tool_result"),
    "assistant": ("text", "tool_use"),
    "system": ("text",),
}

#: Types of blocks that the result of a tool may have.
_RESULT_BLOCKS = ("text", "image")

#: What separates blocks of text in one message.
_PARAGRAPH = "\n\n"

#: Fields that refer to something which is not in the request, or which the server does not have.
_UNSUPPORTED = {
    "mcp_servers": "an agent's MCP servers are configured where the agent runs",
    "container": "there is no code execution",
    "thread": "the server keeps no conversations, so send all messages",
}


@frozen
class MessageRequest:
    """
    Hold an accepted request for a message.

    Attributes:
        conversation: The conversation to continue.
        streams: Whether the client wants a stream.
    """

    conversation: Conversation
    streams: bool = False


def parse_message(body: Any) -> MessageRequest:
    """
    Return the request that `body` (parsed JSON) describes.

    Its `Conversation.schema_check` remains to be run.

    Raises:
        InvalidInput: A field is invalid or asks for something that is not supported.
    """
    conversation = parse_counted(body)
    most = body.get("max_tokens")
    if not isinstance(most, int) or isinstance(most, bool) or most < 1:
        raise InvalidInput(
            "max_tokens", "max_tokens is required and must be a positive whole number"
        )
    return MessageRequest(conversation, flag(body, "stream"))


def parse_counted(body: Any) -> Conversation:
    """
    Return the conversation in `body` (parsed JSON), a request to count its tokens.

    Raises:
        InvalidInput: A field is invalid or asks for something that is not supported.
    """
    body = body_object(body)
    _reject_unsupported(body)
    images = ImageList()
    return Conversation(
        required_string(body.get("model"), "model"),
        (*_system(body.get("system")), *_messages(body.get("messages"), images)),
        _reply_format(body),
        stop_strings(
            optional(body, "stop_sequences", list, "a list of strings"),
            "stop_sequences",
            MAX_STOP_SEQUENCES,
        ),
        images.all(),
    )


def _reject_unsupported(body: Mapping[str, Any]) -> None:
    """
    Raise `InvalidInput` if a field of `body` asks for something that is not supported.
    """
    if body.get("tools") and not _has_type(body.get("tool_choice"), "none"):
        raise InvalidInput(
            "tools", 'tools are not supported; omit them or set tool_choice to {"type": "none"}'
        )
    for field, reason in _UNSUPPORTED.items():
        if body.get(field):
            raise InvalidInput(field, f"{field} is not supported: {reason}")
    if body.get("thinking") is not None and not _has_type(body["thinking"], "disabled", "adaptive"):
        raise InvalidInput(
            "thinking",
            "thinking must be disabled or adaptive: agents decide themselves how much they think",
        )
    if body.get("inference_geo") not in (None, "global"):
        raise InvalidInput(
            "inference_geo",
            "inference_geo is not supported: the server does not know where an agent's model runs",
        )


def _has_type(value: Any, *types: str) -> bool:
    return isinstance(value, dict) and value.get("type") in types


def _system(system: Any) -> list[Mapping[str, Any]]:
    """
    Return the system prompt as a list of one message, or of none.
    """
    if system is None:
        return []
    return [{"role": "system", "content": _text(system, "system", _BLOCKS["system"], ImageList())}]


def _messages(messages: Any, images: ImageList) -> Iterator[Mapping[str, Any]]:
    """
    Yield the messages of the conversation, and add the images in them to `images`.
    """
    if not isinstance(messages, list) or not messages:
        raise InvalidInput("messages", "messages must be a list of at least one message")
    for index, message in enumerate(messages):
        yield from _message(message, f"messages[{index}]", images)
    if messages[-1]["role"] == "assistant":
        field = f"messages[{len(messages) - 1}].role"
        raise InvalidInput(
            field,
            f"{field} must not be assistant: an agent writes a message of its own, and cannot be "
            "made to continue one",
        )


def _message(message: Any, field: str, images: ImageList) -> Iterator[Mapping[str, Any]]:
    """
    Yield what `message` becomes in a conversation, and add the images in it to `images`.

    The result of a tool is a message of its own there.
    """
    if not isinstance(message, dict):
        raise InvalidInput(field, f"{field} must be an object")
    role = message.get("role")
    if role not in _ROLES:
        raise InvalidInput(f"{field}.role", f"{field}.role must be one of {', '.join(_ROLES)}")
    texts: list[str] = []
    calls: list[Mapping[str, Any]] = []
    results = False
    for block, place in _blocks(message.get("content"), f"{field}.content"):
        match _block_type(block, place, _BLOCKS[role]):
            case "tool_use":
                calls.append(_tool_call(block, place))
            case "tool_result":
                if texts:
                    yield {"role": role, "content": _PARAGRAPH.join(texts)}
                    texts = []
                results = True
                yield _tool_result(block, place, images)
            case _:
                texts.append(_block_text(block, place, images))
    if texts or not (calls or results):
        content = {"content": _PARAGRAPH.join(texts)}
        yield {"role": role, **content, **({"tool_calls": calls} if calls else {})}
    elif calls:
        yield {"role": role, "tool_calls": calls}


def _blocks(content: Any, field: str) -> Iterator[tuple[Any, str]]:
    """
    Yield the blocks of `content`, a string or a list, each with its path in the body.
    """
    if isinstance(content, str):
        yield {"type": "text", "text": content}, field
        return
    if not isinstance(content, list):
        raise InvalidInput(field, f"{field} must be a string or a list of blocks")
    for index, block in enumerate(content):
        yield block, f"{field}[{index}]"


def _block_type(block: Any, field: str, types: Sequence[str]) -> str:
    """
    Return the type of `block`, which must be one of `types`.
    """
    kind = block.get("type") if isinstance(block, dict) else None
    if not isinstance(kind, str):
        raise InvalidInput(field, f"{field} must be an object with a type")
    if kind not in types:
        raise InvalidInput(
            f"{field}.type",
            f"{field}.type must be one of {', '.join(types)} here; {kind[:40]!r} is not supported",
        )
    return kind


def _block_text(block: Mapping[str, Any], field: str, images: ImageList) -> str:
    """
    Return the text of `block`, or the text that stands for its image.
    """
    if block["type"] == "image":
        return images.add(_image(block.get("source"), f"{field}.source"))
    text = block.get("text")
    if not isinstance(text, str):
        raise InvalidInput(f"{field}.text", f"{field}.text must be a string")
    return text


def _image(source: Any, field: str) -> Image:
    match source:
        case {"type": "base64"}:
            return image_from_base64(source.get("media_type"), source.get("data"), field)
        case {"type": "url"}:
            return image_from_url(source.get("url"), f"{field}.url")
    raise InvalidInput(f"{field}.type", f"{field}.type must be base64")


def _text(content: Any, field: str, types: Sequence[str], images: ImageList) -> str:
    """
    Return the text of `content`, which is a string or a list of blocks of these `types`.
    """
    texts = []
    for block, place in _blocks(content, field):
        _block_type(block, place, types)
        texts.append(_block_text(block, place, images))
    return _PARAGRAPH.join(texts)


def _tool_call(block: Mapping[str, Any], field: str) -> Mapping[str, Any]:
    """
    Return the use of a tool that an assistant's message asked for earlier.
    """
    match block:
        case {"id": str(identifier), "name": str(name), "input": dict(arguments)}:
            try:
                text = json.dumps(arguments, ensure_ascii=False)
            except RecursionError:
                raise InvalidInput(
                    f"{field}.input", f"{field}.input is nested too deeply"
                ) from None
            return {"id": identifier, "name": name, "arguments": text}
    raise InvalidInput(field, f"{field} must have an id, a name and an object as its input")


def _tool_result(block: Mapping[str, Any], field: str, images: ImageList) -> Mapping[str, Any]:
    content = [] if block.get("content") is None else block["content"]
    return {
        "role": "tool",
        "content": _text(content, f"{field}.content", _RESULT_BLOCKS, images),
        "tool_call_id": required_string(block.get("tool_use_id"), f"{field}.tool_use_id"),
        **({"is_error": True} if block.get("is_error") is True else {}),
    }


def _reply_format(body: Mapping[str, Any]) -> TextFormat | JsonFormat:
    """
    Return the format that ``output_config.format`` asks for.

    Clients that use it as a beta send it as ``output_format``.
    """
    config = optional(body, "output_config", dict, "an object") or {}
    for fields, name, prefix in ((config, "format", "output_config."), (body, "output_format", "")):
        wanted = optional(fields, name, dict, "an object", prefix)
        if wanted is None:
            continue
        field = prefix + name
        if wanted.get("type") != "json_schema":
            raise InvalidInput(f"{field}.type", f"{field}.type must be json_schema")
        return schema_format(wanted.get("schema"), f"{field}.schema")
    return TextFormat()
