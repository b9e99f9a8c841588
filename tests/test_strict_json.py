"""
Tests for `kiroworkers.strict_json`.
"""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.strict_json import StrictDecoder


class StrictDecoderTests(SynchronousTestCase):
    """
    Tests for `StrictDecoder`.
    """

    def test_numbers(self) -> None:
        """
        Numbers of JSON are read, and what cannot be written as JSON again is not.
        """
        numbers = json.loads("[1, -2.5, 1e3, 1e-400]", cls=StrictDecoder)
        self.assertEqual(numbers, [1, -2.5, 1000.0, 0.0])
        for text, reason in (
            ("[NaN]", "NaN is not a JSON number"),
            ("[-Infinity]", "-Infinity is not a JSON number"),
            ("[1e999]", "the number 1e999 is too large"),
        ):
            with self.assertRaisesRegex(ValueError, reason):
                json.loads(text, cls=StrictDecoder)
