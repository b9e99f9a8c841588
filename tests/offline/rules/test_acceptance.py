"""
Tests for the acceptance test rules.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.offline.rules.acceptance import MOST_CRITERIA, generate_test
from kiroworkers.offline.rules.observable import observable
from tests.offline.rules.contract import giants, problems, stories, texts


def acceptance(**story: Any) -> dict[str, Any]:
    """
    The acceptance test for `story`.
    """
    return generate_test({"story": {"title": "A story", **story}})


class AcceptanceTests(SynchronousTestCase):
    """
    Tests for `generate_test`.
    """

    def test_example(self) -> None:
        """
        The actor's state is given, the wish is done, each criterion is seen.
        """
        found = acceptance(
            asA="project manager",
            iWant="export the filtered list to CSV",
            soThat="I can share status within 5 seconds",
            acceptanceCriteria=["CSV has a header row", "Rows match the filter"],
        )
        self.assertEqual(found["title"], "Project manager can export the filtered list to CSV")
        self.assertIn("A project manager is signed in", found["given"])
        self.assertEqual(found["when"], ["The project manager exports the filtered list to CSV"])
        self.assertEqual(
            found["then"],
            ["CSV has a header row", "Rows match the filter", "All this is seen within 5 seconds"],
        )

    def test_given_when_then(self) -> None:
        """
        A criterion in three steps goes to the right lists.
        """
        found = acceptance(
            asA="customer",
            iWant="to log in",
            acceptanceCriteria=[
                "Given I am on the login page, when I enter a valid password "
                "then I see my start page"
            ],
        )
        self.assertIn("The customer is on the login page", found["given"])
        self.assertEqual(found["when"], ["The customer enters a valid password"])
        self.assertEqual(found["then"], ["The customer sees their start page"])

    def test_description(self) -> None:
        """
        A scenario in the description counts, and so does a story written there.
        """
        found = acceptance(
            description="As a nurse I want to see allergies so that I avoid mistakes.\n"
            "Given a patient has an allergy When I open the record Then the allergy is shown"
        )
        self.assertEqual(found["title"], "Nurse can see allergies")
        self.assertEqual(found["when"], ["The nurse opens the record"])
        self.assertEqual(found["then"], ["The allergy is shown"])

    def test_several_actions(self) -> None:
        """
        Each action is a step.
        """
        found = acceptance(asA="user", iWant="export stories and share them")
        self.assertEqual(found["when"], ["The user exports stories", "The user shares them"])

    def test_told(self) -> None:
        """
        For somebody who is told, the step is what happens.
        """
        found = acceptance(asA="manager", iWant="be notified when a story is blocked")
        self.assertEqual(found["when"], ["A story is blocked"])
        self.assertEqual(found["then"][0], "The manager gets one message when a story is blocked")

    def test_without_criteria(self) -> None:
        """
        Without criteria, the outcomes follow from the title.
        """
        found = acceptance(title="CSV export")
        self.assertEqual(found["when"], ["The user exports data as CSV"])
        self.assertIn("The first row of the CSV file names the columns", found["then"])

    def test_idea(self) -> None:
        """
        The idea lends its time limit and its actor.
        """
        found = generate_test(
            {
                "story": {"title": "CSV export"},
                "idea": "Managers can export to CSV within 9 seconds",
            }
        )
        self.assertEqual(found["when"], ["The manager exports data as CSV"])
        self.assertIn("within 9 seconds", " ".join(found["then"]))

    def test_observable(self) -> None:
        """
        Orders, names and vague words are said as something that is seen.
        """
        for said, seen in (
            ("Show an error message when it fails", "An error message is shown when it fails"),
            ("Rows should match the filter", "Rows match the filter"),
            ("Header row", "A header row is seen"),
            ("Verify that the total is right", "The total is right"),
            ("Файл скачивается", "Файл скачивается"),
        ):
            self.assertEqual(observable(said, "export the list", "user"), seen)
        self.assertEqual(
            observable("It is user-friendly", "export the list", "user"),
            "“It is user-friendly” means: a user who has not seen it before can export the list "
            "without help",
        )

    def test_many_criteria(self) -> None:
        """
        No more criteria are taken in than somebody could read.
        """
        found = acceptance(acceptanceCriteria=[f"Row {number} is shown" for number in range(500)])
        self.assertEqual(len(found["then"]), MOST_CRITERIA)

    def test_backslashes(self) -> None:
        """
        An actor is text, also where it looks like a regular expression's group.
        """
        found = acceptance(asA="\\1 tester", acceptanceCriteria=["I am told"])
        self.assertEqual(found["then"], ["The \\1 tester is told"])

    @given(stories, texts)
    def test_contract(self, story: dict[str, Any], idea: str) -> None:
        """
        Any story gives a test that fits the contract, always the same.
        """
        request = {"story": story, "idea": idea}
        found = generate_test(request)
        self.assertEqual(problems("generate-test", found), [])
        self.assertEqual(found, generate_test(request))

    def test_giants(self) -> None:
        """
        A giant story gives a test of a size to read.
        """
        for text in giants():
            found = acceptance(title=text, iWant=text, description=text, acceptanceCriteria=[text])
            self.assertEqual(problems("generate-test", found), [])
            self.assertLess(len(repr(found)), 8000)
