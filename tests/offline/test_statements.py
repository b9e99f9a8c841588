"""
Tests for `kiroworkers.offline.statements`.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.offline.statements import is_english, shorten, statements


def texts(text: str) -> list[str]:
    """
    Return the statements of `text` without their marks.
    """
    return [statement.text for statement in statements(text)]


class StatementTests(SynchronousTestCase):
    """
    Tests for `statements`.
    """

    def test_sentences(self) -> None:
        """
        Sentences stay whole in several scripts, and abbreviations and versions end none.
        """
        for text, expected in [
            ("It is slow. Fix it!", ["It is slow.", "Fix it!"]),
            ("Use v1.2. Then stop, e.g. at 3.5.", ["Use v1.2.", "Then stop, e.g. at 3.5."]),
            ("Prüfe, ob z. B. die IBAN stimmt. Dann", ["Prüfe, ob z. B. die IBAN stimmt.", "Dann"]),
            ("一覧を見たい。通知も必要。", ["一覧を見たい。", "通知も必要。"]),
            ("max. 20 %, etc. and so on", ["max. 20 %, etc. and so on"]),
        ]:
            self.assertEqual(texts(text), expected)

    def test_bullets(self) -> None:
        """
        Each item of a list is one statement, whatever its mark, with its further lines.
        """
        for mark in ("-", "*", "•", "1.", "2)", "a)", "- [ ]", "[x]", "☐"):
            found = statements(f"Tags:\n{mark} add one\n  or two\n{mark} remove one. Undo it.")
            self.assertEqual(
                [tuple(statement) for statement in found],
                [
                    ("Tags", False, True),
                    ("add one or two", True, False),
                    ("remove one. Undo it.", True, False),
                ],
                mark,
            )

    def test_lines(self) -> None:
        """
        Lines that were wrapped are joined; short lines are statements of their own.
        """
        wrapped = "The customers keep asking for a way to see their own\ninvoices online"
        self.assertEqual(texts(wrapped), [wrapped.replace("\n", " ")])
        self.assertEqual(texts("CSV export\nPDF export"), ["CSV export", "PDF export"])
        steps = "Given a cart\nWhen I pay\nThen it is empty\nAnd a receipt is sent"
        self.assertEqual(texts(steps), [steps.replace("\n", " ")])

    def test_left_out(self) -> None:
        """
        Greetings, closings, marks of quoted mail, code blocks and headings without a content
        are left out.
        """
        self.assertEqual(
            texts(
                "Hi team,\n\n> # Login\n> Requirements:\n```\ncode\n```\n- a code\n\nThanks,\nUs"
            ),
            ["Login", "a code", "Us"],
        )

    @given(st.text(max_size=300))
    def test_own_words(self, text: str) -> None:
        """
        Statements contain the words of the text, in their order, and nothing else.
        """
        position = 0
        for word in " ".join(texts(text)).split():
            found = text.find(word, position)
            self.assertGreaterEqual(found, position, word)
            position = found + len(word)

    def test_giants(self) -> None:
        """
        A very large text is read in part.
        """
        for text in (
            "a" * 200_000,
            "x\n" * 60_000,
            "- a\n" * 60_000,
            "a. " * 60_000,
            "a,\n" * 60_000,
        ):
            found = texts(text)
            self.assertLessEqual(len(found), 200)
            self.assertLessEqual(max(map(len, found)), 600)


class ShortenTests(SynchronousTestCase):
    """
    Tests for `shorten`.
    """

    def test_between_words(self) -> None:
        """
        A long text is cut between two words, or within one that is too long itself.
        """
        self.assertEqual(shorten("one two three", 13), "one two three")
        self.assertEqual(shorten("one, two three", 8), "one…")
        self.assertEqual(shorten("abcdefgh", 5), "abcd…")


class EnglishTests(SynchronousTestCase):
    """
    Tests for `is_english`.
    """

    def test_languages(self) -> None:
        """
        Text is read as English only if it has common English words.
        """
        for text, english in [
            ("Export the list to CSV", True),
            ("asdf", False),
            ("", False),
            ("Passwort zurücksetzen per E-Mail", False),
            ("Exporter les histoires en CSV", False),
            ("在庫が少ない", False),
        ]:
            self.assertIs(is_english(text), english, text)
