"""
JSON Schema, in sentences: what does not fit, where, and why.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

import jsonschema_rs
from attrs import frozen
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

#: Enough to choose a good one from; a body of a megabyte can hold very many.
_MOST_PROBLEMS = 20
_LONGEST_REASON = 300

_UNCHECKED = (
    "The value cannot be checked: it is nested too deeply, holds too large a number, or the "
    "schema refers to itself without end"
)

#: Words of a schema that say the same to every validator.
_PLAIN = {
    *("type", "required", "enum", "minLength", "maxLength", "minItems", "maxItems"),
    *("minimum", "maximum"),
    *("$schema", "title", "description", "default", "examples"),
}

#: Python's own blank characters: validators differ in what ``\s`` stands for.
_NOT_BLANK = "[^\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]"

_KINDS = {
    "object": "an object",
    "array": "a list",
    "string": "a string",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
}


@frozen
class Problem:
    """
    One thing that does not fit: the dotted path of the field (empty: the whole
    value), the schema's keyword that refused it, and a sentence.
    """

    field: str
    keyword: str
    sentence: str


class Validator:
    """
    Holds values against `schema`, one that is used again and again.

    Nearly all values fit, and that is known in a microsecond where the schema uses
    plain words only.  What does not fit, and why, jsonschema says.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._words = Draft202012Validator(schema)
        plain = _in_plain_words(schema)
        self._fast = None if plain is None else jsonschema_rs.Draft202012Validator(plain)

    def problems(self, value: Any) -> list[Problem]:
        """
        As `problems_of`.
        """
        return [] if self._fits(value) else problems_of(self._words, value)

    def _fits(self, value: Any) -> bool:
        """
        Is it certain that `value` fits?
        """
        try:
            return self._fast is not None and self._fast.is_valid(value)
        except ValueError:
            return False  # half a character, say


def _in_plain_words(schema: Any) -> Any:
    """
    `schema`, so that another validator's yes is jsonschema's, too; None where that
    cannot be.
    """
    if not isinstance(schema, Mapping):
        return schema if isinstance(schema, bool) else None
    plain: dict[str, Any] = {}
    for word, said in schema.items():
        match word:
            case "properties":
                plain[word] = {name: _in_plain_words(each) for name, each in said.items()}
                if None in plain[word].values():
                    return None
            case "items" | "additionalProperties":
                plain[word] = _in_plain_words(said)
                if plain[word] is None:
                    return None
            case "pattern" if said == r"\S":
                plain[word] = _NOT_BLANK
            case "enum" if not all(isinstance(each, str) for each in said):
                return None
            case _ if word in _PLAIN:
                plain[word] = said
            case _:
                return None
    return plain


def problems_of(validator: Draft202012Validator, value: Any) -> list[Problem]:
    """
    What is wrong with `value`, the outermost things first; of very many, some.
    """
    try:
        errors = list(islice(validator.iter_errors(value), _MOST_PROBLEMS))
        errors.sort(key=lambda each: len(each.absolute_path))
        return [_describe(each) for each in errors]
    except (RecursionError, ArithmeticError):
        return [Problem("", "", _UNCHECKED)]


def first_problem(validator: Draft202012Validator, value: Any) -> Problem | None:
    """
    What is wrong with `value`, the outermost thing first; None when it fits.
    """
    return next(iter(problems_of(validator, value)), None)


def kinds_of(schema: Mapping[str, Any], default: str = "") -> set[str]:
    """
    The types that `schema` lists, but for null; `default` where it lists none.
    """
    kinds = schema.get("type", default)
    return {kinds} if isinstance(kinds, str) else set(kinds) - {"null"}


def _describe(error: ValidationError) -> Problem:
    path = list(error.absolute_path)
    keyword = str(error.validator)
    expected: Any = error.validator_value
    value: Any = error.instance
    if keyword == "required":
        # One error for each: which one stands in its message only.
        missing = [name for name in expected if name not in value]
        path.append(next(name for name in missing if error.message.startswith(repr(name))))
    field = _dotted(path)
    name = field or "The value"
    match keyword:
        case "required":
            reason = "is required"
        case "type":
            reason = f"must be {_kinds(expected)}, not {_kind_of(value)}"
        case "minLength" | "pattern" if not str(value).strip():
            reason = "must not be blank"
        case "minItems" if expected == 1:
            reason = "must not be empty"
        case "minimum":
            reason = f"must be at least {expected}"
        case "maximum":
            reason = f"must be at most {expected}"
        case "additionalProperties" if expected is False:
            schema: Any = error.schema
            extra = sorted(set(value) - set(schema.get("properties", ())))
            reason = f"may not have {', '.join(map(repr, extra))}"
        case "format":
            reason = f"must be a {expected}: {error.cause}"
        case "enum":
            reason = f"must be one of {', '.join(map(str, expected)) or 'an empty list'}"
        case _:
            reason = f"does not fit the schema: {error.message}"
    return Problem(field, keyword, _shortened(f"{name} {reason}"))


def _shortened(sentence: str) -> str:
    if len(sentence) <= _LONGEST_REASON:
        return sentence
    return sentence[: _LONGEST_REASON - 1] + "…"


def _dotted(path: Iterable[str | int]) -> str:
    dotted = ""
    for step in path:
        if isinstance(step, int):
            dotted += f"[{step}]"
        else:
            dotted += f".{step}" if dotted else step
    return dotted


def _kinds(expected: str | list[str]) -> str:
    names = [expected] if isinstance(expected, str) else expected
    return " or ".join(_KINDS.get(name, name) for name in names if name != "null") or "null"


def _kind_of(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case str():
            return "a string"
        case int() | float():
            return "a number"
        case list():
            return "a list"
        case _:
            return "an object"
