"""
Tests for `kiroworkers.tasks.rejoin`, and for answers whose lines were cut.
"""

from __future__ import annotations

import json
import textwrap
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.errors import AnswerSchemaMismatch, AnswerUnreadable
from kiroworkers.tasks.answer import find_answer
from tests.tasks.test_answer import SCHEMA, json_values, prose


class RejoinTests(SynchronousTestCase):
    """
    Tests for `find_answer` where lines may be cut.
    """

    def find(self, text: str) -> tuple[dict[str, Any], bool]:
        found = find_answer(text, SCHEMA, wrapped=True)
        return found.value, found.rejoined

    def test_whole(self) -> None:
        """
        An object that is not cut inside a string is as certain as any.
        """
        text = '• Here:\n  {"title":\n   "one two", "kinds": [\n  ]}\n───'
        self.assertEqual(self.find(text), ({"title": "one two", "kinds": []}, False))

    def test_one_reading_fits(self) -> None:
        """
        An object that was cut is taken when one way to join it alone fits.
        """
        text = '{"title": "a", "kinds": ["Print_\n  Server", "WebClient"]}'
        expected = {"title": "a", "kinds": ["Print_Server", "WebClient"]}
        self.assertEqual(self.find(text), (expected, True))

    def test_two_readings_fit(self) -> None:
        """
        An object that can mean two things means nothing, even where another one
        before it is whole.
        """
        for text in ('{"title": "one\n  two"}', '{"title": "draft"} {"title": "one\n  two"}'):
            with self.assertRaises(AnswerUnreadable):
                self.find(text)

    def test_too_many_cuts(self) -> None:
        """
        An object that is cut in very many places is not tried.
        """
        with self.assertRaises(AnswerUnreadable):
            self.find('{"title": "' + "x\n" * 30 + '"}')

    def test_nothing_fits(self) -> None:
        """
        An object that fits in no reading is unfit, and says why.
        """
        with self.assertRaises(AnswerSchemaMismatch) as raised:
            self.find('{"name": "one\n two"} {"kind": 1}')
        self.assertIn("title is required", str(raised.exception))

    def test_inside_of_one_that_was_cut(self) -> None:
        """
        Nothing inside of an object is an answer, though that one is unreadable.
        """
        inner = '{"title": "inner"}'
        for text in (
            '{"title": "' + "x\n" * 30 + '", "more": ' + inner + "}",
            '{"title": "one\n two", "more": ' + inner + "}",
        ):
            with self.assertRaises(AnswerUnreadable):
                self.find(text)

    def test_lost_at_the_cut(self) -> None:
        """
        An object to which a cut did more than can be undone is unreadable, and no
        draft before it is taken instead.
        """
        draft = '{"title": "a", "kind": "small"}'
        with self.assertRaises(AnswerUnreadable):
            self.find(draft + ' Better: {"title": "b", "kind": "sm\n\tal\nx"}')

    def test_cut_in_an_escape(self) -> None:
        """
        A cut inside an escape has one reading only.
        """
        self.assertEqual(self.find('{"title": "a\\\n  nb"}'), ({"title": "a\nb"}, True))
        self.assertEqual(self.find('{"title": "a\\u00\n  26b"}'), ({"title": "a&b"}, True))

    def test_cut_in_a_number_or_a_word(self) -> None:
        """
        The two parts of a number or a word belong together.
        """
        text = '{"title": "a", "n": [12\n  34, -1.5e\n+3, fal\nse, 1,\n2]}'
        expected = {"title": "a", "n": [1234, -1500.0, False, 1, 2]}
        self.assertEqual(self.find(text), (expected, True))

    def test_not_cut_lines(self) -> None:
        """
        Where lines are never cut, a newline inside a string is no JSON.
        """
        with self.assertRaises(AnswerSchemaMismatch):
            find_answer('{"title": "a", "kinds": ["Run_\nVerify"]}', SCHEMA)

    @given(st.dictionaries(st.text(), json_values), prose, st.integers(20, 60))
    def test_any_object(self, value: Any, before: str, width: int) -> None:
        """
        Whatever was cut by words, the answer is the object itself or none.
        """
        answer = {**value, "title": "some words that are long enough to be cut"}
        answer.pop("kind", None)
        answer.pop("kinds", None)
        said = before.replace("\n", " ") + json.dumps(answer, ensure_ascii=False)
        cut = "\n".join(textwrap.wrap(said, width, drop_whitespace=True, break_on_hyphens=False))
        try:
            found = find_answer(cut, SCHEMA, wrapped=True)
        except (AnswerSchemaMismatch, AnswerUnreadable):
            return
        self.assertEqual(found.value, answer)

    def test_no_number(self) -> None:
        """
        A number that is none in JSON makes no answer.
        """
        with self.assertRaises(AnswerSchemaMismatch):
            self.find('{"title": "a", "n": 1e999}')

    def test_false_starts(self) -> None:
        """
        What only begins like an object hides none after it, and costs little.
        """
        self.assertEqual(self.find('Use { "like this, and {"title": "x"}')[0], {"title": "x"})
        self.assertEqual(self.find('{ "' * 500 + '"} {"title": "x"}')[0], {"title": "x"})
