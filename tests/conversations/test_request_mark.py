"""
Tests for `kiroworkers.conversations.request_mark`.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.conversations.request_mark import RequestMark, mark_from_json, read_mark

TEXTS = st.text(max_size=20)

#: What is not a marker.
ODD: list[Any] = [None, [], {}, {"mark": 1}]


class RequestMarkTests(SynchronousTestCase):
    """
    Tests for writing and reading markers.
    """

    @given(TEXTS, st.dictionaries(st.sampled_from(["task", "code", "sha256"]), TEXTS))
    def test_any_value(self, request: str, data: dict[str, str]) -> None:
        """
        Whatever the facts are, the label is one line that is read back, and so is the object.
        """
        mark = RequestMark("ended", request, data)
        self.assertEqual(len(mark.label().splitlines()), 1)
        self.assertEqual(read_mark(mark.label()), mark)
        self.assertEqual(mark_from_json(mark.json()), mark)

    def test_others(self) -> None:
        """
        Markers of other programs are not taken for markers of requests.
        """
        for label in ("", "Chapter 1", "a=b c", "asked request=1 x", "!"):
            self.assertIsNone(read_mark(label), label)
        for value in ODD:
            self.assertIsNone(mark_from_json(value), value)
