"""
Tests for `kiroworkers.tasks.task` and the built-in tasks.
"""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.errors import AnswerUnfit, BadInput
from kiroworkers.tasks import Task, builtin_tasks

STORY_ANSWER: dict[str, Any] = {
    "title": "Export stories",
    "asA": "manager",
    "iWant": "export stories",
    "soThat": "others see them",
    "storyPoint": 2,
    "components": ["WorkModel"],
    "acceptanceCriteria": ["A file is made"],
}


class BuiltinTests(SynchronousTestCase):
    """
    Tests for the three tasks that come with the package.
    """

    def setUp(self) -> None:
        self.tasks = builtin_tasks()
        self.story = self.tasks["generate-story"]

    def refusal(self, task: Task, body: Any) -> BadInput:
        with self.assertRaises(BadInput) as raised:
            task.accept(body)
        refusal: BadInput = raised.exception
        return refusal

    def test_names(self) -> None:
        """
        The tasks are the three that the consumers know.
        """
        self.assertEqual(set(self.tasks), {"generate-story", "generate-test", "analyze-invest"})

    def test_idea_is_required(self) -> None:
        """
        A missing, blank or null idea gets the consumers' own words.
        """
        for body in ({}, {"idea": ""}, {"idea": " \n"}, {"idea": None}):
            refusal = self.refusal(self.story, body)
            self.assertEqual((refusal.field, str(refusal)), ("idea", "Idea is required"))

    def test_refusals_name_the_field(self) -> None:
        """
        Whatever does not fit is refused by its path, with what it must be.
        """
        test = self.tasks["generate-test"]
        for task, body, field, sentence in [
            (self.story, {"idea": 5}, "idea", "idea must be a string, not a number"),
            (self.story, [], "", "The value must be an object, not a list"),
            (self.story, {"idea": "x", "parentStory": {}}, "parentStory.title", "is required"),
            (self.story, {"idea": "x", "components": ["a", 1]}, "components[1]", "a string"),
            (test, {"idea": "x"}, "story", "Story is required"),
            (test, {"story": {}}, "story.title", "story.title is required"),
            (test, {"story": {"title": ""}}, "story.title", "story.title is required"),
            (
                test,
                {"story": {"title": "x", "acceptanceCriteria": "one"}},
                "story.acceptanceCriteria",
                "must be a list, not a string",
            ),
        ]:
            refusal = self.refusal(task, body)
            self.assertEqual(refusal.field, field)
            self.assertIn(sentence, str(refusal))

    def test_refusals_are_short(self) -> None:
        """
        A refusal does not repeat a megabyte of what it refuses.
        """
        refusal = self.refusal(self.story, {"idea": "x", "components": "y" * 1_000_000})
        self.assertLess(len(str(refusal)), 400)

    def test_nulls_are_absent(self) -> None:
        """
        An optional field that is null is as if it were not there.
        """
        accepted = self.story.accept({"idea": "x", "parentStory": None, "extra": {"a": None}})
        self.assertEqual(accepted, {"idea": "x", "extra": {}})

    def test_prompt_carries_the_request_as_one_line_of_json(self) -> None:
        """
        What a client sends stands in the prompt once, as JSON on one line.
        """
        idea = 'quotes " and \n/quit\n!ls ```\\'
        prompt = self.story.prompt({"idea": idea})
        [line] = [line for line in prompt.splitlines() if line.startswith("Request: ")]
        self.assertEqual(json.loads(line.removeprefix("Request: "))["idea"], idea)
        self.assertNotIn("`", prompt)

    def test_known_components_are_only_a_hint(self) -> None:
        """
        Without a list of components the product's own are offered, and others
        are accepted.
        """
        self.assertIn("Traceability_Insight", self.story.prompt({"idea": "x"}))
        answer = {**STORY_ANSWER, "components": ["Elsewhere"]}
        self.assertEqual(self.story.answer({"idea": "x"}, json.dumps(answer)).value, answer)

    def test_given_components_are_the_only_ones(self) -> None:
        """
        With a list of components the answer must choose from it, in any case.
        """
        request = {"idea": "x", "components": ["Door", "Roof"]}
        self.assertNotIn("WorkModel", self.story.prompt(request).partition("An example")[0])
        with self.assertRaises(AnswerUnfit):
            self.story.answer(request, json.dumps(STORY_ANSWER))
        answer = self.story.answer(
            request, json.dumps({**STORY_ANSWER, "components": ["door"]})
        ).value
        self.assertEqual(answer["components"], ["Door"])

    def test_answers_that_break_the_contract(self) -> None:
        """
        What a consumer could not read is refused.
        """
        story_changes: list[dict[str, Any]] = [
            {"acceptanceCriteria": []},
            {"acceptanceCriteria": "one"},
            {"storyPoint": 13},
            {"storyPoint": "3"},
            {"components": None},
            {"title": " "},
        ]
        for change in story_changes:
            with self.assertRaises(AnswerUnfit):
                self.story.answer({"idea": "x"}, json.dumps({**STORY_ANSWER, **change}))
        test = self.tasks["generate-test"]
        test_changes: list[dict[str, Any]] = [{"then": []}, {"given": "a"}, {"when": [""]}]
        for change in test_changes:
            answer = {"title": "t", "given": ["g"], "when": ["w"], "then": ["t"], **change}
            with self.assertRaises(AnswerUnfit):
                test.answer({"story": {"title": "x"}}, json.dumps(answer))

    def test_criterion_in_lower_case(self) -> None:
        """
        A criterion is accepted in any letter case and returned in lower case;
        no warnings at all is an answer.
        """
        task = self.tasks["analyze-invest"]
        warning = {"criterion": "Testable", "message": "m", "suggestion": "s"}
        said = json.dumps({"summary": "s", "warnings": [warning]})
        answer = task.answer({}, said).value
        self.assertEqual(answer["warnings"][0]["criterion"], "testable")
        self.assertEqual(task.answer({}, '{"summary": "s", "warnings": []}').value["warnings"], [])
