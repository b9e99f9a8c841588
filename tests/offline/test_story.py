"""
Tests for `kiroworkers.offline.story`.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.offline.story import NO_ACTOR, NO_BENEFIT, generate_story, own_words
from tests.offline.contract import giants, problems, texts, titles


def story_of(idea: str, **more: Any) -> dict[str, Any]:
    """
    Return the story for `idea`.
    """
    return generate_story({"idea": idea, **more})


class StoryTests(SynchronousTestCase):
    """
    Tests for `generate_story`.
    """

    def test_stated(self) -> None:
        """
        A story that is stated in full is only taken apart.
        """
        self.assertEqual(
            story_of("As a nurse, I want to scan a wristband so that nobody is harmed."),
            {
                "title": "Scan a wristband",
                "asA": "nurse",
                "iWant": "scan a wristband",
                "soThat": "nobody is harmed",
                "storyPoint": 1,
                "components": [],
                "acceptanceCriteria": ["This works as described: scan a wristband"],
            },
        )

    def test_not_stated(self) -> None:
        """
        A story marks the parts that its idea does not state, and keeps the words of the idea.
        """
        for idea in ("CSV export", "Passwort zurücksetzen", "在庫の一覧", "🚀 Экспорт"):
            story = story_of(idea)
            self.assertEqual((story["title"], story["asA"]), (idea, NO_ACTOR))
            self.assertEqual((story["iWant"], story["soThat"]), (f"have this: {idea}", NO_BENEFIT))
            self.assertEqual(own_words(story["acceptanceCriteria"][0]), idea)

    def test_conditions(self) -> None:
        """
        Bullets, and sentences with a condition or a number, are criteria in their own words.
        """
        story = story_of(
            "Show all invoices. They are kept elsewhere. It must work on a phone. "
            "They go back 10 years.\n\n- newest first\n- as PDF"
        )
        self.assertEqual(
            story["acceptanceCriteria"],
            ["It must work on a phone.", "They go back 10 years.", "newest first", "as PDF"],
        )
        self.assertEqual(story["storyPoint"], 5)
        self.assertEqual(story["iWant"], "show all invoices")

    def test_many_conditions(self) -> None:
        """
        Of very many conditions, the last are counted instead of listed.
        """
        criteria = story_of("\n".join(f"- item {n}" for n in range(100)))["acceptanceCriteria"]
        self.assertEqual(len(criteria), 30)
        self.assertEqual(criteria[-1], "The other 71 conditions of the idea are met")

    def test_parent(self) -> None:
        """
        The parent story supplies the actor and benefit that the idea leaves open.
        """
        parent = {"title": "As a tester, I want to see results so that releases are safe"}
        story = story_of("CSV export", parentStory=parent)
        self.assertEqual((story["asA"], story["soThat"]), ("tester", "releases are safe"))
        parent = {"title": "Reports", "asA": "tester", "soThat": "releases are safe"}
        story = story_of("Let managers plan so that work is fair", parentStory=parent)
        self.assertEqual((story["asA"], story["soThat"]), ("manager", "work is fair"))

    def test_components(self) -> None:
        """
        Components are chosen by the words of their names, and spelled as given.
        """
        names = ["WorkModel", "Invoice_Service", "billing-core", "SSO"]
        self.assertEqual(
            story_of("Show invoices after the SSO login", components=names)["components"],
            ["Invoice_Service", "SSO"],
        )
        self.assertEqual(story_of("Show invoices")["components"], [])

    @given(titles, st.lists(titles, max_size=5), texts, titles)
    def test_contract(self, idea: str, names: list[str], other: str, parent: str) -> None:
        """
        Any idea gets a story that fits the schema, and always the same one.
        """
        request = {
            "idea": idea, "components": names, "parentStory": {"title": parent, "asA": other},
        }  # fmt: skip
        story = generate_story(request)
        self.assertEqual(problems("generate-story", story), [])
        self.assertLessEqual(set(story["components"]), set(names))
        self.assertEqual(story, generate_story(request))

    def test_giants(self) -> None:
        """
        The story of a very large idea is short enough to read.
        """
        for idea in giants():
            story = story_of(idea, parentStory={"title": idea})
            self.assertEqual(problems("generate-story", story), [])
            self.assertLess(len(repr(story)), 20_000)
