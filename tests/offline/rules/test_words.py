"""
Tests for the modules that read English: words, verbs, people, actions and ideas.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.offline.rules import verbs
from kiroworkers.offline.rules.action import read_action, split_actions
from kiroworkers.offline.rules.facts import indicative
from kiroworkers.offline.rules.idea import read_idea
from kiroworkers.offline.rules.people import as_actor, in_third_person, is_person
from kiroworkers.offline.rules.vague import vague_words
from kiroworkers.offline.rules.words import (
    is_plural,
    plural,
    quote,
    sentences,
    shorten,
    singular,
    stem,
    tidy,
    uncapitalised,
    with_article,
)


class WordsTests(SynchronousTestCase):
    """
    Tests for `kiroworkers.offline.rules.words`.
    """

    def test_tidy(self) -> None:
        """
        Control characters, escapes and lone surrogates become single spaces.
        """
        self.assertEqual(tidy(" Export\x1b\x07 to\r\n\ud800 CSV "), "Export to CSV")

    def test_emoji(self) -> None:
        """
        A joined emoji stays in one piece.
        """
        self.assertEqual(tidy("\U0001f468\u200d\U0001f4bb"), "\U0001f468\u200d\U0001f4bb")

    def test_sentences(self) -> None:
        """
        Sentences, lines and list items are separated; abbreviations end no sentence.
        """
        text = "Export, e.g. CSV files. It has a header!\n- Rows match\n2) It is quick"
        self.assertEqual(
            sentences(text),
            ["Export, e.g. CSV files", "It has a header", "Rows match", "It is quick"],
        )

    def test_story_on_three_lines(self) -> None:
        """
        Lines that begin with "I want" and "so that" belong to the line before.
        """
        self.assertEqual(
            sentences("As a cook,\nI want a timer\nso that nothing burns"),
            ["As a cook I want a timer so that nothing burns"],
        )

    def test_shorten(self) -> None:
        """
        A long text is cut at a word, a very long word anywhere.
        """
        self.assertEqual(shorten("export the whole list", 14), "export the…")
        self.assertEqual(shorten("a" * 100, 10), "a" * 9 + "…")

    @given(st.text(), st.integers(10, 100))
    def test_shorten_any(self, text: str, limit: int) -> None:
        """
        No text is longer than the limit after it was shortened.
        """
        self.assertLessEqual(len(shorten(text, limit)), limit)
        self.assertLessEqual(len(quote(text, limit)), limit + 2)

    def test_articles(self) -> None:
        """
        The article follows the sound, and a plural has none.
        """
        nouns = ("invoice", "user", "hour", "HR manager", "UI", "CSV file", "stories", "my list")
        self.assertEqual(
            [with_article(noun) for noun in nouns],
            ["an invoice", "a user", "an hour", "an HR manager", "a UI", "a CSV file", "stories",
             "my list"],
        )  # fmt: skip

    def test_number(self) -> None:
        """
        Singular and plural are inverse to each other.
        """
        for one, many in (("story", "stories"), ("box", "boxes"), ("class", "classes"),
                          ("person", "people"), ("sales order", "sales orders")):  # fmt: skip
            self.assertEqual((plural(one), singular(many)), (many, one))

    def test_is_plural(self) -> None:
        """
        The head of a phrase decides its number.
        """
        self.assertTrue(is_plural("stories of the week"))
        self.assertTrue(is_plural("name and email"))
        self.assertFalse(is_plural("the list of stories"))
        self.assertFalse(is_plural("status"))

    def test_stem(self) -> None:
        """
        All forms of a word have the same stem.
        """
        self.assertEqual(
            len({stem(word) for word in ("filter", "filters", "filtered", "filtering")}), 1
        )
        self.assertEqual(stem("stories"), stem("story"))

    def test_uncapitalised(self) -> None:
        """
        Names and abbreviations keep their capitals inside a sentence.
        """
        self.assertEqual(
            [
                uncapitalised(phrase)
                for phrase in ("Export it", "CSV export", "I can", "Slack messages")
            ],
            ["export it", "CSV export", "I can", "Slack messages"],
        )


class VerbTests(SynchronousTestCase):
    """
    Tests for `kiroworkers.offline.rules.verbs`.
    """

    def test_forms(self) -> None:
        """
        Regular, irregular and two-word verbs are inflected correctly.
        """
        forms = [
            (verbs.third_person(verb), verbs.participle(verb), verbs.gerund(verb))
            for verb in ("export", "notify", "search", "send", "log in", "drag")
        ]
        self.assertEqual(
            forms,
            [
                ("exports", "exported", "exporting"),
                ("notifies", "notified", "notifying"),
                ("searches", "searched", "searching"),
                ("sends", "sent", "sending"),
                ("logs in", "logged in", "logging in"),
                ("drags", "dragged", "dragging"),
            ],
        )


class FactTests(SynchronousTestCase):
    """
    Tests for `kiroworkers.offline.rules.facts`.
    """

    def test_indicative(self) -> None:
        """
        A requirement becomes a fact whose verb agrees with its subject.
        """
        for sentence, fact in (
            ("Rows must match the filter", "Rows match the filter"),
            ("The file should be empty", "The file is empty"),
            ("The form shall not send twice", "The form does not send twice"),
            ("Users should be able to undo", "Users can undo"),
            ("When it fails, an error should be shown", "When it fails, an error is shown"),
            ("The list has entries", "The list has entries"),
        ):
            self.assertEqual(indicative(sentence), fact)


class PeopleTests(SynchronousTestCase):
    """
    Tests for `kiroworkers.offline.rules.people`.
    """

    def test_people_and_things(self) -> None:
        """
        A noun in -er is not always a person.
        """
        for phrase in ("project managers", "receptionists", "Gardeners", "users with a phone"):
            self.assertTrue(is_person(phrase), phrase)
        for phrase in ("the server", "orders", "search results", "the filter", "a wishlist"):
            self.assertFalse(is_person(phrase), phrase)

    def test_as_actor(self) -> None:
        """
        An actor is one person, without an article.
        """
        self.assertEqual(
            [
                as_actor(phrase)
                for phrase in ("All project managers", "users with a phone", "the sales team")
            ],
            ["project manager", "user with a phone", "sales team member"],
        )

    def test_in_third_person(self) -> None:
        """
        Pronouns and verbs in the first person change to the third.
        """
        self.assertEqual(
            in_third_person("see my list when I am away"), "see their list when they are away"
        )


class ActionTests(SynchronousTestCase):
    """
    Tests for `kiroworkers.offline.rules.action`.
    """

    def test_object(self) -> None:
        """
        The object ends before a place, a manner or a condition.
        """
        for phrase, verb, thing in (
            ("export the filtered list to CSV", "export", "the filtered list"),
            ("search for old stories", "search", "old stories"),
            ("upload up to 10 files of 20 MB each", "upload", "files"),
            ("see which rooms are free", "see", "which rooms are free"),
            ("sort by due date", "sort", ""),
        ):
            action = read_action(phrase)
            self.assertEqual((action.verb, action.object), (verb, thing))

    def test_features(self) -> None:
        """
        The name of a feature becomes the action that it stands for.
        """
        for phrase, action_text in (
            ("CSV export", "export data as CSV"),
            ("Invoice export", "export invoices"),
            ("Bulk upload of invoices", "upload invoices in bulk"),
            ("User management", "manage users"),
            ("Order history", "see order history"),
            ("Dark mode", "use dark mode"),
            ("Filtering stories by status", "filter stories by status"),
        ):
            self.assertEqual(read_action(phrase).text, action_text)

    def test_several(self) -> None:
        """
        "And" between verbs separates actions.
        """
        self.assertEqual(
            [
                action.text
                for action in split_actions("export stories and import them, then share them")
            ],
            ["export stories", "import them", "share them"],
        )
        self.assertEqual(
            [
                (action.verb, action.object)
                for action in split_actions("create, edit and delete users")
            ],
            [("create", "users"), ("edit", "users"), ("delete", "users")],
        )

    def test_one(self) -> None:
        """
        "And" between nouns, in a pair of verbs, or in a condition separates nothing.
        """
        for phrase in (
            "enter my name and email",
            "export the status and report numbers",
            "drag and drop stories",
            "be told when users create and delete stories",
            "see who changed a story and when",
        ):
            self.assertEqual(len(split_actions(phrase)), 1, phrase)


class IdeaTests(SynchronousTestCase):
    """
    Tests for `read_idea`.
    """

    def test_forms(self) -> None:
        """
        Actor, action and benefit are found in the usual forms of an idea.
        """
        for text, actor, wish, benefit in (
            ("As a tester, I want to rerun failed tests so that I save time",
             "tester", "rerun failed tests", "I save time"),
            ("Users should be able to reset their password", "user", "reset my password", ""),
            ("Let managers approve timesheets", "manager", "approve timesheets", ""),
            ("In order to avoid double bookings, receptionists must see which rooms are free",
             "receptionist", "see which rooms are free", "I can avoid double bookings"),
            ("Notify managers when a story is blocked",
             "manager", "be notified when a story is blocked", ""),
            ("CSV export for project managers", "project manager", "export data as CSV", ""),
            ("Could we please have a dashboard? It would help us plan.",
             "", "see a dashboard", "I can plan"),
            ("I can't find old stories", "", "find old stories", ""),
            ("It should be possible for admins to undo the last change",
             "admin", "undo the last change", ""),
            ("Give reviewers a way to leave comments on a document",
             "reviewer", "leave comments on a document", ""),
            ("Search results should be sorted by date", "",
             "have search results sorted by date", ""),
            ("Add the ability to delete comments", "", "delete comments", ""),
            ("We want to reduce costs", "", "reduce costs", ""),
            ("When a build fails, send an email to the team",
             "", "send an email to the team when a build fails", ""),
        ):  # fmt: skip
            idea = read_idea(text)
            self.assertEqual((idea.actor, idea.wish, idea.benefit), (actor, wish, benefit), text)

    def test_reason(self) -> None:
        """
        A problem as the reason becomes its absence, another need its fulfilment.
        """
        self.assertEqual(
            read_idea("Add search because scrolling is slow").benefit,
            "it no longer matters that scrolling is slow",
        )
        self.assertEqual(
            read_idea("Export invoices because auditors ask for them").benefit,
            "this need is met: auditors ask for them",
        )

    def test_not_english(self) -> None:
        """
        A text that is not English is quoted unchanged.
        """
        idea = read_idea("Экспорт отчётов в PDF")
        self.assertEqual(idea.wish, "have “Экспорт отчётов в PDF”")
        self.assertFalse(idea.understood)

    def test_only(self) -> None:
        """
        "Only" excludes everybody else.
        """
        self.assertTrue(read_idea("Only admins can delete projects").only)


class VagueTests(SynchronousTestCase):
    """
    Tests for `vague_words`.
    """

    def test_vague(self) -> None:
        """
        Vague words are found in the order of the text.
        """
        terms = [word for word, _ in vague_words("A user-friendly list of various things, etc.")]
        self.assertEqual(terms[:2], ["user-friendly", "various"])

    def test_exact(self) -> None:
        """
        A figure, a quotation and the name of a feature are not vague.
        """
        for text in (
            "It is fast: within 2 seconds",
            "The button says “Make it better”",
            "Open the quick search",
            "The question has to be confirmed",
        ):
            self.assertEqual(list(vague_words(text)), [], text)
