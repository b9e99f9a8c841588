"""
Define the JSON Schemas of OpenAI's Responses API.

They follow OpenAI's API reference; its other fields are accepted and ignored, or refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kiroworkers.chat.response_schema import MAX_LENGTH
from kiroworkers.chat.responses import MAX_NAME, MAX_PAIRS, MAX_VALUE
from kiroworkers.web.openapi.schemas import (
    CHAT,
    STRING,
    Schema,
    any_object,
    array,
    boolean,
    choice,
    constant,
    count,
    integer,
    mapping,
    or_null,
    record,
    ref,
    string,
)


def _part(kind: str, name: str, description: str) -> Schema:
    """
    Return the schema of a part of the type `kind`, whose text is the property `name`.
    """
    return record(
        description, type=constant(f"Always `{kind}`.", kind), **{name: string("The text.")}
    )


_INPUT_TEXT = _part("input_text", "text", "Text.")
_OUTPUT_TEXT = _part("output_text", "text", "Text of an earlier reply.")
_REFUSAL = _part("refusal", "refusal", "An earlier refusal of the assistant.")


def _message(description: str, roles: tuple[str, ...], *parts: Schema) -> Schema:
    """
    Return the schema of a message of these `roles` whose content is text or has these `parts`.
    """
    items = parts[0] if len(parts) == 1 else {"anyOf": [*parts]}
    return record(
        description,
        ("type",),
        type=constant("Always `message`; it may be absent.", "message"),
        role=choice("Who wrote the message.", *roles),
        content={
            "description": "The text, or a list of parts.",
            "anyOf": [STRING, {"type": "array", "items": items}],
        },
    )


_FUNCTION_CALL = record(
    "A function call that the assistant made earlier.",
    type=constant("Always `function_call`.", "function_call"),
    call_id=string("Identifier of the call."),
    name=string("Name of the function."),
    arguments=string("Arguments of the call, as JSON text."),
)

_FUNCTION_OUTPUT = record(
    "What a called function returned.",
    type=constant("Always `function_call_output`.", "function_call_output"),
    call_id=string("Identifier of the call.", minLength=1),
    output={
        "description": "The text, or a list of parts.",
        "anyOf": [STRING, {"type": "array", "items": _INPUT_TEXT}],
    },
)

_TEXT_FORMAT = {
    "description": "Format of the reply. Null is the same as absent, which stands for text.",
    "anyOf": [
        record(
            "Text, or any JSON object.",
            type={
                "enum": ["text", "json_object"],
                "description": "`text` for plain text, `json_object` for any JSON object.",
            },
        ),
        record(
            "A JSON object that fits a schema.",
            ("name",),
            type=constant("Always `json_schema`.", "json_schema"),
            name=or_null(string("Name of the format, which the response repeats.")),
            schema=any_object(f"JSON Schema of an object, at most {MAX_LENGTH:,} characters long."),
        ),
    ],
}

_METADATA = {
    **mapping(
        "Pairs that the response repeats. Null is the same as absent.",
        {"type": "string", "maxLength": MAX_VALUE},
    ),
    "maxProperties": MAX_PAIRS,
    "propertyNames": {"maxLength": MAX_NAME},
}

#: The request body of a response, for servers of any agent; `build_document` lists the models of
#: one server.
RESPONSE_REQUEST = record(
    "A request for a response. Fields of OpenAI's API that are not listed here and only tune a "
    "model are accepted and ignored; tools, files and others that an agent cannot take are "
    "refused.",
    ("instructions", "text", "stream", "metadata"),
    model=CHAT["properties"]["model"],
    input={
        "description": "The conversation so far: a message of the user, or a list of items, "
        "oldest first. Items of the type `reasoning` are ignored. A message of a user may also "
        "have parts of the type `input_image` whose `image_url` is a data URL, if the agent "
        "accepts images.",
        "anyOf": [STRING, {"type": "array", "items": ref("InputItem"), "minItems": 1}],
    },
    instructions=or_null(
        string(
            "What the agent is told before the conversation. Null is the same as absent.",
        )
    ),
    text=or_null(
        record(
            "How to reply. Null is the same as absent.", ("format",), format=or_null(_TEXT_FORMAT)
        )
    ),
    stream=or_null(
        boolean(
            "Whether to send the response as server-sent events. Null or absent is the same as "
            "false."
        )
    ),
    metadata=or_null(_METADATA),
)

_NULL = {"type": "null", "description": "Always null."}
_FALSE = constant("Always false.", False)

RESPONSE_SCHEMAS: Mapping[str, Schema] = {
    "InputItem": {
        "description": "An item of a conversation.",
        "anyOf": [
            _message("A message that says how to reply.", ("system", "developer"), _INPUT_TEXT),
            _message("A message of the user.", ("user",), _INPUT_TEXT),
            _message("An earlier reply.", ("assistant",), _INPUT_TEXT, _OUTPUT_TEXT, _REFUSAL),
            _FUNCTION_CALL,
            _FUNCTION_OUTPUT,
        ],
    },
    "ModelResponse": record(
        "The response to a request for one. Settings that are ignored are null, or as they are in "
        "effect.",
        id=string("Identifier of the response. The response is not stored."),
        object=constant("Always `response`.", "response"),
        created_at=integer("When the request arrived, in seconds since the Unix epoch."),
        completed_at=integer("When the reply was complete, in seconds since the Unix epoch."),
        status=constant("Always `completed`, except in a stream.", "completed"),
        error=_NULL,
        incomplete_details=_NULL,
        model=string("The model that was requested."),
        instructions=or_null(string("The instructions of the request; null if it had none.")),
        output=array(
            "The reply, as a list with one message.",
            record(
                "The assistant's message.",
                id=string("Identifier of the message."),
                type=constant("Always `message`.", "message"),
                status=constant("Always `completed`, except in a stream.", "completed"),
                role=constant("Always `assistant`.", "assistant"),
                content=array(
                    "The content, as a list with one part.",
                    record(
                        "The text.",
                        type=constant("Always `output_text`.", "output_text"),
                        text=string(
                            "The reply: text, or JSON text if a JSON format was requested."
                        ),
                        annotations=array("Always empty.", {}),
                        logprobs=array("Always empty.", {}),
                    ),
                ),
            ),
        ),
        usage=record(
            "Estimated token counts, one token per four bytes of text; agents do not report "
            "theirs.",
            input_tokens=count("Estimated tokens of the instructions and the input."),
            input_tokens_details=record(
                "Always zero: agents do not report them.",
                cached_tokens=integer("Always 0."),
                cache_write_tokens=integer("Always 0."),
            ),
            output_tokens=count("Estimated tokens of the reply."),
            output_tokens_details=record(
                "Always zero: agents do not report them.", reasoning_tokens=integer("Always 0.")
            ),
            total_tokens=count("Sum of `input_tokens` and `output_tokens`."),
        ),
        metadata=mapping("The pairs of the request.", STRING),
        text=record(
            "How the reply was asked for.",
            format=any_object("The format of the reply."),
        ),
        tools=array("Always empty.", {}),
        tool_choice=choice("The choice of tools in the request.", "auto", "none"),
        parallel_tool_calls=_FALSE,
        previous_response_id=_NULL,
        store=constant("Always false: no response is stored.", False),
        background=_FALSE,
        truncation=constant("Always `disabled`: nothing is left out.", "disabled"),
        reasoning=record("Always null: agents decide themselves.", effort=_NULL, summary=_NULL),
        max_output_tokens=_NULL,
        max_tool_calls=_NULL,
        temperature=_NULL,
        top_p=_NULL,
        top_logprobs=constant("Always 0.", 0),
        service_tier=_NULL,
        user=_NULL,
    ),
}

#: Examples of responses by their schema.
RESPONSE_EXAMPLES: Mapping[str, Any] = {
    "ModelResponse": {
        "id": "resp_1a229647102-1",
        "object": "response",
        "created_at": 1_795_990_778,
        "completed_at": 1_795_990_783,
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "model": "default",
        "instructions": None,
        "output": [
            {
                "id": "msg_1a229647102-2",
                "type": "message",
                "status": "completed",
                "role": "assistant",
                "content": [
                    {
                        "type": "output_text",
                        "text": "I can answer questions and write code.",
                        "annotations": [],
                        "logprobs": [],
                    }
                ],
            }
        ],
        "usage": {
            "input_tokens": 4,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": 10,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 14,
        },
        "metadata": {},
        "text": {"format": {"type": "text"}},
        "tools": [],
        "tool_choice": "auto",
        "parallel_tool_calls": False,
        "previous_response_id": None,
        "store": False,
        "background": False,
        "truncation": "disabled",
        "reasoning": {"effort": None, "summary": None},
        "max_output_tokens": None,
        "max_tool_calls": None,
        "temperature": None,
        "top_p": None,
        "top_logprobs": 0,
        "service_tier": None,
        "user": None,
    }
}
