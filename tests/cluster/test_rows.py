"""
Tests for `kiroworkers.cluster.rows`.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis.strategies import characters, lists, sampled_from, text
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.cluster.rows import decode_text, encode_text

#: Texts with all characters, lone surrogates included, and with many that are escaped.
_TEXTS = lists(text(characters()) | sampled_from(["\\", "\0", "\ud800", "\\u0000", "u0000"])).map(
    "".join
)


class TextTests(SynchronousTestCase):
    """
    Tests for `encode_text` and `decode_text`.
    """

    @given(_TEXTS)
    def test_reversible(self, value: str) -> None:
        """
        Each text has a form of its own that PostgreSQL can store.
        """
        encoded = encode_text(value)
        self.assertNotIn("\0", encoded)
        encoded.encode()
        self.assertEqual(decode_text(encoded), value)

    def test_readable(self) -> None:
        """
        Texts without NUL characters, lone surrogates and backslashes are stored as they are.
        """
        self.assertEqual(encode_text("ann's é \U0001f600"), "ann's é \U0001f600")
        self.assertEqual(encode_text("\\\0\ud800"), "\\\\\\u0000\\ud800")
