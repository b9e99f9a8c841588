"""
Tests for `bench.report`.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from bench.report import BEGIN, END, Figure, Limit, Part, replaced, table, text

PARTS = [
    Part(
        "fast",
        "how fast?",
        [
            Figure("a turn", 1.234, "ms"),
            Figure("a turn to another", 1.6, "x", Limit(most=1.5)),
            Figure("another to a turn", 1200.4, "x", Limit(least=200)),
        ],
    )
]


class LimitTests(SynchronousTestCase):
    """
    Tests for `Limit`.
    """

    def test_bounds(self) -> None:
        """
        A value that equals the limit meets it, and one beyond does not.
        """
        self.assertTrue(Limit(most=1.5).reached(1.5))
        self.assertFalse(Limit(most=1.5).reached(1.51))
        self.assertTrue(Limit(least=0.97).reached(0.97))
        self.assertFalse(Limit(least=0.97).reached(0.96))


class FigureTests(SynchronousTestCase):
    """
    Tests for `Figure`.
    """

    def test_digits(self) -> None:
        """
        A figure is printed with its significant digits and its unit.
        """
        for value, printed in [
            (0.0555, "0.0555 ms"),
            (0.693, "0.69 ms"),
            (12.34, "12.3 ms"),
            (1450.2, "1,450 ms"),
        ]:
            self.assertEqual(str(Figure("it", value, "ms")), printed)

    def test_verdict(self) -> None:
        """
        The verdict of a figure depends on its exact value, not on the printed one; a figure
        without a limit has no verdict.
        """
        self.assertEqual([figure.verdict for figure in PARTS[0].figures], ["", "no", "yes"])
        self.assertEqual(Figure("it", 1.5004, "x", Limit(most=1.5)).verdict, "no")


class TextTests(SynchronousTestCase):
    """
    Tests for `text`.
    """

    def test_whole(self) -> None:
        """
        The text has the question, and one line for each figure.
        """
        first, *lines = text(PARTS[0]).splitlines()
        self.assertEqual(first, "fast: how fast?")
        self.assertEqual(
            [line.split() for line in lines],
            [
                ["a", "turn", "1.23", "ms"],
                ["a", "turn", "to", "another", "1.60", "x", "at", "most", "1.5:", "no"],
                ["another", "to", "a", "turn", "1,200", "x", "at", "least", "200:", "yes"],
            ],
        )


class TableTests(SynchronousTestCase):
    """
    Tests for `table` and `replaced`.
    """

    def test_rows(self) -> None:
        """
        The table begins with the conditions and has five cells for each figure; the name of
        a part appears once.
        """
        document = table(PARTS, {"Machine": "a small one"})
        self.assertIn("* Machine: a small one\n", document)
        _, _, rows = document.partition("     - Reached\n")
        self.assertEqual(rows.count("   * -"), 3)
        self.assertEqual(rows.count("     -"), 4 * 3)
        self.assertEqual(rows.count("``fast``"), 1)

    def test_rest_survives(self) -> None:
        """
        The document around the table stays unchanged, however often the table is replaced.
        """
        document = f"Before.\n\n{BEGIN}\n\nold\n\n{END}\n\nAfter.\n"
        once = replaced(document, "new\n")
        self.assertEqual(once, f"Before.\n\n{BEGIN}\n\nnew\n\n{END}\n\nAfter.\n")
        self.assertEqual(replaced(once, "new\n"), once)

    def test_no_place(self) -> None:
        """
        A document without exactly one place for the table is rejected.
        """
        for document in ["", BEGIN, END, f"{END}\n{BEGIN}", f"{BEGIN}{BEGIN}{END}"]:
            with self.assertRaises(ValueError):
                replaced(document, "new")
