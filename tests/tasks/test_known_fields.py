"""
Tests for `kiroworkers.tasks.known_fields`.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.tasks.known_fields import KnownFields

TITLE: dict[str, Any] = {"properties": {"title": {}}}


def unknown(schema: dict[str, Any], request: Any, limit: int = 20) -> list[str]:
    """
    Return the paths of the unknown fields of `request`.
    """
    return [field.path for field in KnownFields(schema).unknown(request, limit)]


class KnownFieldsTests(SynchronousTestCase):
    """
    Tests for `KnownFields`.
    """

    def test_places(self) -> None:
        """
        Unknown fields are found in objects at any place, the outermost first.
        """
        steps = {"type": "array", "items": {"type": "array", "items": TITLE}}
        schema = {"properties": {"story": TITLE, "steps": steps}}
        request = {
            "story": {"title": 1, "size": 2},
            "steps": [[], [{"title": 1}, {"x": 1}], "y"],
            "idea": {"deep": 1},
        }
        self.assertEqual(unknown(schema, request), ["idea", "story.size", "steps[1][1].x"])

    def test_nulls(self) -> None:
        """
        A field that is null is not there, so it is not unknown.
        """
        self.assertEqual(unknown(TITLE, {"size": None}), [])

    def test_no_object(self) -> None:
        """
        A body that is no object has no fields.
        """
        for body in ([{"x": 1}], "x", None, 3):
            self.assertEqual(unknown(TITLE, body), [])

    def test_open(self) -> None:
        """
        All fields of an object are known if its schema describes none or allows others.
        """
        more: dict[str, Any]
        for more in (
            {"additionalProperties": True},
            {"additionalProperties": {"type": "string"}},
            {"unevaluatedProperties": {}},
            {"patternProperties": {"^x-": {}}},
            {"$ref": "#somewhere"},
            {"$ref": "https://example.com/x"},
            {"allOf": [{"additionalProperties": True}]},
        ):
            self.assertEqual(unknown({**TITLE, **more}, {"size": 1}), [], more)
        schema: dict[str, Any]
        for schema in ({"type": "object"}, {"properties": {}}, {"anyOf": [{"required": ["x"]}]}):
            self.assertEqual(unknown(schema, {"size": 1}), [], schema)
        closed = {"type": "object", "additionalProperties": False}
        self.assertEqual(unknown(closed, {"size": 1}), ["size"])

    def test_known_fields_of_open_objects(self) -> None:
        """
        The fields of an open object that the schema lists are checked.
        """
        schema = {"properties": {"story": TITLE}, "additionalProperties": True}
        self.assertEqual(unknown(schema, {"more": {"x": 1}, "story": {"x": 1}}), ["story.x"])

    def test_parts(self) -> None:
        """
        A field is known if any part of the schema that may apply has it.
        """
        size: dict[str, Any] = {"properties": {"size": {"properties": {"width": {}}}}}
        schema: dict[str, Any]
        for schema in (
            {**TITLE, "allOf": [{"anyOf": [{"oneOf": [size]}]}]},
            {**TITLE, "if": {}, "then": size},
            {**TITLE, "if": size},
            {**TITLE, "else": size},
            {**TITLE, "dependentSchemas": {"title": size}},
            {**TITLE, "$defs": {"a/b~c d": size}, "$ref": "#/$defs/a~1b~0c%20d"},
            {"$defs": {"x": [TITLE, size]}, "$ref": "#/$defs/x/1", "allOf": [TITLE]},
        ):
            request = {"title": 1, "size": {"width": 1, "height": 1}, "more": 1}
            self.assertEqual(unknown(schema, request), ["more", "size.height"], schema)

    def test_recursive(self) -> None:
        """
        A schema may refer to itself, in its fields and at once.
        """
        tree = {"properties": {"children": {"items": {"$ref": "#"}}}, "allOf": [{"$ref": "#"}]}
        request: dict[str, Any] = {"name": 1}
        for _ in range(300):
            request = {"children": [request]}
        self.assertEqual(unknown(tree, request), ["children[0]." * 300 + "name"])

    def test_tuples(self) -> None:
        """
        The items of a list may be objects of different kinds.
        """
        schema = {"properties": {"pair": {"prefixItems": [TITLE], "items": False}}}
        self.assertEqual(unknown(schema, {"pair": [{"x": 1}]}), ["pair[0].x"])

    def test_items_of_any_kind(self) -> None:
        """
        Objects have no unknown fields in a list that may go on with anything.
        """
        rest: dict[str, Any]
        for rest in ({}, {"items": True}, {"items": {}}):
            schema = {"properties": {"list": {"prefixItems": [TITLE], **rest}}}
            self.assertEqual(unknown(schema, {"list": [{"title": 1}, {"x": 1}]}), [], rest)

    def test_empty_name(self) -> None:
        """
        The sentence about a field with an empty name shows that there is one.
        """
        [field] = KnownFields(TITLE).unknown({"": 1}, 1)
        self.assertEqual((field.path, field.sentence), ("", '"" is an unknown field'))

    def test_bounds(self) -> None:
        """
        No more fields are returned than asked for, and no name is long.
        """
        request = {"y" * 1_000_000: 1, **{f"x{number}": 1 for number in range(1000)}}
        paths = unknown(TITLE, request, 3)
        self.assertEqual(paths[1:], ["x0", "x1"])
        self.assertEqual(len(paths[0]), 100)

    def test_nearest(self) -> None:
        """
        The sentence has the nearest name that the object lacks, whatever the style of the name.
        """
        names: dict[str, Any] = {"parentStory": {}, "components": {}, "idea": {}}
        schema = {"properties": names}
        for request, hint in [
            ({"PARENT-STORY": 1}, "; did you mean parentStory?"),
            ({"component": 1}, "; did you mean components?"),
            ({"component": 1, "components": 1}, ""),
            ({"price": 1}, ""),
        ]:
            [field] = KnownFields(schema).unknown(request, 1)
            self.assertEqual(field.sentence, f"{field.path} is an unknown field{hint}")
