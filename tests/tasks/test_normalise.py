"""
Tests for `kiroworkers.tasks.normalise`.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.tasks.normalise import Change, normalize_answer
from tests.tasks.test_answer import json_values

WHOLE = {"type": "integer"}
STRINGS = {"type": "array", "items": {"type": "string"}}
SIZE = {"enum": ["small", "Large"]}

leaves = st.sampled_from(
    [
        WHOLE,
        {"type": "number"},
        {"type": ["integer", "null"]},
        {"type": ["integer", "string"]},
        {"type": "string"},
        {"type": "boolean"},
        SIZE,
        {"type": "string", "enum": ["a", "A", "b"]},
        {"type": "integer", "enum": [1, 5]},
        {"anyOf": [WHOLE, STRINGS]},
        {"type": "array"},
        STRINGS,
        {"type": "array", "items": SIZE},
        {},
        True,
    ]
)
schemas: st.SearchStrategy[Any] = st.recursive(
    leaves,
    lambda inner: (
        st.builds(lambda each: {"type": "array", "items": each}, inner)
        | st.builds(
            lambda each: {"type": "object", "properties": each},
            st.dictionaries(st.sampled_from("abc"), inner),
        )
    ),
    max_leaves=6,
).filter(lambda each: isinstance(each, dict))
texts = st.sampled_from(
    ["5", "-1.5", "1e3", "05", " 5", "SMALL", "large", "A", "B", "x", "", "[1]"]
)
values = st.recursive(
    json_values | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner),
    max_leaves=8,
)


def meaning(value: Any) -> Any:
    """
    What `value` says, whatever its form: its words in lower case, and lists of one
    like that one.
    """
    match value:
        case dict():
            return {name: meaning(each) for name, each in value.items()}
        case [alone]:
            return meaning(alone)
        case list():
            return [meaning(each) for each in value]
        case bool() | None:
            return value
        case int() | float():
            return float(value)
    try:
        return float(value)
    except ValueError:
        return value.casefold()


class NormaliseTests(SynchronousTestCase):
    """
    Tests for `normalize_answer`.
    """

    def test_kinds(self) -> None:
        """
        Listed words, numbers and lists of one are brought into the schema's form.
        """
        cases: list[tuple[Any, dict[str, Any], Any, list[Any]]] = [
            ("SMALL", SIZE, "small", ["letter case"]),
            ("large", SIZE, "Large", ["letter case"]),
            ("5", WHOLE, 5, ["number"]),
            ("-0.5", {"type": "number"}, -0.5, ["number"]),
            ("5", {"type": "number"}, 5, ["number"]),
            ("5", {"type": ["integer", "null"]}, 5, ["number"]),
            ("a", STRINGS, ["a"], ["list"]),
            ("SMALL", {"type": "array", "items": SIZE}, ["small"], ["letter case", "list"]),
        ]
        for value, schema, wanted, kinds in cases:
            changes = tuple(Change("", kind) for kind in kinds)
            self.assertEqual(normalize_answer(value, schema), (wanted, changes))

    def test_doubtful(self) -> None:
        """
        What may mean something else stays as it is.
        """
        strings_or_one = {"type": ["array", "string"], "items": {"type": "string"}}
        cases: list[tuple[Any, dict[str, Any]]] = [
            (" small", SIZE),
            ("tiny", SIZE),
            ("STRASSE", {"enum": ["strasse", "straße"]}),
            ("5.0", WHOLE),
            ("05", WHOLE),
            ("5 points", WHOLE),
            ("\u0665", WHOLE),
            ("1_000", WHOLE),
            ("9" * 30, WHOLE),
            ("1e999", {"type": "number"}),
            ("nan", {"type": "number"}),
            ("5", {"type": ["integer", "string"]}),
            ("5", {"type": ["integer", "array"]}),
            ("5", {"anyOf": [WHOLE]}),
            (5, {"type": "string"}),
            ("true", {"type": "boolean"}),
            ("5", {"type": "array", "items": WHOLE}),
            ("a", {"type": "array"}),
            ("a", strings_or_one),
            ('["a", "b"]', STRINGS),
            ("- a\n- b", STRINGS),
            (" ", STRINGS),
            ({"a": "b"}, STRINGS),
            (["5"], {"type": "array", "items": WHOLE, "prefixItems": [{}]}),
        ]
        for value, schema in cases:
            found, changes = normalize_answer(value, schema)
            self.assertIs(found, value)
            self.assertEqual(changes, ())

    def test_paths(self) -> None:
        """
        Each change is told once, by the path of its field.
        """
        schema = {
            "properties": {"points": WHOLE, "parts": {"items": {"properties": {"size": SIZE}}}}
        }
        value = {"parts": [{"size": "SMALL"}, {"size": "LARGE"}], "points": "3", "more": "5"}
        found, changes = normalize_answer(value, schema)
        self.assertEqual(
            found, {"parts": [{"size": "small"}, {"size": "Large"}], "points": 3, "more": "5"}
        )
        self.assertEqual(changes, (Change("parts.size", "letter case"), Change("points", "number")))

    @given(values, schemas)
    def test_properties(self, value: Any, schema: dict[str, Any]) -> None:
        """
        What fits comes back as the very same; the result is left as it is the next
        time; and it means what it meant.
        """
        found, changes = normalize_answer(value, schema)
        if Draft202012Validator(schema).is_valid(value):
            self.assertIs(found, value)
        self.assertEqual(bool(changes), found is not value)
        again, more = normalize_answer(found, schema)
        self.assertIs(again, found)
        self.assertEqual(more, ())
        self.assertEqual(meaning(found), meaning(value))
