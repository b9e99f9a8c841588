"""
Tests for `kiroworkers.chat.piecewise`.
"""

from __future__ import annotations

import json
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.chat import ReplyReader

#: With lone surrogates, and what JSON escapes.
TEXTS = st.text(st.characters() | st.sampled_from('"\\\n\u2028😀\ud83d\ude00&`'))


def read(said: str, cuts: list[int]) -> list[str]:
    """
    What is given of `said`, which comes cut there.
    """
    reader = ReplyReader()
    edges = [0, *sorted({min(cut, len(said)) for cut in cuts}), len(said)]
    return [reader.feed(said[a:b]) for a, b in pairwise(edges)]


class ReplyReaderTests(SynchronousTestCase):
    """
    Tests for `ReplyReader`.
    """

    @given(TEXTS, st.booleans(), st.lists(st.integers(0, 200)))
    def test_whole(self, reply: str, is_ascii: bool, cuts: list[int]) -> None:
        """
        However it is cut and escaped, what is given is what a parser reads.
        """
        shown = json.dumps({"reply": reply}, ensure_ascii=is_ascii)
        pieces = read(f"Here:\n```json\n{shown}\n```\nThat is all.", cuts)
        self.assertEqual("".join(pieces), json.loads(shown)["reply"])

    @given(TEXTS, st.integers(0, 300))
    def test_beginning(self, reply: str, end: int) -> None:
        """
        What is given of a part is the beginning of the whole.
        """
        shown = json.dumps({"reply": reply})
        part = "".join(read(shown[:end], []))
        self.assertTrue(json.loads(shown)["reply"].startswith(part))

    def test_early(self) -> None:
        """
        Characters are given as they come.
        """
        self.assertEqual(read('{"reply":"One two"}', [13, 15]), ["One", " t", "wo"])

    def test_nothing(self) -> None:
        """
        Nothing is read in what is no reply, nor after it.
        """
        for said in (
            "I have nothing to say.",
            '{"other": "reply"}',
            '{"reply": 1, "x": "y"}',
            '{"reply": "a\nb"}',
            "x" * 20_000 + '{"reply": "late"}',
        ):
            self.assertEqual("".join(read(said, [5])), "", said[-40:])
        self.assertEqual("".join(read('{"reply": "one"} {"reply": "two"}', [17])), "one")
