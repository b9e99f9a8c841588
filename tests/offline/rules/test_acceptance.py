"""
Tests for the acceptance test rules.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.offline.rules.acceptance import MAX_CRITERIA, generate_test
from kiroworkers.offline.rules.observable import make_observable
from tests.offline.rules.contract import giants, problems, stories, texts


def acceptance(**story: Any) -> dict[str, Any]:
    """
    Return the acceptance test for `story`.
    """
    return generate_test({"story": {"title": "A story", **story}})


class AcceptanceTests(SynchronousTestCase):
    """
    Tests for `generate_test`.
    """

    def test_example(self) -> None:
        """
        The test starts from the actor's state, performs the wish, and checks each criterion.
        """
        answer = acceptance(
            asA="project manager",
            iWant="export the filtered list to CSV",
            soThat="I can share status within 5 seconds",
            acceptanceCriteria=["CSV has a header row", "Rows match the filter"],
        )
        self.assertEqual(answer["title"], "Project manager can export the filtered list to CSV")
        self.assertIn("A project manager is signed in", answer["given"])
        self.assertEqual(answer["when"], ["The project manager exports the filtered list to CSV"])
        self.assertEqual(
            answer["then"],
            ["CSV has a header row", "Rows match the filter", "All this is seen within 5 seconds"],
        )

    def test_given_when_then(self) -> None:
        """
        A criterion with three steps is sorted into the three lists.
        """
        answer = acceptance(
            asA="customer",
            iWant="to log in",
            acceptanceCriteria=[
                "Given I am on the login page, when I enter a valid password "
                "then I see my start page"
            ],
        )
        self.assertIn("The customer is on the login page", answer["given"])
        self.assertEqual(answer["when"], ["The customer enters a valid password"])
        self.assertEqual(answer["then"], ["The customer sees their start page"])

    def test_description(self) -> None:
        """
        The description may contain a scenario, and the story itself.
        """
        answer = acceptance(
            description="As a nurse I want to see allergies so that I avoid mistakes.\n"
            "Given a patient has an allergy When I open the record Then the allergy is shown"
        )
        self.assertEqual(answer["title"], "Nurse can see allergies")
        self.assertEqual(answer["when"], ["The nurse opens the record"])
        self.assertEqual(answer["then"], ["The allergy is shown"])

    def test_several_actions(self) -> None:
        """
        Each action is a step.
        """
        answer = acceptance(asA="user", iWant="export stories and share them")
        self.assertEqual(answer["when"], ["The user exports stories", "The user shares them"])

    def test_notification(self) -> None:
        """
        The step of a notification is the event that triggers it.
        """
        answer = acceptance(asA="manager", iWant="be notified when a story is blocked")
        self.assertEqual(answer["when"], ["A story is blocked"])
        self.assertEqual(answer["then"][0], "The manager gets one message when a story is blocked")

    def test_without_criteria(self) -> None:
        """
        Without criteria, the outcomes follow from the title.
        """
        answer = acceptance(title="CSV export")
        self.assertEqual(answer["when"], ["The user exports data as CSV"])
        self.assertIn("The first row of the CSV file names the columns", answer["then"])

    def test_idea(self) -> None:
        """
        The idea supplies its time limit and its actor.
        """
        answer = generate_test(
            {
                "story": {"title": "CSV export"},
                "idea": "Managers can export to CSV within 9 seconds",
            }
        )
        self.assertEqual(answer["when"], ["The manager exports data as CSV"])
        self.assertIn("within 9 seconds", " ".join(answer["then"]))

    def test_observable(self) -> None:
        """
        Orders, names and vague words are rephrased as something observable.
        """
        for criterion, fact in (
            ("Show an error message when it fails", "An error message is shown when it fails"),
            ("Rows should match the filter", "Rows match the filter"),
            ("Header row", "A header row is seen"),
            ("Verify that the total is right", "The total is right"),
            ("Файл скачивается", "Файл скачивается"),
        ):
            self.assertEqual(make_observable(criterion, "export the list", "user"), fact)
        self.assertEqual(
            make_observable("It is user-friendly", "export the list", "user"),
            "“It is user-friendly” means: a user who has not seen it before can export the list "
            "without help",
        )

    def test_many_criteria(self) -> None:
        """
        The number of criteria in an answer is limited.
        """
        answer = acceptance(acceptanceCriteria=[f"Row {number} is shown" for number in range(500)])
        self.assertEqual(len(answer["then"]), MAX_CRITERIA)

    def test_backslashes(self) -> None:
        """
        An actor's backslashes are text and not references to groups.
        """
        answer = acceptance(asA="\\1 tester", acceptanceCriteria=["I am told"])
        self.assertEqual(answer["then"], ["The \\1 tester is told"])

    @given(stories, texts)
    def test_contract(self, story: dict[str, Any], idea: str) -> None:
        """
        Any story gets a test that fits the schema, and always the same one.
        """
        request = {"story": story, "idea": idea}
        answer = generate_test(request)
        self.assertEqual(problems("generate-test", answer), [])
        self.assertEqual(answer, generate_test(request))

    def test_giants(self) -> None:
        """
        The test of a very large story is short enough to read.
        """
        for text in giants():
            answer = acceptance(title=text, iWant=text, description=text, acceptanceCriteria=[text])
            self.assertEqual(problems("generate-test", answer), [])
            self.assertLess(len(repr(answer)), 8000)
