"""
Tests for `kiroworkers.clean_text`.
"""

from __future__ import annotations

import json
import unicodedata

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.clean_text import clean_json, clean_lines, clean_text, without_quotes


class CleanTextTests(SynchronousTestCase):
    """
    Tests for `clean_text`, `clean_lines` and `clean_json`.
    """

    def test_every_character(self) -> None:
        """
        Of all characters, exactly the controls, the marks of direction, the separators of lines
        and the surrogates are escaped.
        """
        bidi = {"L", "R", "AL", "EN", "ES", "ET", "AN", "CS", "NSM", "BN", "B", "S", "WS", "ON"}
        characters = [chr(number) for number in range(0x110000)]
        # The classes of embeddings, overrides and isolates; marks have the classes of letters.
        unsafe = {
            character
            for character in characters
            if unicodedata.category(character) in ("Cc", "Zl", "Zp", "Cs")
            or unicodedata.bidirectional(character) not in {*bidi, ""}
            or character in "\u061c\u200e\u200f"
        }
        for character in unsafe:
            self.assertNotEqual(clean_text(character), character, hex(ord(character)))
        safe = "".join(character for character in characters if character not in unsafe)
        self.assertEqual(clean_text(safe), safe)

    def test_escapes(self) -> None:
        """
        What is escaped can still be read.
        """
        self.assertEqual(
            clean_text("a\x00\x1b[2J\x9b\u202eb\n\r\t\u2028\udc9b\x7fü"),
            r"a\x00\x1b[2J\x9b\u202eb\n\r\t\u2028\udc9b\x7f" + "ü",
        )

    def test_lines(self) -> None:
        """
        Where lines are allowed, only line feeds and tabs are left.
        """
        self.assertEqual(clean_lines("a\n\tb\r\x1b\u202e\x0b"), "a\n\tb" + r"\r\x1b\u202e\x0b")

    def test_json(self) -> None:
        """
        JSON encodes the same value afterwards.
        """
        value = {"a\x9b": ["\u202e\x00\n\x7f", "\udc80", "ü"]}
        text = clean_json(json.dumps(value, ensure_ascii=False, indent=2))
        self.assertEqual(json.loads(text), value)
        self.assertEqual(text, clean_lines(text))
        self.assertIn("ü", text)


class QuoteTests(SynchronousTestCase):
    """
    Tests for `without_quotes`.
    """

    def test_literals(self) -> None:
        """
        However a text is quoted, nothing of it is left, and the rest of the sentence is.
        """
        secrets = [
            "secret",
            "it's secret",
            'a "secret"',
            "'secret",
            "\"'secret\\",
            "secret\\",
            "\nsecret",
        ]
        for secret in secrets:
            for value in (secret, [secret, 5], {secret: {"a": secret}}):
                sentence = f"The value doesn't fit: {value!r} is too long"
                cleaned = without_quotes(sentence)
                self.assertNotIn("secret", cleaned)
                self.assertTrue(cleaned.startswith("The value doesn't fit: "), cleaned)
                self.assertTrue(cleaned.endswith(" is too long"), cleaned)
                for end in range(len(sentence)):
                    self.assertNotIn("secret", without_quotes(sentence[:end] + "…"))

    def test_nothing_quoted(self) -> None:
        """
        A sentence without quotes stays as it is.
        """
        sentence = "storyPoint must be at most 8; the server can't know"
        self.assertEqual(without_quotes(sentence), sentence)
