"""
Tests for the INVEST rules.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.offline.rules.invest import RULES, WEIGHTS, analyze_invest
from kiroworkers.offline.rules.story import generate_story
from tests.offline.rules.contract import giants, problems, stories

GOOD: dict[str, Any] = {
    "title": "Export filtered stories to CSV",
    "asA": "project manager",
    "iWant": "export the filtered list to CSV",
    "soThat": "I can share status within 5 seconds",
    "acceptanceCriteria": ["CSV has a header row", "Rows match the filter"],
    "storyPoint": 3,
}


def review(**changes: Any) -> dict[str, Any]:
    """
    Return the review of a good story with `changes`.
    """
    return analyze_invest({"story": {**GOOD, **changes}})


def criteria(**changes: Any) -> list[str]:
    """
    Return the criteria with warnings for a good story with `changes`.
    """
    return [warning["criterion"] for warning in review(**changes)["warnings"]]


class ReviewTests(SynchronousTestCase):
    """
    Tests for `analyze_invest`.
    """

    def test_good(self) -> None:
        """
        A good story gets no warning, the full score, and its strengths.
        """
        answer = review()
        self.assertEqual((answer["warnings"], answer["score"]), ([], 100))
        self.assertIn("Valuable: it says why it is wanted, “I can share status within 5 seconds”",
                      answer["strengths"])  # fmt: skip

    def test_bad(self) -> None:
        """
        The warnings for a bad story quote its problematic words.
        """
        answer = analyze_invest({"story": {
            "title": "Make export better", "asA": "user", "storyPoint": 8,
            "iWant": "export stories and import them and share them",
            "acceptanceCriteria": ["It is fast"],
        }})  # fmt: skip
        self.assertEqual({warning["criterion"] for warning in answer["warnings"]},
                         {"valuable", "estimable", "small", "testable"})  # fmt: skip
        messages = " ".join(warning["message"] for warning in answer["warnings"])
        for phrase in ("“better”", "“import them”", "“It is fast”", "8 story points"):
            self.assertIn(phrase, messages)
        self.assertLess(answer["score"], 60)

    def test_weights(self) -> None:
        """
        The weights of the six criteria add up to 100.
        """
        self.assertEqual(sum(WEIGHTS.values()), 100)
        self.assertEqual(set(WEIGHTS), set(RULES))

    def test_whole_story_in_title(self) -> None:
        """
        A title that contains a whole story supplies its parts.
        """
        answer = analyze_invest({"story": {
            "title": "As a manager I want to approve timesheets "
                     "so that everybody is paid on Friday",
            "acceptanceCriteria": ["The approved timesheet shows my name"],
        }})  # fmt: skip
        self.assertEqual(answer["warnings"], [])

    def test_other_language(self) -> None:
        """
        The review of a text that is not English says that only its form was reviewed.
        """
        answer = analyze_invest({"story": {"title": "Экспорт отчётов"}})
        self.assertIn("does not look English", answer["summary"])

    def test_own_stories(self) -> None:
        """
        The stories of ``generate-story`` pass the review.
        """
        for idea in (
            "CSV export", "Notify managers when a story is blocked",
            "Only admins can delete projects",
            "Filter stories by status and owner", "Search results should be sorted by date",
            "Users can reset their password by email", "The login page is too slow",
        ):  # fmt: skip
            self.assertEqual(
                analyze_invest({"story": generate_story({"idea": idea})})["warnings"], []
            )

    @given(stories)
    def test_contract(self, story: dict[str, Any]) -> None:
        """
        Any story gets a review that fits the schema, and always the same one.
        """
        answer = analyze_invest({"story": story})
        self.assertEqual(problems("analyze-invest", answer), [])
        self.assertEqual(answer, analyze_invest({"story": story}))
        criteria_named = [warning["criterion"] for warning in answer["warnings"]]
        self.assertLessEqual(max(map(criteria_named.count, criteria_named), default=0), 2)

    def test_giants(self) -> None:
        """
        The review of a very large story is short enough to read.
        """
        for text in giants():
            story = {"title": text, "asA": text, "iWant": text, "soThat": text, "description": text}
            answer = analyze_invest({"story": {**story, "acceptanceCriteria": [text, text]}})
            self.assertEqual(problems("analyze-invest", answer), [])
            self.assertLess(len(repr(answer)), 8000)


class RuleTests(SynchronousTestCase):
    """
    Each rule finds its problem, and ignores text that only resembles it.
    """

    def assert_finding(self, criterion: str, **changes: Any) -> None:
        """
        Fail unless exactly this criterion has warnings.
        """
        self.assertEqual(set(criteria(**changes)), {criterion}, changes)

    def assert_fine(self, **changes: Any) -> None:
        """
        Fail if there is a warning.
        """
        self.assertEqual(review(**changes)["warnings"], [], changes)

    def test_independent(self) -> None:
        """
        Waiting for other work is a finding.
        """
        for text in ("Depends on PROJ-12.", "This is blocked by the login story.", "See story #12.",
                     "Can start after the new API is deployed.",
                     "It requires ticket 45."):  # fmt: skip
            self.assert_finding("independent", description=text)

    def test_independent_fine(self) -> None:
        """
        Dependence within the subject matter, and names with numbers, are no findings.
        """
        for text in ("The price depends on the quantity.",
                     "Files are in UTF-8 and dates in ISO-8601.",
                     "A mail is sent after the order is completed.",
                     "Stories that are blocked by others are left out.",
                     "It requires a password."):  # fmt: skip
            self.assert_fine(description=text)

    def test_negotiable(self) -> None:
        """
        Technologies, tables, pixels and colours are findings.
        """
        for wish in ("export the list to CSV using React",
                     "see the list from the table user_stories",
                     "see the list in a column of 200px", "export the list with a green button",
                     "choose the format in a dropdown"):  # fmt: skip
            self.assert_finding("negotiable", iWant=wish)

    def test_negotiable_fine(self) -> None:
        """
        A technical subject is no finding.
        """
        for wish in ("export the list as JSON", "log in with GitHub", "follow a course about Java",
                     "see the red flag of late stories"):  # fmt: skip
            self.assert_fine(iWant=wish)

    def test_valuable(self) -> None:
        """
        A missing or empty benefit, and one that repeats the action, are findings.
        """
        for benefit in ("", "N/A", "it works", "I can export the filtered list to CSV"):
            self.assert_finding("valuable", soThat=benefit)

    def test_builders(self) -> None:
        """
        A task for developers only, and a system as the actor, are findings.
        """
        self.assert_finding("valuable", iWant="refactor the export module")
        self.assert_finding("valuable", asA="system")
        self.assert_finding("valuable", asA="developer", soThat="the code stays maintainable")

    def test_builders_fine(self) -> None:
        """
        A developer may be a user.
        """
        self.assert_fine(asA="developer", iWant="get an access token for the interface",
                         soThat="I can try a request within an hour")  # fmt: skip

    def test_estimable(self) -> None:
        """
        Vague words, open questions and missing parts are findings.
        """
        self.assert_finding("estimable", iWant="export various lists to CSV, etc.")
        self.assert_finding("estimable", description="Which columns do we need?")
        self.assert_finding("estimable", asA="")

    def test_estimable_fine(self) -> None:
        """
        A figure, the name of a feature and a quoted question are no findings.
        """
        self.assert_fine(iWant="load the list fast, in less than 2 seconds")
        self.assert_fine(iWant="open a story from the quick search")
        self.assert_fine(description="Before deleting, “Are you sure?” is asked.")

    def test_small(self) -> None:
        """
        Several actions, the whole product and many points are findings.
        """
        self.assert_finding("small", iWant="export the list to CSV and invite a colleague")
        self.assert_finding("small", iWant="create, edit and delete users")
        self.assert_finding("small", iWant="export all reports to CSV")
        self.assert_finding("small", iWant="manage users")
        self.assert_finding("small", storyPoint=13)
        self.assert_finding("small", acceptanceCriteria=[f"Column {n} is shown" for n in range(9)])

    def test_small_fine(self) -> None:
        """
        Several nouns, a pair of verbs, or a shared object are one action.
        """
        for wish in ("enter my name and email", "drag and drop stories between columns",
                     "filter and sort the stories", "open a story and see its history",
                     "see all my stories"):  # fmt: skip
            self.assert_fine(iWant=wish)

    def test_testable(self) -> None:
        """
        Missing criteria, opinions, unlimited promises and repetitions are findings.
        """
        for value in ([], ["It works well"], ["Users are happy"], ["The export never crashes"],
                     ["Export the filtered list to CSV"], ["The code is clean"]):  # fmt: skip
            self.assert_finding("testable", acceptanceCriteria=value)

    def test_testable_fine(self) -> None:
        """
        An observable negative, and a measured one, are no findings.
        """
        for value in ("No email is sent for archived stories", "No error message is shown",
                     "No errors in 1000 requests", "The list does not show deleted stories",
                     "The file is complete within 5 seconds"):  # fmt: skip
            self.assert_fine(acceptanceCriteria=[value])
