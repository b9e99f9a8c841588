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
        What a limit names is reached, too; what is beyond is not.
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
        A figure is shown with the digits that say something, and its unit.
        """
        for found, shown in [
            (0.0555, "0.0555 ms"),
            (0.693, "0.69 ms"),
            (12.34, "12.3 ms"),
            (1450.2, "1,450 ms"),
        ]:
            self.assertEqual(str(Figure("it", found, "ms")), shown)

    def test_verdict(self) -> None:
        """
        A figure says whether it reaches what it is to reach, by what was found and not
        by what is shown; one that is to reach nothing says nothing.
        """
        self.assertEqual([each.verdict for each in PARTS[0].figures], ["", "no", "yes"])
        self.assertEqual(Figure("it", 1.5004, "x", Limit(most=1.5)).verdict, "no")


class TextTests(SynchronousTestCase):
    """
    Tests for `text`.
    """

    def test_whole(self) -> None:
        """
        A terminal shows the question, and a line for each figure.
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
        A table has what it was measured with, and five cells for each figure; a part is
        named once.
        """
        shown = table(PARTS, {"Machine": "a small one"})
        self.assertIn("* Machine: a small one\n", shown)
        _, _, rows = shown.partition("     - Reached\n")
        self.assertEqual(rows.count("   * -"), 3)
        self.assertEqual(rows.count("     -"), 4 * 3)
        self.assertEqual(rows.count("``fast``"), 1)

    def test_rest_survives(self) -> None:
        """
        What is written by hand around the table stays as it is, however often the table
        is written.
        """
        document = f"Before.\n\n{BEGIN}\n\nold\n\n{END}\n\nAfter.\n"
        once = replaced(document, "new\n")
        self.assertEqual(once, f"Before.\n\n{BEGIN}\n\nnew\n\n{END}\n\nAfter.\n")
        self.assertEqual(replaced(once, "new\n"), once)

    def test_no_place(self) -> None:
        """
        A document without the one place for the table is refused, and not guessed at.
        """
        for document in ["", BEGIN, END, f"{END}\n{BEGIN}", f"{BEGIN}{BEGIN}{END}"]:
            with self.assertRaises(ValueError):
                replaced(document, "new")
