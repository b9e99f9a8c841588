"""
Tests for the story rules.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.offline.rules.story import generate_story
from tests.offline.rules.contract import giants, problems, texts, titles

_COMPONENTS = [
    "WorkModel", "Document_Intelligence", "Review_Governance", "Orchestration_Engagement",
    "Run_Verify", "Traceability_Insight",
]  # fmt: skip
_ANYTHING = st.none() | st.booleans() | st.integers() | texts | st.lists(texts, max_size=3)


def story_of(idea: str, **more: Any) -> dict[str, Any]:
    """
    Return the story for `idea`.
    """
    return generate_story({"idea": idea, **more})


class StoryTests(SynchronousTestCase):
    """
    Tests for `generate_story`.
    """

    def test_export(self) -> None:
        """
        An idea's format, filter and time limit become criteria of their own.
        """
        story = story_of(
            "Export the filtered story list to CSV so that I can share status within 5 seconds",
            components=_COMPONENTS,
        )
        self.assertEqual(story["title"], "Export the filtered story list to CSV")
        self.assertEqual(story["iWant"], "export the filtered story list to CSV")
        self.assertEqual(story["soThat"], "I can share status within 5 seconds")
        self.assertIn("WorkModel", story["components"])
        criteria = " | ".join(story["acceptanceCriteria"])
        for word in ("names the columns", "matches the filter", "within 5 seconds"):
            self.assertIn(word, criteria)

    def test_keys(self) -> None:
        """
        Each key of "by status and owner" gets a criterion.
        """
        criteria = story_of("Filter stories by status and owner")["acceptanceCriteria"]
        self.assertIn("Choosing a status shows only the stories with that status", criteria)
        self.assertIn("Choosing an owner shows only the stories with that owner", criteria)

    def test_limits(self) -> None:
        """
        A limit gets a criterion for what it allows and for what it refuses.
        """
        criteria = story_of("Allow users to upload up to 10 files of 20 MB each")[
            "acceptanceCriteria"
        ]
        self.assertIn("10 files are accepted; more is refused with a message", criteria)
        self.assertIn(
            "A size of 20 MB is accepted; a larger one is refused with a message", criteria
        )

    def test_condition(self) -> None:
        """
        A condition becomes the event that triggers a message.
        """
        criteria = story_of("Notify managers when a story is blocked")["acceptanceCriteria"]
        self.assertEqual(criteria[0], "The manager gets one message when a story is blocked")

    def test_notify_me(self) -> None:
        """
        "Notify me" is a wish to be notified.
        """
        self.assertEqual(
            story_of("notify me when a build fails")["iWant"], "be notified when a build fails"
        )

    def test_trouble(self) -> None:
        """
        A complaint is a wish to have the problem fixed.
        """
        story = story_of("We lose orders because nobody sees the emails")
        self.assertEqual(story["title"], "Fix: we lose orders")
        self.assertEqual(story["acceptanceCriteria"][0], "It no longer happens that we lose orders")

    def test_only(self) -> None:
        """
        An action for some users only is refused to all others.
        """
        criteria = story_of("Only admins can delete projects")["acceptanceCriteria"]
        self.assertIn("Anybody who is not an admin is refused with a message", criteria)

    def test_remarks(self) -> None:
        """
        Further sentences that state a fact become criteria.
        """
        criteria = story_of("Export stories.\n- The file has a header row")["acceptanceCriteria"]
        self.assertIn("The file has a header row", criteria)

    def test_parent(self) -> None:
        """
        The parent story supplies the actor and benefit that the idea leaves open.
        """
        parent = {"title": "As a tester, I want to see results so that releases are safe"}
        story = story_of("CSV export", parentStory=parent)
        self.assertEqual((story["asA"], story["soThat"]), ("tester", "releases are safe"))
        story = story_of("CSV export", parentStory={"title": "Better reporting", "asA": 7})
        self.assertIn("“Better reporting”", story["soThat"])

    def test_own_words_first(self) -> None:
        """
        The idea's own actor and benefit take precedence over the parent's.
        """
        parent = {"title": "Reports", "asA": "tester", "soThat": "releases are safe"}
        story = story_of("Let managers export reports so that they can plan", parentStory=parent)
        self.assertEqual((story["asA"], story["soThat"]), ("manager", "I can plan"))

    def test_sizes(self) -> None:
        """
        A label is a smaller story than an export, and an export than a migration.
        """
        sizes = [
            story_of(idea)["storyPoint"]
            for idea in ("Rename the Save button", "CSV export",
                         "Migrate all customer data to the new encrypted database")
        ]  # fmt: skip
        self.assertEqual(sizes, sorted(set(sizes)))
        self.assertEqual((sizes[0], sizes[-1]), (1, 8))

    def test_components(self) -> None:
        """
        Components are chosen by their words and by related words, spelt as given.
        """
        self.assertEqual(
            story_of("Add a comment to a story", components=_COMPONENTS)["components"],
            ["WorkModel", "Review_Governance"],
        )
        self.assertEqual(
            story_of("Users can reset their password", components=["billing-core", "AuthService"])[
                "components"
            ],
            ["AuthService"],
        )

    def test_no_components(self) -> None:
        """
        Without a list of components, none are chosen.
        """
        self.assertEqual(story_of("Add a comment to a story")["components"], [])

    def test_different(self) -> None:
        """
        Different ideas give different stories.
        """
        ideas = ("CSV export", "PDF export", "Dark mode", "Search", "Undo", "Log in with Google",
                 "Delete a story", "Delete a comment", "🚀", "Экспорт", "asdf", "qwer")  # fmt: skip
        answers = {repr(story_of(idea)) for idea in ideas}
        self.assertEqual(len(answers), len(ideas))

    def test_not_english(self) -> None:
        """
        An idea in another language keeps its own words.
        """
        story = story_of("Exporter les histoires en CSV")
        self.assertEqual(story["title"], "Exporter les histoires en CSV")
        self.assertIn("“Exporter les histoires en CSV”", story["iWant"])

    @given(
        titles, st.lists(titles, max_size=5), st.dictionaries(texts, _ANYTHING, max_size=3), titles
    )
    def test_contract(
        self, idea: str, names: list[str], extra: dict[str, Any], parent: str
    ) -> None:
        """
        Any idea gets a story that fits the schema, and always the same one.
        """
        request = {
            **extra, "idea": idea, "components": names, "parentStory": {**extra, "title": parent},
        }  # fmt: skip
        story = generate_story(request)
        self.assertEqual(problems("generate-story", story), [])
        self.assertLessEqual(len(story["title"]), 82)
        self.assertLessEqual(set(story["components"]), set(names))
        self.assertIn(story["storyPoint"], (1, 2, 3, 5, 8))
        self.assertEqual(story, generate_story(request))

    def test_giants(self) -> None:
        """
        The story of a very large idea is short enough to read.
        """
        for idea in giants():
            story = story_of(idea, parentStory={"title": idea})
            self.assertEqual(problems("generate-story", story), [])
            self.assertLess(len(repr(story)), 6000)
