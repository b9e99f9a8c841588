"""
Tests for `kiroworkers.chat.response_schema`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.chat.response_schema import SchemaCheck, accept_schema, problem_with
from kiroworkers.errors import InvalidInput

#: Dialects for which jsonschema would choose another validator.
_DIALECTS = (
    "https://json-schema.org/draft/2019-09/schema",
    "https://json-schema.org/draft/2020-12/schema",
)


def accepted(schema: Any) -> Mapping[str, Any]:
    """
    Return `schema` as the server accepts it.
    """
    check = SchemaCheck(accept_schema(schema, "schema"), "schema")
    check.result(check.run())
    return check.schema


class SchemaTests(SynchronousTestCase):
    """
    Tests for a client's schema.
    """

    def sentence(self, answer: Any, **schema: Any) -> str | None:
        problem = problem_with(answer, accepted(schema))
        return None if problem is None else problem.sentence

    def test_fits(self) -> None:
        """
        An answer is checked by the schema and by references inside it.
        """
        schema: Any = {
            "type": "object",
            "$defs": {"size": {"type": "integer"}},
            "properties": {
                "size": {"$ref": "#/$defs/size"},
                "child": {"anyOf": [{"$ref": "#"}, {"type": "null"}]},
                "$id": {"type": "string"},
                "any": True,
            },
            "required": ["size"],
            "additionalProperties": False,
        }
        good = {"size": 1, "$id": "x", "any": [], "child": {"size": 2, "child": None}}
        self.assertIsNone(self.sentence(good, **schema))
        self.assertEqual(self.sentence({}, **schema), "size is required")
        self.assertEqual(
            self.sentence({"size": "1"}, **schema), "size must be a whole number, not a string"
        )
        self.assertIsNotNone(self.sentence({"size": 1, "child": {}}, **schema))
        self.assertEqual(
            self.sentence({"x": 1}, additionalProperties=False), "The value may not have 'x'"
        )

    def test_refused(self) -> None:
        """
        An invalid schema, one of another type than object, and one that needs what is not
        supported are rejected.
        """
        deep: Any = {}
        for _ in range(5000):
            deep = {"not": deep}
        inner: Any
        named: Any
        for inner in (
            {"type": "strange"},
            {"required": "x"},
            {"items": [{}]},
            {"$ref": "https://example.com/schema.json"},
            {"$ref": "file:///etc/passwd"},
            {"$ref": "#/$defs/none"},
            {"$ref": "#/properties/x"},
            {"$id": "https://example.com/"},
            {"patternProperties": {"(a+)+$": {}}},
            {"unevaluatedProperties": False},
            {"$schema": "http://json-schema.org/draft-07/schema#"},
            {"description": "x" * 50_000},
            deep,
        ):
            schema = {"type": "object", "properties": {"x": {"allOf": [inner]}}}
            self.assertRaises(InvalidInput, accepted, schema)
        wrong: Any
        for wrong in ([], "object", True, {"type": "array"}, {"type": ["object", "null"]}):
            self.assertRaises(InvalidInput, accepted, wrong)
        for named in ([], [{}], 5, "x", None, {"x": 5}, {"x": None}, {"x": []}):
            for place in ("$defs", "definitions"):
                wrong = {place: named, "properties": {"a": {"$ref": f"#/{place}/x"}}}
                self.assertRaises(InvalidInput, accepted, wrong)

    def test_patterns(self) -> None:
        """
        A pattern could take forever, so it is not tried.
        """
        schema = {"properties": {"x": {"type": "string", "pattern": "(a+)+$"}}}
        self.assertIsNone(self.sentence({"x": "a" * 60 + "!"}, **schema))

    def test_dialect(self) -> None:
        """
        A schema that names its dialect is checked as one that names none.
        """
        for dialect in ("http://json-schema.org/draft-07/schema#", *_DIALECTS):
            schema = {
                "$schema": dialect,
                "properties": {"x": {"pattern": "^b"}, "child": {"$ref": "#"}},
                "required": ["x"],
            }
            self.assertIsNone(self.sentence({"x": "a", "child": {"x": "a"}}, **schema))
            self.assertIsNotNone(self.sentence({"x": "a", "child": {}}, **schema))

    def test_numbers(self) -> None:
        """
        A number that is too large to divide fits no `multipleOf`, and causes no exception.
        """
        schema = {"properties": {"x": {"multipleOf": 0.1}}}
        self.assertIsNone(self.sentence({"x": 10}, **schema))
        self.assertIn("a number that is too large", self.sentence({"x": 10**400}, **schema) or "")

    def test_unique(self) -> None:
        """
        The uniqueness of a long list's items is checked in one pass.
        """
        schema = {"properties": {"x": {"uniqueItems": True}}}
        many = [{"number": number} for number in range(20_000)]
        for unique in (many, [0, False, "", None, [], {}], [[1, 2], [2, 1]], [[True], [1]]):
            self.assertIsNone(self.sentence({"x": unique}, **schema))
        for repeats in ([1, 1.0], [{"a": 1, "b": [2]}, {"b": [2.0], "a": 1}], ["a", "a"], [0, 0]):
            self.assertIn("unique", str(self.sentence({"x": repeats}, **schema)))
        self.assertIsNone(self.sentence({"x": [1, 1]}, properties={"x": {"uniqueItems": False}}))
        self.assertIsNone(self.sentence({"x": "aa"}, **schema))

    def test_bounded(self) -> None:
        """
        Validation stops if a schema doubles the work again and again, or has no end.
        """
        doubling: Any = {
            f"d{number}": {"allOf": [{"$ref": f"#/$defs/d{number + 1}"}] * 2}
            for number in range(40)
        }
        too_many = "The value takes too many steps to check by its schema"
        schema = {"$defs": {**doubling, "d40": {}}, "$ref": "#/$defs/d0"}
        self.assertEqual(self.sentence({}, **schema), too_many)
        schema = {"$defs": {"a": {"anyOf": [False] * 1000}}, "anyOf": [{"$ref": "#/$defs/a"}] * 940}
        self.assertEqual(self.sentence({}, **schema), too_many)
        self.assertIn("cannot be checked", self.sentence({}, **{"$ref": "#"}) or "")
        words = [f"word{number}" for number in range(2000)]
        schema = {"properties": {"x": {"items": {"enum": words}}}}
        self.assertIsNone(self.sentence({"x": words[-100:]}, **schema))
        self.assertEqual(self.sentence({"x": words[-1:] * 9000}, **schema), too_many)
