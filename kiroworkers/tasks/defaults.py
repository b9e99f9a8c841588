"""
Give the input fields of a task the default values that an operator has chosen.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from attrs import evolve
from jsonschema import Draft202012Validator

from kiroworkers.errors import InvalidInput
from kiroworkers.json_schema import first_problem
from kiroworkers.tasks.task import Task
from kiroworkers.tasks.template import BadTemplate


class InvalidDefault(ValueError):
    """
    Raised when a field cannot have a default value.

    Attributes:
        field: The name of the field; empty if the values do not fit the task together.
        reason: What is wrong.
    """

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(reason)
        self.field = field
        self.reason = reason


def with_defaults(task: Task, values: Mapping[str, Any]) -> Task:
    """
    Return `task` with default `values` for input fields.

    The input schema of the result shows them, and requires none of these fields.

    Raises:
        InvalidDefault: If the task does not know a field, or its value does not fit.
    """
    schema = dict(task.input_schema)
    properties = dict(schema.get("properties", {}))
    validator = Draft202012Validator(schema)
    for name, value in values.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError):
            raise InvalidDefault(
                name, "contains a date, nan or inf, which JSON cannot hold"
            ) from None
        for unknown in task.unknown_fields({name: value})[:1]:
            raise InvalidDefault(name, unknown.sentence)
        property_schema = properties.get(name, {})
        # Not as a schema of its own: its references lead to other parts of this one.
        alone: Any = validator.evolve(schema={"properties": {name: property_schema}})
        problem = first_problem(alone, {name: value})
        if problem is not None:
            raise InvalidDefault(name, problem.sentence)
        described = property_schema if isinstance(property_schema, Mapping) else {}
        properties[name] = {**described, "default": value}
    schema["properties"] = properties
    if "required" in schema:
        schema["required"] = [name for name in schema["required"] if name not in values]
    completed = evolve(task, input_schema=schema, defaults=values)
    try:
        completed.prompt(completed.accept(task.example_input))
    except (InvalidInput, BadTemplate) as problem:
        raise InvalidDefault("", f"the task's own example does not fit: {problem}") from None
    return completed
