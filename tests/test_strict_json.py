"""
Tests for `kiroworkers.strict_json`.
"""

from __future__ import annotations

import json
from time import thread_time
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.strict_json import StrictDecoder, has_more_values


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
            (f"[{10**310}]", "the number 10000.* is too large"),
            (f"[-{10**310}]", "the number -1000.* is too large"),
        ):
            with self.assertRaisesRegex(ValueError, reason):
                json.loads(text, cls=StrictDecoder)


_VALUES = st.recursive(
    st.none() | st.integers() | st.text('a,[{"\\'),
    lambda inner: (
        st.lists(inner, min_size=1, max_size=4)
        | st.dictionaries(st.text('a,[{"\\'), inner, min_size=1, max_size=4)
    ),
)


def number_of_values(value: Any) -> int:
    """
    Return the number of JSON values in `value`, itself included.
    """
    children = (
        value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    )
    return 1 + sum(map(number_of_values, children))


class HasMoreValuesTests(SynchronousTestCase):
    """
    Tests for `has_more_values`.
    """

    @given(_VALUES)
    def test_counts(self, value: Any) -> None:
        """
        The values are counted, whatever their strings contain.
        """
        text, number = json.dumps(value), number_of_values(value)
        self.assertTrue(has_more_values(text, number - 1))
        self.assertFalse(has_more_values(text, number))

    def test_invalid(self) -> None:
        """
        Text that is no JSON is counted as well, in time that is proportional to its length.
        """
        for text, more in (
            ("[" * 10, True),
            ('"' + "," * 10, False),
            ('"' + '\\",' * 10, False),
            ("[] [{},,,,", True),
        ):
            self.assertIs(has_more_values(text, 5), more, text)
        began = thread_time()
        for text in ('"' + '\\",' * 500_000, '"",' * 500_000, "," * 1_000_000, '{"' * 500_000):
            has_more_values(text, 20_000)
        self.assertLess(thread_time() - began, 5)
