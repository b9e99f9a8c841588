"""
The tasks' own schemas, as a document has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kiroworkers.tasks import Task
from kiroworkers.web.openapi.schemas import or_null

#: Where a schema has others: under names, or in a list or alone.
_BY_NAME = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_WITHIN = ("items", "prefixItems", "additionalProperties", "anyOf", "allOf", "oneOf", "not")
_CONDITIONS = ("if", "then", "else", "contains", "propertyNames")
_MORE_WITHIN = (*_CONDITIONS, "unevaluatedProperties", "unevaluatedItems")


def schemas_of(tasks: Mapping[str, Task]) -> dict[str, Any]:
    """
    The input and the answer of each of the `tasks`, by the names of the components.
    """
    found = {}
    for name, each in tasks.items():
        for kind, schema in (
            ("input", with_nulls(each.input_schema)),
            ("answer", each.answer_schema),
        ):
            key = f"{name}.{kind}"
            found[key] = _moved(schema, f"#/components/schemas/{key}")
    return found


def with_nulls(schema: Any) -> Any:
    """
    `schema`, of which optional properties may also be null: tasks take that as if
    they were not there.
    """
    if not isinstance(schema, Mapping):
        return schema
    found = dict(schema)
    for key, value in schema.items():
        if key in _BY_NAME and isinstance(value, Mapping):
            found[key] = {name: with_nulls(each) for name, each in value.items()}
        elif key in _WITHIN or key in _MORE_WITHIN:
            many = isinstance(value, list)
            found[key] = [with_nulls(each) for each in value] if many else with_nulls(value)
    required = schema.get("required", ())
    properties = found.get("properties", {})
    for name, each in properties.items():
        if name not in required and isinstance(each, Mapping):
            properties[name] = or_null(each)
    return found


def _moved(schema: Any, place: str) -> Any:
    """
    `schema`, whose references to itself lead to its `place` in a document.
    """
    match schema:
        case Mapping():
            return {
                key: place + each[1:]
                if key == "$ref" and isinstance(each, str) and each[:2] in ("#", "#/")
                else _moved(each, place)
                for key, each in schema.items()
            }
        case list():
            return [_moved(each, place) for each in schema]
    return schema
