"""
Parse the request body of a chat completion.

A field that would change the meaning of the response and is not supported is rejected.
A field that only tunes a model (temperature, max_tokens, seed, …) and an unknown field
are ignored.  Source of the format: OpenAI's API reference, "Create chat completion".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import frozen

from kiroworkers.chat.reply_format import JsonFormat, TextFormat, chat_prompt
from kiroworkers.chat.response_schema import SchemaCheck, accept_schema
from kiroworkers.errors import InvalidInput
from kiroworkers.tasks import AnswerSearch
from kiroworkers.tasks.task import AnswerLayout

_ROLES = ("system", "developer", "user", "assistant", "tool")

#: The most stop strings of one request.
MAX_STOPS = 4


@frozen
class ChatRequest:
    """
    Hold an accepted request for the next message of a conversation.

    It is a `Promptable` whose payload is not used: all that it needs is in its fields.

    Attributes:
        model: Name of the model: an agent's name or an alias, or one of these with a slash and
            the name of a model of the agent.
        messages: The conversation so far.  Each message has a ``role`` and, except for
            tool calls, its ``content`` as one string.
        reply_format: The format of the reply.
        stops: Stop strings; a text reply is cut before the first of them that it contains.
        streams: Whether the client wants a stream.
        includes_usage: Whether a stream ends with token counts.
    """

    model: str
    messages: tuple[Mapping[str, Any], ...]
    reply_format: TextFormat | JsonFormat
    stops: tuple[str, ...] = ()
    streams: bool = False
    includes_usage: bool = False

    def prompt(self, payload: Mapping[str, Any], layout: AnswerLayout) -> str:
        """
        Return the prompt to send to the agent; see `Promptable.prompt`.
        """
        return chat_prompt(self.reply_format, self.messages, layout)

    def answer_search(
        self,
        payload: Mapping[str, Any],
        text: str,
        wrapped: bool,
        styled: tuple[int, ...] = (),
    ) -> AnswerSearch:
        """
        Return the search for the answer in the agent's output; see `Promptable.answer_search`.
        """
        return self.reply_format.answer_search(text, wrapped, styled)

    def answer_schema_for(self, payload: Mapping[str, Any]) -> Mapping[str, Any]:
        """
        Return the schema of the agent's answer; see `Promptable.answer_schema_for`.
        """
        return self.reply_format.answer_schema()

    @property
    def schema_check(self) -> SchemaCheck | None:
        """
        Return the check of the client's schema, which must pass before the request is used.

        None if there is no such schema.
        """
        return self.reply_format.check if isinstance(self.reply_format, JsonFormat) else None

    @property
    def can_stream_incrementally(self) -> bool:
        """
        Return whether the reply may be sent before all of it is known.

        This is the case for text without stop strings.  An object is checked as a whole,
        and a stop string may be cut between two pieces.
        """
        return isinstance(self.reply_format, TextFormat) and not self.stops

    def content(self, answer: Mapping[str, Any]) -> str:
        """
        Return the content of the reply.

        Args:
            answer: The value of a parsed answer.
        """
        content = self.reply_format.content(answer)
        if isinstance(self.reply_format, TextFormat):
            ends = [content.find(stop) for stop in self.stops if stop in content]
            content = content[: min(ends, default=None)]
        return content


def parse_request(body: Any) -> ChatRequest:
    """
    Return the request that `body` (parsed JSON) describes.

    Its `ChatRequest.schema_check` remains to be run.

    Raises:
        InvalidInput: A field is invalid or asks for something that is not supported.
    """
    if not isinstance(body, dict):
        raise InvalidInput("", "The body must be an object")
    _reject_unsupported(body)
    stream_options = _optional(body, "stream_options", dict, "an object") or {}
    return ChatRequest(
        _string(body.get("model"), "model"),
        _messages(body.get("messages")),
        _reply_format(_optional(body, "response_format", dict, "an object")),
        _stops(body.get("stop")),
        bool(_optional(body, "stream", bool, "true or false")),
        stream_options.get("include_usage") is True,
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


def _messages(messages: Any) -> tuple[Mapping[str, Any], ...]:
    if not isinstance(messages, list) or not messages:
        raise InvalidInput("messages", "messages must be a list of at least one message")
    return tuple(_message(message, f"messages[{index}]") for index, message in enumerate(messages))


def _message(message: Any, field: str) -> Mapping[str, Any]:
    """
    Return the parts of `message` that are supported; `field` is its path in the body.
    """
    if not isinstance(message, dict):
        raise InvalidInput(field, f"{field} must be an object")
    role = message.get("role")
    if role not in _ROLES:
        raise InvalidInput(f"{field}.role", f"{field}.role must be one of {', '.join(_ROLES)}")
    accepted: dict[str, Any] = {"role": role}
    name = _optional(message, "name", str, "a string", f"{field}.")
    if name is not None:
        accepted["name"] = name
    calls = message.get("tool_calls") if role == "assistant" else None
    if calls:
        accepted["tool_calls"] = _tool_calls(calls, f"{field}.tool_calls")
    if message.get("content") is not None or not calls:
        accepted["content"] = _content(message.get("content"), f"{field}.content")
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


def _content(content: Any, field: str) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise InvalidInput(field, f"{field} must be a string or a list of text parts")
    return "".join(_part(part, f"{field}[{index}]") for index, part in enumerate(content))


def _part(part: Any, field: str) -> str:
    match part:
        case {"type": "text", "text": str(text)} | {"type": "refusal", "refusal": str(text)}:
            return text
        case {"type": "text" | "refusal" as kind}:
            raise InvalidInput(field, f"{field} must have a string in its field {kind}")
        case {"type": str(kind)}:
            raise InvalidInput(field, f"{field} is of type {kind[:40]}; only text is supported")
    raise InvalidInput(field, f"{field} must be an object with a type")


def _reply_format(response_format: Mapping[str, Any] | None) -> TextFormat | JsonFormat:
    match response_format:
        case None | {"type": "text"}:
            return TextFormat()
        case {"type": "json_object"}:
            return JsonFormat()
        case {"type": "json_schema", "json_schema": {"schema": schema}} if schema is not None:
            field = "response_format.json_schema.schema"
            return JsonFormat(SchemaCheck(accept_schema(schema, field), field))
        case {"type": "json_schema"}:
            field = "response_format.json_schema.schema"
            raise InvalidInput(field, f"{field} is required")
    field = "response_format.type"
    raise InvalidInput(field, f"{field} must be text, json_object or json_schema")


def _stops(stop: Any) -> tuple[str, ...]:
    stops = [] if stop is None else [stop] if isinstance(stop, str) else stop
    if (
        not isinstance(stops, list)
        or len(stops) > MAX_STOPS
        or not all(isinstance(text, str) and text for text in stops)
    ):
        raise InvalidInput(
            "stop",
            f"stop must be a non-empty string or a list of up to {MAX_STOPS} non-empty strings",
        )
    return tuple(stops)


def _string(value: Any, field: str) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidInput(field, f"{field} is required and must be a string")
    return value


def _optional(
    body: Mapping[str, Any], name: str, kind: type, kind_name: str, prefix: str = ""
) -> Any:
    """
    Return the value of an optional field; None if it is null or missing.

    Args:
        body: The object that may have the field.
        name: The field's name.
        kind: The type that the value must have.
        kind_name: The type in words, for the error.
        prefix: The path of `body`, for the error.

    Raises:
        InvalidInput: The value has another type.
    """
    value = body.get(name)
    if value is not None and not isinstance(value, kind):
        raise InvalidInput(prefix + name, f"{prefix}{name} must be {kind_name}")
    return value
