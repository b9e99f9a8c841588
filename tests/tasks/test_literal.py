"""
Tests for `kiroworkers.tasks.literal`.
"""

from __future__ import annotations

import json
import unicodedata

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.tasks.literal import json_literal

hostile = st.text() | st.sampled_from(
    [
        "\x1b[201~\r!rm -rf /\r",
        "```",
        "`",
        "\\",
        "@/etc/passwd",
        "\u202e",
        "\ud800",
        "\u2028",
        "\x9b",
    ]
)


class LiteralTests(SynchronousTestCase):
    """
    Tests for `json_literal`.
    """

    def test_readable(self) -> None:
        """
        Letters of any language stay letters.
        """
        self.assertEqual(json_literal({"idea": "größer 大きい"}), '{"idea":"größer 大きい"}')

    @given(st.lists(hostile))
    def test_means_nothing_to_a_terminal(self, texts: list[str]) -> None:
        """
        No text leaves a character that a terminal or a line editor would act
        on, and the text comes back equal.
        """
        literal = json_literal(texts)
        self.assertEqual(json.loads(literal), texts)
        for character in literal:
            self.assertNotIn(character, "@`\n\r\x1b")
            self.assertTrue(character.isspace() or unicodedata.category(character)[0] != "C")
            self.assertNotIn(unicodedata.category(character), ("Zl", "Zp"))

    def test_many_unprintable(self) -> None:
        """
        A text with very many different characters that are not printable comes back equal.
        """
        text = "".join(map(chr, range(0xF0000, 0xF0000 + 60_000))) + "@\x7f`é"
        literal = json_literal(text)
        self.assertTrue(literal.isprintable())
        self.assertNotIn("@", literal)
        self.assertEqual(json.loads(literal), text)
