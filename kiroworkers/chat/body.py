"""
What the body of a chat completion asks for.

What would change the meaning of the response and cannot be done is refused; what
only tunes a model (temperature, max_tokens, seed, …) and what nobody knows is
ignored.  Source of the form: OpenAI's API reference, "Create chat completion".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import frozen

from kiroworkers.chat.form import JsonForm, TextForm, prompt_for
from kiroworkers.chat.response_schema import accept_schema
from kiroworkers.errors import InvalidInput
from kiroworkers.tasks import ParsedAnswer
from kiroworkers.tasks.task import AnswerLayout

_ROLES = ("system", "developer", "user", "assistant", "tool")
_MOST_STOPS = 4


@frozen
class Chat:
    """
    An accepted request.

    Attributes:
        messages: each has a role, and its content as one string.
        stops: the reply ends before the first of these.
        tells_usage: is a stream to end with its usage?
    """

    model: str
    messages: tuple[Mapping[str, Any], ...]
    form: TextForm | JsonForm
    stops: tuple[str, ...] = ()
    streams: bool = False
    tells_usage: bool = False

    def prompt(self, payload: Mapping[str, Any], layout: AnswerLayout) -> str:
        """
        As `asking.Askable`.
        """
        return prompt_for(self.form, self.messages, layout)

    def answer(self, payload: Mapping[str, Any], text: str, wrapped: bool) -> ParsedAnswer:
        """
        As `asking.Askable`.
        """
        return self.form.find(text, wrapped)

    def answer_schema_for(self, payload: Mapping[str, Any]) -> Mapping[str, Any]:
        """
        As `asking.Askable`.
        """
        return self.form.schema()

    @property
    def is_read_piecewise(self) -> bool:
        """
        May the reply be given out before all of it is known?
        """
        return isinstance(self.form, TextForm) and not self.stops

    def content(self, answer: Mapping[str, Any]) -> str:
        """
        The message in a found `answer`.
        """
        content = self.form.content(answer)
        if isinstance(self.form, TextForm):
            ends = [content.find(stop) for stop in self.stops]
            content = content[: min((end for end in ends if end >= 0), default=None)]
        return content


def accept(body: Any) -> Chat:
    """
    The request in `body` (parsed JSON).

    Raises:
        InvalidInput: naming the field that is wrong, or that cannot be done.
    """
    if not isinstance(body, dict):
        raise InvalidInput("", "The body must be an object")
    _refuse_what_cannot_be_done(body)
    options = _optional(body, "stream_options", dict, "an object") or {}
    return Chat(
        _string(body.get("model"), "model"),
        _messages(body.get("messages")),
        _form(_optional(body, "response_format", dict, "an object")),
        _stops(body.get("stop")),
        bool(_optional(body, "stream", bool, "true or false")),
        options.get("include_usage") is True,
    )


def _refuse_what_cannot_be_done(body: Mapping[str, Any]) -> None:
    if body.get("n") not in (None, 1) or body.get("n") is True:
        raise InvalidInput("n", "n must be 1: each call gives one reply")
    for field, choice in (("tools", "tool_choice"), ("functions", "function_call")):
        if body.get(field) and body.get(choice) != "none":
            raise InvalidInput(
                field, f'{field} are not supported; leave them out, or set {choice} to "none"'
            )
    if body.get("logprobs"):
        raise InvalidInput("logprobs", "logprobs are not supported: no agent tells them")
    if body.get("audio") or body.get("modalities") not in (None, [], ["text"]):
        raise InvalidInput("modalities", "modalities: this server gives text only")


def _messages(messages: Any) -> tuple[Mapping[str, Any], ...]:
    if not isinstance(messages, list) or not messages:
        raise InvalidInput("messages", "messages must be a list of at least one message")
    return tuple(_message(each, f"messages[{index}]") for index, each in enumerate(messages))


def _message(message: Any, field: str) -> Mapping[str, Any]:
    if not isinstance(message, dict):
        raise InvalidInput(field, f"{field} must be an object")
    role = message.get("role")
    if role not in _ROLES:
        raise InvalidInput(f"{field}.role", f"{field}.role must be one of {', '.join(_ROLES)}")
    found: dict[str, Any] = {"role": role}
    name = _optional(message, "name", str, "a string", f"{field}.")
    if name is not None:
        found["name"] = name
    calls = message.get("tool_calls") if role == "assistant" else None
    if calls:
        found["tool_calls"] = _calls(calls, f"{field}.tool_calls")
    if message.get("content") is not None or not calls:
        found["content"] = _content(message.get("content"), f"{field}.content")
    if role == "tool" and isinstance(message.get("tool_call_id"), str):
        found["tool_call_id"] = message["tool_call_id"]
    return found


def _calls(calls: Any, field: str) -> list[dict[str, str]]:
    """
    What the assistant asked of the client's programs before.
    """
    found = []
    for each in calls if isinstance(calls, list) else [calls]:
        match each:
            case {
                "id": str(number),
                "function": {"name": str(name), "arguments": str(arguments)},
            }:
                found.append({"id": number, "name": name, "arguments": arguments})
            case _:
                raise InvalidInput(field, f"{field} must be a list of calls of functions")
    return found


def _content(content: Any, field: str) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise InvalidInput(field, f"{field} must be a string or a list of text parts")
    return "".join(_part(each, f"{field}[{index}]") for index, each in enumerate(content))


def _part(part: Any, field: str) -> str:
    match part:
        case {"type": "text", "text": str(text)} | {"type": "refusal", "refusal": str(text)}:
            return text
        case {"type": "text" | "refusal"}:
            raise InvalidInput(field, f"{field} must have its text as a string")
        case {"type": str(kind)}:
            raise InvalidInput(
                field, f"{field} is of type {kind[:40]}, and this server takes text only"
            )
    raise InvalidInput(field, f"{field} must be an object with a type")


def _form(wanted: Mapping[str, Any] | None) -> TextForm | JsonForm:
    match wanted:
        case None | {"type": "text"}:
            return TextForm()
        case {"type": "json_object"}:
            return JsonForm({"type": "object"})
        case {"type": "json_schema", "json_schema": {"schema": schema}} if schema is not None:
            return JsonForm(accept_schema(schema, "response_format.json_schema.schema"))
        case {"type": "json_schema"}:
            field = "response_format.json_schema.schema"
            raise InvalidInput(field, f"{field} is required")
    field = "response_format.type"
    raise InvalidInput(field, f"{field} must be text, json_object or json_schema")


def _stops(stop: Any) -> tuple[str, ...]:
    stops = [] if stop is None else [stop] if isinstance(stop, str) else stop
    if (
        not isinstance(stops, list)
        or len(stops) > _MOST_STOPS
        or not all(isinstance(each, str) and each for each in stops)
    ):
        raise InvalidInput("stop", f"stop must be a string or up to {_MOST_STOPS}, none empty")
    return tuple(stops)


def _string(value: Any, field: str) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidInput(field, f"{field} is required, as a string")
    return value


def _optional(body: Mapping[str, Any], name: str, kind: type, called: str, within: str = "") -> Any:
    """
    What `name` has in `body`; None where it is null or missing.
    """
    value = body.get(name)
    if value is not None and not isinstance(value, kind):
        raise InvalidInput(within + name, f"{within}{name} must be {called}")
    return value
