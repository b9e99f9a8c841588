"""
Tests for `kiroworkers.offline.sample`.
"""

from __future__ import annotations

from typing import Any

from jsonschema import Draft202012Validator
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.offline.sample import sample

_TREE: dict[str, Any] = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": {
            "type": "object",
            "required": ["name", "children"],
            "properties": {
                "name": {"type": "string"},
                "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
            },
        }
    },
}


class SampleTests(SynchronousTestCase):
    """
    Tests for `sample`.
    """

    def test_fits(self) -> None:
        """
        The sample fits schemas with the keywords that answers usually have.
        """
        schemas: list[dict[str, Any]] = [
            {"type": "object"},
            {"enum": [3, "b"]},
            {"const": None},
            {"type": ["null", "integer"], "minimum": 7},
            {"type": "integer", "exclusiveMinimum": 0, "maximum": 1},
            {"type": "number", "minimum": 0.2, "maximum": 0.3},
            {"type": "integer", "minimum": 11, "multipleOf": 5},
            {"type": "integer", "maximum": -4},
            {"type": "string", "minLength": 40, "maxLength": 41},
            {"type": "string", "maxLength": 3},
            {"type": "string", "pattern": r"^[A-Z]{3}-\d+$"},
            {"type": "string", "pattern": r"\S"},
            *({"type": "string", "format": name} for name in ("date", "date-time", "uuid")),
            {"type": "array", "minItems": 3, "items": {"type": "boolean"}},
            {"type": "array", "maxItems": 0},
            {"type": "array", "uniqueItems": True, "items": {"enum": ["a", "b"]}},
            {"anyOf": [{"type": "integer"}, {"type": "string"}]},
            {"allOf": [{"properties": {"a": {"type": "integer"}}, "required": ["a"]},
                       {"properties": {"b": {"type": "null"}}, "required": ["b"]}]},
            {"properties": {"a": {"oneOf": [{"$ref": "#/$defs/x"}]}}, "required": ["a"],
             "$defs": {"x": {"type": "array", "items": {"type": "string"}, "minItems": 1}}},
            _TREE,
        ]  # fmt: skip
        for schema in schemas:
            made = sample(schema)
            problems = [error.message for error in Draft202012Validator(schema).iter_errors(made)]
            self.assertEqual(problems, [], schema)

    def test_example(self) -> None:
        """
        The example is adapted, fits the schema still, and is never repeated.
        """
        schema = {
            "type": "object",
            "required": ["headline", "kind"],
            "properties": {
                "headline": {"type": "string", "maxLength": 40},
                "kind": {"enum": ["feature", "fix"]},
                "points": {"type": "integer", "minimum": 1, "maximum": 8},
                "steps": {"type": "array", "items": {"type": "string"}},
                "left out": {"type": "string"},
            },
        }
        example = {"headline": "A new row", "kind": "fix", "points": 8, "steps": ["a", "b"]}
        self.assertEqual(
            sample(schema, example),
            {
                "headline": "A new row (sample)",
                "kind": "feature",
                "points": 7,
                "steps": ["a (sample)", "b (sample)"],
            },
        )

    def test_choices(self) -> None:
        """
        A list takes its items from the list of the same name in the request.
        """
        schema = {"type": "object", "properties": {"parts": {"type": "array"}}}
        self.assertEqual(sample(schema, {"parts": ["x"]}, {"parts": ["y", "z"]}), {"parts": ["y"]})

    def test_odd(self) -> None:
        """
        A schema that cannot be satisfied or understood gets some value and no error.
        """
        endless = {"type": "object", "required": ["a"], "properties": {"a": {"$ref": "#"}}}
        schemas: list[dict[str, Any]] = [
            {"type": "string", "pattern": "^x{9}$"},
            {"type": "string", "pattern": "("},
            {"$ref": "#/missing"},
            {"$ref": "#"},
            {"allOf": [{"$ref": "#"}]},
            {"type": "number", "minimum": 2, "maximum": 1},
            endless,
        ]
        for schema in schemas:
            sample(schema)
