"""
Make the schemas of tasks into components of an OpenAPI document.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kiroworkers.tasks import Task
from kiroworkers.web.openapi.schemas import or_null

#: Keywords whose value maps names to schemas.
_MAPS_OF_SCHEMAS = (
    "properties",
    "patternProperties",
    "$defs",
    "definitions",
    "dependentSchemas",
)

#: Keywords whose value is a schema or a list of schemas.
_SCHEMAS = (
    *("items", "prefixItems", "additionalProperties", "anyOf", "allOf", "oneOf", "not"),
    *("if", "then", "else", "contains", "propertyNames"),
    *("unevaluatedProperties", "unevaluatedItems"),
)


def schemas_of(tasks: Mapping[str, Task]) -> dict[str, Any]:
    """
    Return the schema components of `tasks`: ``NAME.input`` and ``NAME.answer`` of each.
    """
    components = {}
    for name, task in tasks.items():
        for kind, schema in (
            ("input", with_nulls(task.input_schema)),
            ("answer", task.answer_schema),
        ):
            key = f"{name}.{kind}"
            component = _rebase_references(schema, f"#/components/schemas/{key}")
            components[key] = {"description": f"The {kind} of the task `{name}`.", **component}
    return components


def with_nulls(schema: Any) -> Any:
    """
    Return a copy of `schema` whose optional properties may also be null.

    Tasks treat null in place of an optional property as if the property were absent.
    """
    if not isinstance(schema, Mapping):
        return schema
    copy = dict(schema)
    for keyword, value in schema.items():
        if keyword in _MAPS_OF_SCHEMAS and isinstance(value, Mapping):
            copy[keyword] = {name: with_nulls(subschema) for name, subschema in value.items()}
        elif keyword in _SCHEMAS:
            if isinstance(value, list):
                copy[keyword] = [with_nulls(subschema) for subschema in value]
            else:
                copy[keyword] = with_nulls(value)
    required = schema.get("required", ())
    properties = copy.get("properties", {})
    for name, subschema in properties.items():
        if name not in required and isinstance(subschema, Mapping):
            properties[name] = or_null(subschema)
    return copy


def _rebase_references(schema: Any, location: str) -> Any:
    """
    Return `schema` with references to itself turned into references to its `location`.
    """
    match schema:
        case Mapping():
            return {
                key: location + value[1:]
                if key == "$ref" and isinstance(value, str) and value[:2] in ("#", "#/")
                else _rebase_references(value, location)
                for key, value in schema.items()
            }
        case list():
            return [_rebase_references(item, location) for item in schema]
    return schema
