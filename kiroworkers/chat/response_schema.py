"""
Accept and apply a client's own JSON Schema without letting it cost the server too much.

Both can take very long, so `SchemaCheck` and `ClientSchemaSearch` are run in another process,
which has limits.  Within these, validation follows no external references and takes a bounded
number of steps: references to references can double the work with every line of a schema.  A
regular expression can take forever on one string, so none is ever tried.

A schema that names its dialect with ``$schema`` would be checked by that dialect's
validator, which knows nothing of these limits.  So the name is dropped at the top and
rejected further inside.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any

from attrs import frozen
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError
from jsonschema.validators import extend
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from kiroworkers.errors import AnswerSchemaMismatch, InvalidInput
from kiroworkers.json_schema import Problem, first_problem, panics_as_errors
from kiroworkers.tasks import AnswerSearch, ParsedAnswer, find_answer

#: Maximum length of a schema as text, in characters.
MAX_LENGTH = 30_000

#: Maximum number of steps of one validation.  A step is a keyword applied to a value.
_MAX_STEPS = 20_000

#: Items of a list in the schema that count as one more step, since each of them is compared
#: with the value.
_ITEMS_PER_STEP = 100

#: Keywords whose value is a list of schemas; each of them counts as one step.
_LISTS_OF_SCHEMAS = ("anyOf", "allOf", "oneOf")

#: Keywords that need a regular expression, or that search where no step is counted.
_UNSUPPORTED = (
    "patternProperties",
    "unevaluatedProperties",
    "unevaluatedItems",
    "$dynamicRef",
    "$id",
    "$schema",
)

#: Keywords that are accepted and not checked.
_UNCHECKED = ("pattern", "format")

#: Keywords whose value maps names to schemas.
_MAPS_OF_SCHEMAS = ("properties", "$defs", "definitions", "dependentSchemas")

#: Keywords whose value is not a schema, whatever it looks like.
_VALUES = ("enum", "const", "default", "examples")

#: References to the schema itself and to its definitions.
_REFERENCE = re.compile(r"#(/(\$defs|definitions)/[^/]+)?")


class _TooManySteps(Exception):
    """
    Raised when a validation has taken `_MAX_STEPS`.
    """


def accept_schema(schema: Any, field: str) -> Mapping[str, Any]:
    """
    Return a client's `schema`, without the name of its dialect.

    This is the part of the check that costs little; a `SchemaCheck` is the other one.

    Args:
        schema: Parsed JSON.
        field: The schema's path in the request, for the error.

    Raises:
        InvalidInput: This is not a JSON Schema of an object, or it is too large.
    """
    if not isinstance(schema, dict):
        raise InvalidInput(field, f"{field} must be an object")
    if schema.get("type", "object") != "object":
        raise InvalidInput(field, f"{field} must have the type object")
    accepted = {name: value for name, value in schema.items() if name != "$schema"}
    try:
        if len(str(accepted)) > MAX_LENGTH:
            raise InvalidInput(field, f"{field} is longer than {MAX_LENGTH} characters")
    except RecursionError:
        raise InvalidInput(field, f"{field} is nested too deeply") from None
    return accepted


@frozen
class SchemaCheck:
    """
    Describe the check of a client's schema; this is a `kiroworkers.offload.call.Call`.

    Attributes:
        schema: What `accept_schema` returned.
        field: The schema's path in the request, for the error.
    """

    schema: Mapping[str, Any]
    field: str

    def run(self) -> str | None:
        """
        Return why this is not a JSON Schema that is supported, or None if it is one.
        """
        field = self.field
        try:
            with panics_as_errors():
                Draft202012Validator.check_schema(self.schema)
                _check_keywords(self.schema, field)
        except SchemaError as error:
            path = ".".join(map(str, error.absolute_path))
            where = f" at {path[:100]}" if path else ""
            return f"{field} is not a valid JSON Schema{where}: {error.message[:200]}"
        except RecursionError:
            return f"{field} is nested too deeply"
        except InvalidInput as error:
            return error.reason
        return None

    def result(self, outcome: str | None) -> None:
        """
        Raise `InvalidInput` if the schema cannot be used.
        """
        if outcome is not None:
            raise InvalidInput(self.field, outcome)

    def failure(self, reason: str) -> InvalidInput:
        """
        Return the error for a schema whose check was stopped.
        """
        return InvalidInput(self.field, f"{self.field} is too complex: checking it {reason}")


@frozen
class ClientSchemaSearch(AnswerSearch):
    """
    Describe the search for an answer that fits a client's schema.

    Attributes:
        schema: A schema that passed its `SchemaCheck`.
    """

    @property
    def is_cheap(self) -> bool:
        """
        Return False: nothing is known about the schema.
        """
        return False

    def find(self) -> ParsedAnswer:
        """
        Return the last object in the text that has all required properties.

        Raises:
            AnswerSchemaMismatch: There is no such object, or it does not fit the schema.
            AnswerUnreadable: The object cannot be read with certainty.
        """
        shape = {"type": "object", "required": self.schema.get("required", [])}
        answer = find_answer(self.text, shape, wrapped=self.wrapped, styled=self.styled)
        problem = problem_with(answer.value, self.schema)
        if problem is not None:
            raise AnswerSchemaMismatch(problem.sentence)
        return answer


def problem_with(answer: Any, schema: Mapping[str, Any]) -> Problem | None:
    """
    Return why `answer` does not fit `schema`, or None if it does.

    Args:
        answer: Parsed JSON.
        schema: A schema that passed its `SchemaCheck`.
    """
    steps = 0

    def counting(keyword: str, apply: Callable[..., Any]) -> Callable[..., Iterator[Any]]:
        items_per_step = 1 if keyword in _LISTS_OF_SCHEMAS else _ITEMS_PER_STEP

        def step(validator: Any, value: Any, *others: Any) -> Iterator[Any]:
            nonlocal steps
            steps += 1
            if isinstance(value, list):
                steps += len(value) // items_per_step
            if steps > _MAX_STEPS:
                raise _TooManySteps
            yield from apply(validator, value, *others) or ()

        return step

    keywords = {
        name: counting(name, apply)
        for name, apply in {**Draft202012Validator.VALIDATORS, "uniqueItems": _unique}.items()
    } | dict.fromkeys(_UNCHECKED, lambda *_: ())
    validator = extend(Draft202012Validator, keywords)(dict(schema), registry=Registry())
    try:
        return first_problem(validator, answer)
    except _TooManySteps:
        return Problem("", "", "The value takes too many steps to check by its schema")


def _unique(_: Any, wanted: bool, value: Any, schema: Any) -> Iterator[ValidationError]:
    """
    Yield an error if items of a list are equal.

    The implementation of jsonschema compares each item with every other one.
    """
    if wanted and isinstance(value, list) and len(set(map(_comparable, value))) < len(value):
        yield ValidationError("its items are not unique")


def _comparable(value: Any) -> Hashable:
    """
    Return a key that is equal for two values if JSON Schema considers them equal.
    """
    match value:
        case dict():
            return frozenset((name, _comparable(item)) for name, item in value.items())
        case list():
            return tuple(map(_comparable, value))
        case bool():
            return bool, value
    hashable: Hashable = value
    return hashable


def _check_keywords(schema: Mapping[str, Any], field: str) -> None:
    """
    Raise `InvalidInput` if `schema` uses a keyword or a reference that is not supported.
    """
    subschemas = list(_subschemas(schema))
    for keyword in _UNSUPPORTED:
        if any(keyword in subschema for subschema in subschemas):
            raise InvalidInput(field, f"{field} uses {keyword}, which is not supported")
    resolver = Registry().with_resource("", DRAFT202012.create_resource(schema)).resolver()
    for subschema in subschemas:
        reference = subschema.get("$ref")
        if isinstance(reference, str):
            try:
                if not _REFERENCE.fullmatch(reference):
                    raise LookupError
                resolver.lookup(reference)
            except (Unresolvable, LookupError):
                message = f"{field} refers to {reference[:100]!r}, which is not in its $defs"
                raise InvalidInput(field, message) from None


def _subschemas(schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """
    Yield `schema` and every schema inside it.
    """
    yield schema
    for keyword, value in schema.items():
        if keyword in _VALUES:
            continue
        if keyword in _MAPS_OF_SCHEMAS and isinstance(value, dict):
            value = list(value.values())
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, dict):
                yield from _subschemas(item)
