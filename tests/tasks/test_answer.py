"""
Tests for `kiroworkers.tasks.answer`.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.errors import AnswerSchemaMismatch
from kiroworkers.tasks.answer import find_answer
from kiroworkers.tasks.objects import objects

SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["title"],
    "properties": {
        "title": {"type": "string"},
        "kind": {"enum": ["small", "large"]},
        "kinds": {"type": "array", "items": {"enum": ["WorkModel", "Run_Verify"]}},
    },
}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
prose = st.text(st.characters(codec="utf-8", exclude_characters="{")).map(lambda text: text[:80])


class FindTests(SynchronousTestCase):
    """
    Tests for `find_answer`.
    """

    def test_last_that_fits(self) -> None:
        """
        The last object that fits is the answer, whatever follows it.
        """
        text = '{"title": "first"} then {"title": "second"} and {"other": 1} {broken'
        self.assertEqual(find_answer(text, SCHEMA).value, {"title": "second"})

    def test_nested_and_quoted_braces(self) -> None:
        """
        Nested objects and braces inside strings do not end an object.
        """
        answer = {"title": 'a "}" in {quotes} \\', "more": {"deep": [{"er": {}}]}}
        self.assertEqual(find_answer(f"Use {{this}}: {json.dumps(answer)}!", SCHEMA).value, answer)

    def test_code_fence_and_many_lines(self) -> None:
        """
        A fence around it and newlines inside it change nothing.
        """
        text = 'Here:\n```json\n{\n  "title":\n    "x"\n}\n```\nDone.'
        self.assertEqual(find_answer(text, SCHEMA).value, {"title": "x"})

    def test_example_is_no_answer(self) -> None:
        """
        The prompt's own example, repeated, is not an answer.
        """
        example = {"title": "example"}
        text = '{"title": "mine"} as in {"title": "example"}'
        self.assertEqual(find_answer(text, SCHEMA, example).value, {"title": "mine"})
        with self.assertRaises(AnswerSchemaMismatch) as raised:
            find_answer('{"title": "example"}', SCHEMA, example)
        self.assertIn("example", raised.exception.reason)

    def test_nothing_found(self) -> None:
        """
        Without any object, or with none that fits, the reason says so.
        """
        for text, reason in [
            ("I cannot do that.", "no JSON object"),
            ('{"title": 3}', "title must be a string, not a number"),
            ('{"titel": "x"}', "title is required"),
            ('{"title": "x", "kind": "medium"}', "kind must be one of small, large"),
        ]:
            with self.assertRaises(AnswerSchemaMismatch) as raised:
                find_answer(text, SCHEMA)
            self.assertIn(reason, raised.exception.reason)

    def test_reason_of_the_best(self) -> None:
        """
        The reason is that of the object that comes nearest to an answer, with each
        field that is wrong in it; what was merely normalised is not among them.
        """
        schema = {
            **SCHEMA,
            "required": ["title", "points", "kind"],
            "properties": {**SCHEMA["properties"], "points": {"type": "integer", "maximum": 8}},
        }
        for text, reason in [
            ('{"title": 1, "points": "9", "kind": "SMALL"} or {"title": "x"}',
             "title must be a string, not a number; points must be at most 8"),
            ('{"title": "x"} or {"note": 1}', "points is required; kind is required"),
            ('{"title": "x", "points": 9, "kind": "small"} {"title": "x", "points": 9, "kind": 1}',
             "points must be at most 8"),
            ('{"title": "x", "points": 10, "kind": "small"} or {"title": "e"}',
             "points must be at most 8"),
        ]:  # fmt: skip
            with self.assertRaises(AnswerSchemaMismatch) as raised:
                find_answer(text, schema, {"title": "e"})
            self.assertEqual(raised.exception.reason, reason)

    def test_unchecked(self) -> None:
        """
        What the schema's checker cannot cope with does not fit.
        """
        schema = {"properties": {"n": {"multipleOf": 0.5}, "deep": {"items": {"$ref": "#"}}},
                  "items": {"$ref": "#"}}  # fmt: skip
        for text in ['{"n": 1' + "0" * 400 + "}", '{"deep": ' + "[" * 600 + "]" * 600 + "}"]:
            with self.assertRaises(AnswerSchemaMismatch) as caught:
                find_answer(text, schema)
            self.assertIn("cannot be checked", caught.exception.reason)

    def test_spelling_of_listed_words(self) -> None:
        """
        Words that the schema lists are taken in any letter case and given back
        as the schema spells them.
        """
        text = '{"title": "x", "kind": "LARGE", "kinds": ["workmodel", "Run_Verify"]}'
        found = find_answer(text, SCHEMA).value
        self.assertEqual(found["kind"], "large")
        self.assertEqual(found["kinds"], ["WorkModel", "Run_Verify"])

    @given(st.dictionaries(st.text(), json_values), prose, prose)
    def test_any_object_in_any_prose(self, extra: dict[str, Any], before: str, after: str) -> None:
        """
        Any object that fits comes back equal from between any prose without
        braces.
        """
        answer = {**extra, "title": "x", "kind": "small", "kinds": []}
        for ascii_only in (True, False):
            text = before + json.dumps(answer, ensure_ascii=ascii_only) + after
            self.assertEqual(find_answer(text, SCHEMA).value, answer)


class ObjectsTests(SynchronousTestCase):
    """
    Tests for `objects`.
    """

    def test_sizes_around_the_window(self) -> None:
        """
        An object is found whole however its length falls on the reader's steps.
        """
        for length in [*range(2000, 2080), 16_000, 16_400, 500_000]:
            value = {"text": "é{" * (length // 2), "n": [-12.5e3, True, None]}
            text = json.dumps(value, ensure_ascii=False)
            self.assertEqual(list(objects(f"so: {text} {{and}}")), [value])

    def test_false_starts_cost_little(self) -> None:
        """
        A megabyte that looks like JSON again and again is given up, and an
        answer behind a moderate number of false starts is still found.
        """
        for piece in ['{"a":', "{", '{"a":1,', '{"a"', '{"a":"', "{ "]:
            hostile = piece * (1_000_000 // len(piece))
            self.assertEqual(list(objects(hostile)), [])
        self.assertEqual(list(objects('{"a' * 300 + '{"b": 1}'))[-1], {"b": 1})

    def test_no_numbers_that_are_none(self) -> None:
        """
        NaN and Infinity are not JSON.
        """
        self.assertEqual(list(objects('{"a": NaN} {"b": Infinity} {"c": 1}')), [{"c": 1}])
