"""
Read the fields of a request body, with an error that names the field.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kiroworkers.chat.reply_format import JsonFormat
from kiroworkers.chat.response_schema import SchemaCheck, accept_schema
from kiroworkers.errors import InvalidInput


def body_object(body: Any) -> Mapping[str, Any]:
    """
    Return `body`, parsed JSON, if it is an object.

    Raises:
        InvalidInput: It is not.
    """
    if not isinstance(body, dict):
        raise InvalidInput("", "The body must be an object")
    return body


def required_string(value: Any, field: str) -> str:
    """
    Return `value`, a string that is not empty.

    Raises:
        InvalidInput: It is something else; `field` is its path in the body.
    """
    if not isinstance(value, str) or not value:
        raise InvalidInput(field, f"{field} is required and must be a string")
    return value


def optional(
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


def flag(body: Mapping[str, Any], name: str) -> bool:
    """
    Return the value of an optional field that is true or false; False if it is missing.

    Raises:
        InvalidInput: It is neither.
    """
    return bool(optional(body, name, bool, "true or false"))


def stop_strings(value: Any, field: str, most: int) -> tuple[str, ...]:
    """
    Return stop strings: `most` at most, and none of them empty.

    Args:
        value: A string, a list of strings, or None for no stop strings.
        field: Its path in the body.
        most: How many there may be.

    Raises:
        InvalidInput: It is something else.
    """
    stops = [] if value is None else [value] if isinstance(value, str) else value
    if (
        not isinstance(stops, list)
        or len(stops) > most
        or not all(isinstance(text, str) and text for text in stops)
    ):
        raise InvalidInput(
            field,
            f"{field} must be a non-empty string or a list of up to {most} non-empty strings",
        )
    return tuple(stops)


def schema_format(schema: Any, field: str) -> JsonFormat:
    """
    Return the format of a reply that must fit a client's schema.

    Args:
        schema: The schema; None if it is missing.
        field: Its path in the body.

    Raises:
        InvalidInput: It is missing, or not a JSON Schema of an object.
    """
    if schema is None:
        raise InvalidInput(field, f"{field} is required")
    return JsonFormat(SchemaCheck(accept_schema(schema, field), field))
