"""
A client's own JSON Schema, which must not cost the server more than it is worth.

It is checked without looking anything up elsewhere, and in a bounded number of
steps: references to references can double the work with every line of a schema.
A regular expression may take for ever on one string, so none is ever tried.

What names a dialect would be checked by that dialect's validator, which knows
nothing of these limits.  So the name is left out, and refused further inside.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError
from jsonschema.validators import extend
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from kiroworkers.errors import InvalidInput
from kiroworkers.json_schema import Problem, first_problem

#: Of the schema as JSON, in characters; and of keywords applied to one answer.
_LONGEST = 30_000
_MOST_STEPS = 20_000

#: So many values in a list of the schema, each compared with the answer, are a step.
_COMPARED = 100

#: Keywords that need a regular expression, or look around where no step is counted.
_REFUSED = (
    "patternProperties",
    "unevaluatedProperties",
    "unevaluatedItems",
    "$dynamicRef",
    "$id",
    "$schema",
)
_UNTRIED = ("pattern", "format")

#: Where schemas stand under names, and where values stand that are no schemas.
_BY_NAME = ("properties", "$defs", "definitions", "dependentSchemas")
_VALUES = ("enum", "const", "default", "examples")

_REFERENCE = re.compile(r"#(/(\$defs|definitions)/[^/]+)?")


class _TooManySteps(Exception):
    pass


def accept_schema(schema: Any, field: str) -> Mapping[str, Any]:
    """
    The `schema` in `field` of a request, of an object.

    Raises:
        InvalidInput: when it is none, or asks too much.
    """
    if not isinstance(schema, dict):
        raise InvalidInput(field, f"{field} must be an object")
    if schema.get("type", "object") != "object":
        raise InvalidInput(field, f"{field} must be of type object")
    found = {name: value for name, value in schema.items() if name != "$schema"}
    try:
        if len(str(found)) > _LONGEST:
            raise InvalidInput(field, f"{field} is longer than {_LONGEST} characters")
        Draft202012Validator.check_schema(found)
        _check_keywords(found, field)
    except SchemaError as problem:
        path = ".".join(map(str, problem.absolute_path))
        sentence = f"{field} is no JSON Schema: {path or 'it'}: {problem.message[:200]}"
        raise InvalidInput(field, sentence) from None
    except RecursionError:
        raise InvalidInput(field, f"{field} is nested too deeply") from None
    return found


def problem_with(answer: Any, schema: Mapping[str, Any]) -> Problem | None:
    """
    Why `answer` does not fit the accepted `schema`; None when it does.
    """
    steps = 0

    def counted(apply: Callable[..., Any]) -> Callable[..., Iterator[Any]]:
        def step(validator: Any, value: Any, *others: Any) -> Iterator[Any]:
            nonlocal steps
            steps += 1
            if isinstance(value, list):
                steps += len(value) // _COMPARED
            if steps > _MOST_STEPS:
                raise _TooManySteps
            yield from apply(validator, value, *others) or ()

        return step

    keywords = {
        name: counted(apply)
        for name, apply in {**Draft202012Validator.VALIDATORS, "uniqueItems": _unique}.items()
    } | dict.fromkeys(_UNTRIED, lambda *_: ())
    validator = extend(Draft202012Validator, keywords)(dict(schema), registry=Registry())
    try:
        return first_problem(validator, answer)
    except _TooManySteps:
        return Problem("", "", "The value takes too many steps to check by its schema")


def _unique(_: Any, wanted: bool, value: Any, schema: Any) -> Iterator[ValidationError]:
    """
    As the library's, which compares each item with each other one.
    """
    if wanted and isinstance(value, list) and len(set(map(_comparable, value))) < len(value):
        yield ValidationError("its items are not unique")


def _comparable(value: Any) -> Hashable:
    """
    Equal for values that JSON Schema takes for the same.
    """
    match value:
        case dict():
            return frozenset((name, _comparable(each)) for name, each in value.items())
        case list():
            return tuple(map(_comparable, value))
        case bool():
            return bool, value
    hashable: Hashable = value
    return hashable


def _check_keywords(schema: Mapping[str, Any], field: str) -> None:
    """
    Raises:
        InvalidInput: when something in `schema` is not supported.
    """
    places = list(_subschemas(schema))
    for keyword in _REFUSED:
        if any(keyword in place for place in places):
            raise InvalidInput(field, f"{field} uses {keyword}, which is not supported")
    resolver = Registry().with_resource("", DRAFT202012.create_resource(schema)).resolver()
    for place in places:
        reference = place.get("$ref")
        if isinstance(reference, str):
            try:
                if not _REFERENCE.fullmatch(reference):
                    raise LookupError
                resolver.lookup(reference)
            except (Unresolvable, LookupError):
                sentence = f"{field} refers to {reference[:100]!r}, which is not in its $defs"
                raise InvalidInput(field, sentence) from None


def _subschemas(schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """
    `schema` and all that are in it, by the places where there can be one.
    """
    yield schema
    for keyword, value in schema.items():
        if keyword in _VALUES:
            continue
        if keyword in _BY_NAME and isinstance(value, dict):
            value = list(value.values())
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, dict):
                yield from _subschemas(each)
