"""
Tests for `kiroworkers.offline.acceptance`.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.offline.acceptance import generate_test
from tests.offline.contract import giants, problems, stories


class AcceptanceTests(SynchronousTestCase):
    """
    Tests for `generate_test`.
    """

    def test_criteria(self) -> None:
        """
        The criteria are the outcomes, in their own words.
        """
        answer = generate_test({"story": {
            "title": "CSV export", "asA": "manager", "iWant": "export the list",
            "acceptanceCriteria": ["It has a header row", "", "It has a header row"],
        }})  # fmt: skip
        self.assertEqual(
            answer,
            {
                "title": "Test: CSV export",
                "given": ["Actor: manager"],
                "when": ["The actor does this: export the list"],
                "then": ["It has a header row"],
            },
        )

    def test_steps(self) -> None:
        """
        A criterion in the form Given, When, Then is taken apart.
        """
        criteria = ["Given a cart, when I pay, then it is empty", "A receipt is sent"]
        answer = generate_test({"story": {"title": "Pay", "acceptanceCriteria": criteria}})
        self.assertEqual(answer["given"], ["a cart"])
        self.assertEqual(answer["when"], ["I pay"])
        self.assertEqual(answer["then"], ["it is empty", "A receipt is sent"])

    def test_title_only(self) -> None:
        """
        A story without criteria gets one outcome that names its wish.
        """
        title = "As a nurse, I want to scan a wristband so that nobody is harmed"
        answer = generate_test({"story": {"title": title}})
        self.assertEqual(answer["given"], ["Actor: nurse"])
        self.assertEqual(answer["then"], ["The result can be seen: scan a wristband"])

    @given(stories)
    def test_contract(self, story: dict[str, Any]) -> None:
        """
        Any story gets a test that fits the schema, and always the same one.
        """
        answer = generate_test({"story": story})
        self.assertEqual(problems("generate-test", answer), [])
        self.assertEqual(answer, generate_test({"story": story}))

    def test_giants(self) -> None:
        """
        The test of a very large story is short enough to read.
        """
        for text in giants():
            story = {"title": text, "asA": text, "iWant": text, "acceptanceCriteria": [text] * 99}
            answer = generate_test({"story": story})
            self.assertEqual(problems("generate-test", answer), [])
            self.assertLess(len(repr(answer)), 8000)
