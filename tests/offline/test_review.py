"""
Tests for `kiroworkers.offline.review`.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.offline.review import analyze_invest
from kiroworkers.offline.story import generate_story
from tests.offline.contract import giants, problems, stories

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


class ReviewTests(SynchronousTestCase):
    """
    Tests for `analyze_invest`.
    """

    def test_good(self) -> None:
        """
        A story without a finding gets the full score.
        """
        answer = review()
        self.assertEqual((answer["warnings"], answer["score"]), ([], 100))

    def test_findings(self) -> None:
        """
        Each finding quotes what the rule found, and lowers the score.
        """
        for criterion, quoted, changes in [
            ("independent", "depends on PROJ-12", {"description": "It depends on PROJ-12."}),
            ("independent", "after story #7", {"description": "Only after story #7."}),
            ("negotiable", "implemented in COBOL", {"description": "It is implemented in COBOL."}),
            ("valuable", "empty", {"soThat": ""}),
            ("valuable", "(benefit not stated)", {"soThat": "(benefit not stated)"}),
            ("valuable", GOOD["iWant"], {"soThat": GOOD["iWant"].upper()}),
            ("estimable", "etc", {"description": "CSV, PDF etc."}),
            ("small", "8 story points", {"storyPoint": 8}),
            ("small", "a and b and c", {"iWant": "a and b and c"}),
            ("small", "9 acceptance", {"acceptanceCriteria": [f"row {n}" for n in range(9)]}),
            ("testable", "no acceptance", {"acceptanceCriteria": []}),
            ("testable", "has no limit: “fast”", {"acceptanceCriteria": ["The export is fast"]}),
            ("testable", "states no condition",
             {"acceptanceCriteria": ["This works as described: CSV"]}),
        ]:  # fmt: skip
            answer = review(**changes)
            (warning,) = answer["warnings"]
            self.assertEqual(warning["criterion"], criterion)
            self.assertIn(quoted.lower(), warning["message"].lower())
            self.assertLess(answer["score"], 100)

    def test_no_findings(self) -> None:
        """
        Text that only resembles a problem is no finding.
        """
        fine: list[dict[str, Any]] = [
            {"description": "The price depends on the quantity."},
            {"description": "Fetch it. Is it new?"},
            {"acceptanceCriteria": ["It is fast: within 2 seconds"]},
            {"iWant": "search and replace"},
            {"storyPoint": 5},
        ]
        for changes in fine:
            self.assertEqual(review(**changes)["warnings"], [], changes)

    def test_unreadable(self) -> None:
        """
        Text that cannot be read as English gets no score, and the summary says so.
        """
        for title in ("asdf", "Экспорт отчётов", "在庫の一覧", "Passwort zurücksetzen"):
            for story in ({"title": title}, generate_story({"idea": title})):
                answer = analyze_invest({"story": story})
                self.assertNotIn("score", answer)
                self.assertIn("could not be read", answer["summary"])
                self.assertEqual(
                    {warning["criterion"] for warning in answer["warnings"]},
                    {"valuable", "testable"},
                )

    def test_own_stories(self) -> None:
        """
        The review treats the placeholders of a generated story as missing parts.
        """
        for idea, missing in [
            ("Add a label to the form", {"valuable", "testable"}),
            ("Users must be able to undo a step within 5 seconds", {"valuable"}),
            ("As a nurse, I want to scan so that nobody is harmed.\n- within 2 seconds", set()),
        ]:
            answer = analyze_invest({"story": generate_story({"idea": idea})})
            found = {warning["criterion"] for warning in answer["warnings"]}
            self.assertEqual(found, missing, idea)

    @given(stories)
    def test_contract(self, story: dict[str, Any]) -> None:
        """
        Any story gets a review that fits the schema, with one warning a criterion at most.
        """
        answer = analyze_invest({"story": story})
        self.assertEqual(problems("analyze-invest", answer), [])
        named = [warning["criterion"] for warning in answer["warnings"]]
        self.assertEqual(len(named), len(set(named)))

    def test_giants(self) -> None:
        """
        The review of a very large story is short enough to read.
        """
        for text in giants():
            story = {"title": text, "asA": text, "iWant": text, "soThat": text, "description": text}
            answer = analyze_invest({"story": {**story, "acceptanceCriteria": [text, text]}})
            self.assertEqual(problems("analyze-invest", answer), [])
            self.assertLess(len(repr(answer)), 8000)
