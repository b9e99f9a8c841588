"""
Tests for `kiroworkers.conversations.terminal.patience`.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.conversations.terminal.patience import holds_text, patience


class PatienceTests(SynchronousTestCase):
    """
    Tests for `patience`.
    """

    def test_incomplete(self) -> None:
        """
        An answer whose object has not ended, or not begun, is given more time.
        """
        self.assertEqual(patience(0.2, 'text {"a": {}}'), 0.2)
        for text in ("", "text", '{"a": {}', "}"):
            self.assertEqual(patience(0.2, text), 1.0, text)
        self.assertEqual(patience(3.0, ""), 3.0)


class HoldsTextTests(SynchronousTestCase):
    """
    Tests for `holds_text`.
    """

    def test_shown(self) -> None:
        """
        An input field holds a text if it shows its end, or its size.
        """
        typed = "Request:\n" + "x" * 30 + "\nGive the object."
        for rows in (
            ["│ Give the object."],
            ["> Give the", "object."],
            [" 3 lines ▸ "],
            [f"› [Pasted Content {len(typed)} chars]"],
            [">    [Pasted Text: 3 lines]"],
        ):
            self.assertTrue(holds_text(rows, typed), rows)

    def test_not_shown(self) -> None:
        """
        It does not if it shows another text or another size.
        """
        for rows in ([], ["Update now?"], [" 12 lines ▸"], ["3 tips"], ["Give"], ["object."]):
            self.assertFalse(holds_text(rows, "one\ntwo\nGive the object."), rows)
