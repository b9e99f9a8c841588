"""
Define the JSON Schemas of the part of the API that is compatible with Anthropic's.

They follow Anthropic's API reference; its other fields are accepted and ignored, or refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kiroworkers.chat.messages import MAX_STOP_SEQUENCES
from kiroworkers.chat.response_schema import MAX_LENGTH
from kiroworkers.images import MEDIA_TYPES
from kiroworkers.web.openapi.schemas import (
    CHAT,
    ERROR_DETAILS,
    STRING,
    Schema,
    any_object,
    array,
    boolean,
    choice,
    constant,
    count,
    integer,
    or_null,
    record,
    ref,
    string,
)

_TEXT_BLOCK = record(
    "A block of text.",
    type=constant("Always `text`.", "text"),
    text=string("The text."),
)

_IMAGE_BLOCK = record(
    "An image, if the agent accepts images.",
    type=constant("Always `image`.", "image"),
    source=record(
        "The image itself; it is not fetched from elsewhere.",
        type=constant("Always `base64`.", "base64"),
        media_type=choice("Type of the image.", *MEDIA_TYPES),
        data=string("The image, as base64 text.", contentEncoding="base64"),
    ),
)

_TEXT: Schema = {"anyOf": [STRING, {"type": "array", "items": _TEXT_BLOCK}]}

_TOOL_USE = record(
    "An earlier use of a tool.",
    type=constant("Always `tool_use`.", "tool_use"),
    id=string("Identifier of the use."),
    name=string("Name of the tool."),
    input=any_object("Input of the tool."),
)

_TOOL_RESULT = record(
    "The result of an earlier use of a tool.",
    ("content",),
    type=constant("Always `tool_result`.", "tool_result"),
    tool_use_id=string("Identifier of the use.", minLength=1),
    content={
        **or_null(
            {
                "anyOf": [
                    STRING,
                    {"type": "array", "items": {"anyOf": [_TEXT_BLOCK, _IMAGE_BLOCK]}},
                ]
            }
        ),
        "description": "The result: text, or a list of blocks. Null is the same as absent.",
    },
)


def _message(role: str, *blocks: Schema) -> Schema:
    """
    Return the schema of a message of `role` whose content is text or has these `blocks`.
    """
    items = blocks[0] if len(blocks) == 1 else {"anyOf": [*blocks]}
    return record(
        f"A message with the role `{role}`.",
        role=constant(f"Always `{role}`.", role),
        content={
            "description": "The text, or a list of blocks.",
            "anyOf": [STRING, {"type": "array", "items": items}],
        },
    )


_FORMAT = record(
    "A JSON object that fits a schema.",
    type=constant("Always `json_schema`.", "json_schema"),
    schema=any_object(f"JSON Schema of an object, at most {MAX_LENGTH:,} characters long."),
)

#: What a conversation is, whether it is to be continued or counted.
_COUNTED: Mapping[str, Schema] = {
    "model": CHAT["properties"]["model"],
    "messages": array(
        "The conversation so far, oldest message first. The last one is not the assistant's.",
        ref("InputMessage"),
        minItems=1,
    ),
    "system": {
        **or_null(_TEXT),
        "description": "What the agent is told before the conversation. Null is the same as "
        "absent.",
    },
    "output_config": or_null(
        record(
            "How to reply. Null is the same as absent.",
            ("format",),
            format={
                **or_null(_FORMAT),
                "description": "Format of the reply; null or absent for text.",
            },
        )
    ),
    "stop_sequences": or_null(
        array(
            "Texts before which the reply is cut. They apply to plain text only. Null is the same "
            "as absent.",
            {"type": "string", "minLength": 1},
            maxItems=MAX_STOP_SEQUENCES,
        )
    ),
}

_OPTIONAL = ("system", "output_config", "stop_sequences")

#: The request body of a message, and the one to count its tokens, for servers of any agent;
#: `build_document` lists the models of one server.
MESSAGE_REQUEST = record(
    "A request for the next message of a conversation. Fields of Anthropic's API that are not "
    "listed here and only tune a model are accepted and ignored; tools, documents and others that "
    "an agent cannot take are refused.",
    (*_OPTIONAL, "stream"),
    max_tokens=integer("Required as in Anthropic's API, but agents have no such limit.", minimum=1),
    stream=or_null(
        boolean(
            "Whether to send the reply as server-sent events. Null or absent is the same as false."
        )
    ),
    **_COUNTED,
)
COUNTED_REQUEST = record("A conversation whose tokens are to be counted.", _OPTIONAL, **_COUNTED)

_ESTIMATED = constant("Always true: agents do not report tokens.", True)
_ZERO = integer("Always 0.")

ANTHROPIC_SCHEMAS: Mapping[str, Schema] = {
    "InputMessage": {
        "description": "A message of a conversation.",
        "anyOf": [
            _message("user", _TEXT_BLOCK, _IMAGE_BLOCK, _TOOL_RESULT),
            _message("assistant", _TEXT_BLOCK, _TOOL_USE),
            _message("system", _TEXT_BLOCK),
        ],
    },
    "Message": record(
        "The reply to a request for a message.",
        id=string("Identifier of the message."),
        type=constant("Always `message`.", "message"),
        role=constant("Always `assistant`.", "assistant"),
        model=string("The model that was requested."),
        content=array("The reply, as a list with one block.", _TEXT_BLOCK),
        stop_reason=choice("Why the reply ended.", "end_turn", "stop_sequence"),
        stop_sequence=or_null(
            string("The stop sequence before which the reply was cut; null if it is whole.")
        ),
        stop_details={"type": "null", "description": "Always null."},
        usage=record(
            "Estimated token counts, one token per four bytes of text.",
            input_tokens=count("Estimated tokens of the request's messages."),
            output_tokens=count("Estimated tokens of the reply."),
            cache_creation_input_tokens=_ZERO,
            cache_read_input_tokens=_ZERO,
            estimated=_ESTIMATED,
        ),
    ),
    "TokenCount": record(
        "An estimated number of tokens, one token per four bytes of text.",
        input_tokens=count("Estimated tokens of the messages."),
        estimated=_ESTIMATED,
    ),
    "AnthropicModel": record(
        "An agent or one of its models, as a model of Anthropic's API.",
        type=constant("Always `model`.", "model"),
        id=string(
            "Name of the model: an agent's name, an alias of the default agent, or `AGENT/MODEL`."
        ),
        display_name=string("The same."),
        created_at=string("When the server started.", format="date-time"),
        lifecycle=constant("Always `active`.", "active"),
    ),
    "AnthropicModels": record(
        "A page of models.",
        data=array("The models.", ref("AnthropicModel")),
        has_more=boolean("Whether there are more models in the direction of the page."),
        first_id=or_null(string("The first model of the page; null if there is none.")),
        last_id=or_null(string("The last model of the page; null if there is none.")),
    ),
    "AnyModel": {
        "description": "A model in the format of the client's API.",
        "anyOf": [ref("Model"), ref("AnthropicModel")],
    },
    "AnyModels": {
        "description": "The models in the format of the client's API.",
        "anyOf": [ref("Models"), ref("AnthropicModels")],
    },
    "AnyError": {
        "description": "Why a request failed, in the format of the client's API.",
        "anyOf": [ref("OpenAIError"), ref("AnthropicError")],
    },
    "AnthropicError": record(
        "Why a request failed, in the format of Anthropic's API.",
        type=constant("Always `error`.", "error"),
        error=record(
            "The error.",
            type=string("Kind of error, such as `invalid_request_error` or `overloaded_error`."),
            message=string("One sentence for people. Its wording may change."),
            details=record(
                "More about the error.",
                ("field", *(name for name in ERROR_DETAILS if name != "requestId")),
                error_code=string("One word for programs. It does not change."),
                field=string("Path of the invalid field, or name of the invalid header."),
                **{name: schema for name, schema in ERROR_DETAILS.items() if name != "requestId"},
            ),
        ),
        request_id=or_null(
            string("Identifier of the request, as in the headers `X-Request-ID` and `request-id`.")
        ),
    ),
}

_TOKENS = {"input_tokens": 4, "estimated": True}

#: Examples of responses by their schema.
ANTHROPIC_EXAMPLES: Mapping[str, Any] = {
    "TokenCount": _TOKENS,
    "Message": {
        "id": "msg_1a229647102-1",
        "type": "message",
        "role": "assistant",
        "model": "default",
        "content": [{"type": "text", "text": "I can answer questions and write code."}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "stop_details": None,
        "usage": {
            **_TOKENS,
            "output_tokens": 10,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
        },
    },
}
