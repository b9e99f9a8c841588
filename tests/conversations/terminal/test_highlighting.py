"""
Tests for `kiroworkers.conversations.terminal.highlighting`.
"""

from __future__ import annotations

import json
from time import thread_time

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.conversations.terminal.highlighting import without_highlighting
from tests.servers import COVERAGE_FACTOR


def left_of(marked: str) -> str:
    """
    Return `marked`, in which ``|`` are changes of style, without those of highlighting.
    """
    parts = marked.split("|")
    text = "".join(parts)
    offsets = [len("".join(parts[:number])) for number in range(1, len(parts))]
    for offset in reversed(without_highlighting(text, offsets)):
        text = f"{text[:offset]}|{text[offset:]}"
    return text


class HighlightingTests(SynchronousTestCase):
    """
    Tests for `without_highlighting`.
    """

    def test_highlighted(self) -> None:
        """
        Changes between tokens, at quotation marks and at escapes are no rendering.
        """
        for marked in (
            '{"|a|":| |"x"|,| |"|b|":| |1|}',
            '{|"a"|:| |[|true|,| |"**b**"|]|,| |"c"|:| |{|"d"|:| |null|}|}',
            '{|\n  "a"|: |"two|\\n|lines |\\u00e9|"|\n}',
            '{|"a"|: |"C:|\\\\|new|\\"|"|}',
        ):
            self.assertEqual(left_of(marked), marked.replace("|", ""))

    def test_rendered(self) -> None:
        """
        Every change in an object whose first key is not coloured is rendering.
        """
        for marked in (
            '{"a": "|code|"}',
            '{"a": "x |code| y"}',
            '{"a": "x|\\n|y"}',
            '{"a": "x |y", "b": "z| w"}',
        ):
            self.assertEqual(left_of(marked), marked)

    def test_inside_a_string(self) -> None:
        """
        A change in the middle of a string is rendering also in a coloured object.
        """
        marked = '{|"a"|: "two |bold| words", |"b"|: "x"}'
        self.assertEqual(left_of(marked), '{"a": "two |bold| words", "b": "x"}')

    def test_several(self) -> None:
        """
        Each object is judged by itself, and text between them is left as it is.
        """
        self.assertEqual(
            left_of('|I say "{" |or {|"a"|: 1|} |and {"a": "|b|"}|'),
            '|I say "{" |or {|"a"|: 1|} |and {"a": "|b|"}|',
        )
        self.assertEqual(
            left_of('|see |{|"a"|: 1|} |and {"a": "|b|"}|'), '|see |{"a": 1} |and {"a": "|b|"}|'
        )

    @given(st.dictionaries(st.text(), st.text() | st.integers(), min_size=1), st.data())
    def test_one_change(self, value: dict[str, object], data: st.DataObject) -> None:
        """
        A single change behind the first key's beginning is always rendering.
        """
        text = json.dumps(value)
        offset = data.draw(st.integers(3, len(text) - 1))
        self.assertEqual(without_highlighting(text, [offset]), (offset,))

    def test_cost(self) -> None:
        """
        The cost is linear in the text and in the changes.
        """
        for text in ('{"' * 200_000, '{"a":' * 100_000, '{"a": "' + "\\n" * 200_000 + '"}'):
            began = thread_time()
            without_highlighting(text, range(1, len(text)))
            self.assertLess(thread_time() - began, 4 * COVERAGE_FACTOR, text[:10])
