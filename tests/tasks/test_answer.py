"""
Tests for `kiroworkers.tasks.answer`.
"""

from __future__ import annotations

import contextlib
import json
from time import thread_time
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.errors import AnswerSchemaMismatch, AnswerUnreadable
from kiroworkers.strict_json import MAX_VALUES
from kiroworkers.tasks.answer import MAX_CANDIDATES, AnswerSearch, find_answer
from kiroworkers.tasks.objects import TooManyFalseStarts, objects

SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["title"],
    "properties": {
        "title": {"type": "string"},
        "kind": {"enum": ["small", "large"]},
        "kinds": {"type": "array", "items": {"enum": ["WebClient", "Print_Server"]}},
    },
}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
prose = st.text(st.characters(codec="utf-8", exclude_characters="{")).map(lambda text: text[:80])

#: Pieces of text that resemble the beginning, the end and the inside of objects.
PIECES = (
    *(
        "{",
        "}",
        '"',
        "\\",
        "\n",
        " ",
        "[",
        "]",
        ",",
        ":",
        '"title":',
        '"x"',
        "1",
        '\\"',
        "{}",
        "word",
    ),
    *('{"title": "a"}', '{"b": {"title": "c"}}', '{"title":', '{"', '"}', '{"title": "{'),
)


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
        for text in ['{"n": ' + "9" * 309 + "}", '{"deep": ' + "[" * 600 + "]" * 600 + "}"]:
            with self.assertRaises(AnswerSchemaMismatch) as caught:
                find_answer(text, schema)
            self.assertIn("cannot be checked", caught.exception.reason)

    def test_spelling_of_listed_words(self) -> None:
        """
        Words that the schema lists are taken in any letter case and given back
        as the schema spells them.
        """
        text = '{"title": "x", "kind": "LARGE", "kinds": ["webclient", "Print_Server"]}'
        found = find_answer(text, SCHEMA).value
        self.assertEqual(found["kind"], "large")
        self.assertEqual(found["kinds"], ["WebClient", "Print_Server"])

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
            self.assertEqual(list(objects(f"so: {text} {{and}}")), [(4, text, value)])

    def test_false_starts_cost_little(self) -> None:
        """
        A megabyte that looks like JSON again and again is given up, and an
        answer behind a moderate number of false starts is still found.
        """
        for piece in ['{"a":', "{", '{"a":1,', '{"a"', '{"a":"', "{ "]:
            hostile = piece * (1_000_000 // len(piece))
            with contextlib.suppress(TooManyFalseStarts):
                self.assertEqual(list(objects(hostile)), [])
        found = list(objects('{"a' * 300 + '{"b": 1}'))
        self.assertEqual(found[-1], (900, '{"b": 1}', {"b": 1}))

    def test_no_numbers_that_are_none(self) -> None:
        """
        NaN and Infinity are not JSON.
        """
        found = list(objects('{"a": NaN} {"b": Infinity} {"c": 1}'))
        self.assertEqual(found, [(27, '{"c": 1}', {"c": 1})])

    def test_far_behind(self) -> None:
        """
        The last object is found behind very many others.
        """
        *_, (_, _, last) = objects('{"a":1}\n' * 200_000 + '{"b": 2}')
        self.assertEqual(last, {"b": 2})


class StyledTests(SynchronousTestCase):
    """
    Tests for text that a terminal has rendered.
    """

    text = 'Draft: {"title": "a"} so: {"title": "b"} {"title": 1}.'
    start = text.index('{"title": "b"')
    end = start + len('{"title": "b"}')

    def test_inside(self) -> None:
        """
        An answer with a place inside at which the style changed is unreadable, and is not
        replaced by an earlier object.
        """
        for offset in (self.start + 1, self.start + 5, self.end - 1):
            with self.assertRaises(AnswerUnreadable) as caught:
                find_answer(self.text, SCHEMA, styled=(0, offset, self.end))
            self.assertIn("Markdown", str(caught.exception))

    def test_outside(self) -> None:
        """
        Styles before, after and around an answer, as those of a code fence, are fine.
        """
        around = (0, 9, self.start, self.end, self.end + 3)
        self.assertEqual(find_answer(self.text, SCHEMA, styled=around).value, {"title": "b"})

    def test_wrapped(self) -> None:
        """
        The offsets also hold in an answer whose lines were rejoined.
        """
        cut = 'so: {"title":\n  "one\ntwo", "n": 12}'
        schema = {**SCHEMA, "properties": {"title": {"const": "one two"}}}
        found = find_answer(cut, schema, wrapped=True, styled=(4, len(cut)))
        self.assertEqual(found.value, {"title": "one two", "n": 12})
        with self.assertRaises(AnswerUnreadable):
            find_answer(cut, schema, wrapped=True, styled=(4, 20))

    def test_search(self) -> None:
        """
        A search passes the offsets on, in this process and in another one.
        """
        search = AnswerSearch(self.text, SCHEMA, styled=(self.start + 1,))
        with self.assertRaises(AnswerUnreadable):
            search.find()
        with self.assertRaises(AnswerUnreadable):
            search.result(search.run())


class BoundTests(SynchronousTestCase):
    """
    Tests for what bounds the cost of `find_answer`.
    """

    def reason(self, text: str, wrapped: bool = False) -> str:
        with self.assertRaises(AnswerSchemaMismatch) as raised:
            find_answer(text, SCHEMA, wrapped=wrapped)
        return str(raised.exception.reason)

    def test_candidates(self) -> None:
        """
        Only the last objects are compared with the schema; the reason says so.
        """
        good, other = '{"title": "x"}', '{"other": 1}\n'
        found = find_answer(good + other * (MAX_CANDIDATES - 1), SCHEMA)
        self.assertEqual(found.value, {"title": "x"})
        for wrapped in (False, True):
            self.assertEqual(
                self.reason(good + other * MAX_CANDIDATES, wrapped),
                f"title is required (only the last {MAX_CANDIDATES} of its "
                f"{MAX_CANDIDATES + 1} JSON objects were checked)",
            )

    def test_values(self) -> None:
        """
        An object with very many values is no answer, and hides those before it.
        """
        long = '{"title": "x", "more": [' + "1," * (MAX_VALUES - 4) + "1]}"
        self.assertEqual(find_answer(long, SCHEMA).value["title"], "x")
        longer = long.replace("[", "[1, 1,")
        for wrapped in (False, True):
            reason = self.reason('{"title": "x"}' + longer, wrapped)
            self.assertEqual(reason, f"it has more than {MAX_VALUES} JSON values")

    def test_false_starts(self) -> None:
        """
        Where the search is given up, no answer is taken: a later one may be meant.
        """
        text = '{"title": "x"}' + '{"' * 200_000 + '{"title": "y"}'
        for wrapped in (False, True):
            self.assertIn("begins like a JSON object", self.reason(text, wrapped))

    def test_linear(self) -> None:
        """
        Half a megabyte that looks like objects, whole or cut, cost seconds at most.
        """
        for text in (
            '{"a": ' + '\\"' * 2**18,
            '{"a": "' + '\\"' * 2**18 + "\\",
            '{"a": 1}' * 2**16,
            '{"a": "' + "x\n" * 2**18 + '"}',
            '{"a": [' + '"x\ny",' * 2**16 + "1]}",
        ):
            for wrapped in (False, True):
                began = thread_time()
                with contextlib.suppress(AnswerSchemaMismatch, AnswerUnreadable):
                    find_answer(text, SCHEMA, wrapped=wrapped)
                self.assertLess(thread_time() - began, 3, text[:20])

    def test_cheap(self) -> None:
        """
        A search is cheap if the text is short, has few values and can be read in few ways.
        """
        for text, wrapped, long_list, cheap in (
            ('{"title": "x"}', False, False, True),
            ('{"title": "' + "," * 20_000 + '"}', False, False, True),
            ('{"title": "' + "x" * 40_000 + '"}', False, False, False),
            ("[1,2]" * 1000, False, False, False),
            ('{"title": "x"}', True, False, True),
            ('{"title": "' + "x\n" * 6 + '"}', True, False, True),
            ('{"title": "' + "x\n" * 7 + '"}', True, False, False),
            ('{"title": "x\ny"}' * 33, True, False, False),
            ('{"title": "' + "x" * 10_000 + '"}', True, False, False),
            ('{"title": "x"}', False, True, False),
        ):
            search = AnswerSearch(text, SCHEMA, None, wrapped, None, long_list)
            self.assertIs(search.is_cheap, cheap, text[:20])

    @given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join))
    def test_same_as_a_plain_search(self, text: str) -> None:
        """
        The answer is the last outermost object that fits, as a search finds it that tries to
        read an object at every brace.
        """
        fitting = None
        position = 0
        while (position := text.find("{", position)) >= 0:
            try:
                value, position = json.JSONDecoder().raw_decode(text, position)
            except ValueError:
                position += 1
            else:
                fitting = value if isinstance(value.get("title"), str) else fitting
        if fitting is None:
            self.assertTrue(self.reason(text))
        else:
            self.assertEqual(find_answer(text, SCHEMA).value, fitting)
