"""
Tests for `kiroworkers.chat.reply_reader`.
"""

from __future__ import annotations

import json
from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.chat import ReplyReader

#: With lone surrogates, and what JSON escapes.
TEXTS = st.text(st.characters() | st.sampled_from('"\\\n\u2028😀\ud83d\ude00&`'))


def read(text: str, cuts: list[int]) -> list[str]:
    """
    Return what a reader makes of each piece of `text`, which is cut at these positions.
    """
    reader = ReplyReader()
    edges = [0, *sorted({min(cut, len(text)) for cut in cuts}), len(text)]
    return [reader.feed(text[start:end]) for start, end in pairwise(edges)]


class ReplyReaderTests(SynchronousTestCase):
    """
    Tests for `ReplyReader`.
    """

    @given(TEXTS, st.booleans(), st.lists(st.integers(0, 200)))
    @example("a\ud83d", False, [])
    @example("a\ud83d", True, [])
    @example("\ud83d\n\ud83d\ud83dx\ud83d\x00", True, [*range(80)])
    @example("\ud83d\n\ud83d\ud83dx\ud83d\x00", False, [*range(80)])
    def test_whole(self, reply: str, is_ascii: bool, cuts: list[int]) -> None:
        """
        However the reply is cut and escaped, the pieces add up to what a parser reads.
        """
        encoded = json.dumps({"reply": reply}, ensure_ascii=is_ascii)
        pieces = read(f"Here:\n```json\n{encoded}\n```\nThat is all.", cuts)
        self.assertEqual("".join(pieces), json.loads(encoded)["reply"])

    @given(TEXTS, st.integers(0, 300))
    def test_beginning(self, reply: str, end: int) -> None:
        """
        What is read of the beginning of a reply is the beginning of what it means.
        """
        encoded = json.dumps({"reply": reply})
        part = "".join(read(encoded[:end], []))
        self.assertTrue(json.loads(encoded)["reply"].startswith(part))

    def test_early(self) -> None:
        """
        Characters are returned as soon as they come.
        """
        self.assertEqual(read('{"reply":"One two"}', [13, 15]), ["One", " t", "wo"])

    def test_nothing(self) -> None:
        """
        Nothing is read from text without a reply, and nothing after a reply.
        """
        for text in (
            "I have nothing to say.",
            '{"other": "reply"}',
            '{"reply": 1, "x": "y"}',
            '{"reply": "a\nb"}',
            "x" * 20_000 + '{"reply": "late"}',
        ):
            self.assertEqual("".join(read(text, [5])), "", text[-40:])
        self.assertEqual("".join(read('{"reply": "one"} {"reply": "two"}', [17])), "one")
