"""
Validate against JSON Schema, and report problems as sentences.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Any

import jsonschema_rs
from attrs import frozen
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

#: How many problems are collected: enough to report the best ones, since a body of a
#: megabyte can have very many.
_MAX_PROBLEMS = 20
#: The maximum length of a sentence, in characters.
_MAX_SENTENCE_LENGTH = 300

_CANNOT_CHECK = (
    "The value cannot be checked: it is nested too deeply, contains a number that is too "
    "large, or its schema refers to itself without end"
)

#: Keywords that mean the same to every validator.
_PORTABLE_KEYWORDS = {
    *("type", "required", "enum", "minLength", "maxLength", "minItems", "maxItems"),
    *("minimum", "maximum"),
    *("$schema", "title", "description", "default", "examples"),
}

#: Python's own blank characters: validators disagree about what ``\s`` matches.
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
    Describe one way in which a value does not fit its schema.

    Attributes:
        field: The dotted path of the field; empty for the whole value.
        keyword: The schema keyword that the value violates.
        sentence: A sentence for people, which names the field.
    """

    field: str
    keyword: str
    sentence: str


class Validator:
    """
    Validate many values against one schema.

    Nearly all values fit.  If the schema uses portable keywords only, jsonschema-rs
    confirms that in a microsecond; jsonschema explains the values that do not fit.

    Attributes:
        schema: The JSON Schema.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self.schema = schema
        self._validator = Draft202012Validator(schema)
        plain = _portable(schema)
        self._fast = None if plain is None else jsonschema_rs.Draft202012Validator(plain)

    def __reduce__(self) -> tuple[Any, ...]:
        # Another process makes its own validator.
        return Validator, (self.schema,)

    @property
    def is_linear(self) -> bool:
        """
        Return whether the cost is proportional to the number of values, whatever they are.

        This holds for portable keywords.  Others may compare each item with every other one.
        """
        return self._fast is not None

    def problems(self, value: Any) -> list[Problem]:
        """
        Return the problems of `value`, as `problems_of` does.
        """
        return [] if self.confirms(value) else problems_of(self._validator, value)

    def confirms(self, value: Any) -> bool:
        """
        Return whether `value` is certain to fit, at little cost.
        """
        try:
            return self._fast is not None and self._fast.is_valid(value)
        except ValueError:
            return False  # a lone surrogate, for example
        except BaseException as error:
            if not _is_panic(error):
                raise
            return False


@contextmanager
def panics_as_errors() -> Iterator[None]:
    """
    Raise a panic of a native library as `RecursionError`.

    A panic derives from `BaseException`, so it would end more than the request that
    caused it.  `referencing` keeps its resources in such a library, rpds, which panics
    if Python's stack overflows while it compares two keys.
    """
    try:
        yield
    except BaseException as error:
        if not _is_panic(error):
            raise
        raise RecursionError(f"a native library panicked: {error}") from error


def _is_panic(error: BaseException) -> bool:
    """
    Return whether `error` is a panic of a library written in Rust.

    Each such library has its own class of panics, which cannot be imported.
    """
    return type(error).__module__ == "pyo3_runtime"


def _portable(schema: Any) -> Any:
    """
    Return `schema` in a form that every validator interprets the same way, or None.

    If a validator accepts a value under that form, jsonschema accepts it under
    `schema`.
    """
    if not isinstance(schema, Mapping):
        return schema if isinstance(schema, bool) else None
    portable: dict[str, Any] = {}
    for keyword, value in schema.items():
        match keyword:
            case "properties":
                portable[keyword] = {name: _portable(schema) for name, schema in value.items()}
                if None in portable[keyword].values():
                    return None
            case "items" | "additionalProperties":
                portable[keyword] = _portable(value)
                if portable[keyword] is None:
                    return None
            case "pattern" if value == r"\S":
                portable[keyword] = _NOT_BLANK
            case "enum" if not all(isinstance(choice, str) for choice in value):
                return None
            case _ if keyword in _PORTABLE_KEYWORDS:
                portable[keyword] = value
            case _:
                return None
    return portable


def problems_of(validator: Draft202012Validator, value: Any) -> list[Problem]:
    """
    Return the problems of `value`, outermost first; at most `_MAX_PROBLEMS` of them.
    """
    try:
        with panics_as_errors():
            errors = list(islice(validator.iter_errors(value), _MAX_PROBLEMS))
        errors.sort(key=lambda error: len(error.absolute_path))
        return [_describe(error) for error in errors]
    except (RecursionError, ArithmeticError):
        return [Problem("", "", _CANNOT_CHECK)]


def first_problem(validator: Draft202012Validator, value: Any) -> Problem | None:
    """
    Return the outermost problem of `value`, or None if it fits.
    """
    return next(iter(problems_of(validator, value)), None)


def kinds_of(schema: Mapping[str, Any], default: str = "") -> set[str]:
    """
    Return the types that `schema` lists, without null.

    Args:
        schema: A JSON Schema.
        default: The type to assume if the schema lists none.
    """
    kinds = schema.get("type", default)
    return {kinds} if isinstance(kinds, str) else set(kinds) - {"null"}


def _describe(error: ValidationError) -> Problem:
    path = list(error.absolute_path)
    keyword = str(error.validator)
    expected: Any = error.validator_value
    value: Any = error.instance
    if keyword == "required":
        # One error for each missing field: only its message tells which.
        missing = [name for name in expected if name not in value]
        path.append(next(name for name in missing if error.message.startswith(repr(name))))
    field = dotted(path)
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
        case "enum":
            reason = f"must be one of {', '.join(map(str, expected)) or 'an empty list'}"
        case _:
            reason = f"does not fit the schema: {error.message}"
    return Problem(field, keyword, _shorten(f"{name} {reason}"))


def _shorten(sentence: str) -> str:
    if len(sentence) <= _MAX_SENTENCE_LENGTH:
        return sentence
    return sentence[: _MAX_SENTENCE_LENGTH - 1] + "…"


def dotted(path: Iterable[str | int]) -> str:
    """
    Return the steps of `path` as clients read them, such as ``story.criteria[0]``.
    """
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += f".{step}" if text else step
    return text


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
