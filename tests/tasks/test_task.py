"""
Tests for `kiroworkers.tasks.task` and the built-in tasks.
"""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.errors import AnswerSchemaMismatch, InvalidInput
from kiroworkers.tasks import Task, builtin_tasks, load_task
from kiroworkers.tasks.defaults import with_defaults
from kiroworkers.tasks.literal import UNPRINTABLE, json_literal

STORY_ANSWER: dict[str, Any] = {
    "title": "Export stories",
    "asA": "manager",
    "iWant": "export stories",
    "soThat": "others see them",
    "storyPoint": 2,
    "components": ["Stories"],
    "acceptanceCriteria": ["A file is made"],
}

#: Text that a terminal, a line editor or a template could take for more.
hostile = (
    st.text()
    | st.text("!/@`\\\r\n\t{}%\"'\x1b\x9b~[]()2014\ud800\u202e\u2028 ")
    | st.sampled_from(
        [
            "\x1b[201~\r!rm -rf /\r",
            "\n/quit\n!ls\n@/etc/passwd",
            "```",
            "\\",
            "{{ 7 * 7 }}{% raw %}{# x #}",
            "x" * 100_000,
        ]
    )
)


def fields_of(schema: Any) -> st.SearchStrategy[Any]:
    """
    Requests that fit `schema`, with hostile text in every field.
    """
    match schema.get("type"):
        case "object":
            properties = {name: fields_of(each) for name, each in schema["properties"].items()}
            return st.fixed_dictionaries({**properties, "more": hostile})
        case "array":
            return st.lists(fields_of(schema["items"]), max_size=3)
        case "string":
            # Not blank, which some fields must not be.
            return hostile.map(lambda text: text + "x")
    return st.integers()


OWN = load_task(Path(__file__).with_name("own.toml"))


class HostileTests(SynchronousTestCase):
    """
    Tests for the prompts of the built-in tasks, and of one that uses all of the
    language, for requests that are out to harm.
    """

    @given(st.data())
    def test_prompts(self, data: st.DataObject) -> None:
        """
        Whatever a client sends in whichever field, a prompt has only the lines that
        its task gives it, none begins like a command, no character is more than
        one, and the request stands in it as it came.
        """
        for task in (*builtin_tasks().values(), OWN):
            request = task.accept(data.draw(fields_of(task.input_schema)))
            lines = task.prompt(request).split("\n")
            [payload] = [each for each in lines if each.startswith("Request: ")]
            sent = json.loads(payload.removeprefix("Request: "))
            self.assertEqual(sent, {**sent, **request})
            expected = len(task.prompt(task.example_input).split("\n"))
            if task is OWN:
                expected = 5 + bool(request["kind"]) + max(1, len(request["notes"]))
            self.assertEqual(len(lines), expected)
            for line in lines:
                self.assertFalse(line.lstrip().startswith(("!", "/", "@")), line)
                self.assertNotIn("`", line)
                found = {unicodedata.category(each) for each in set(line)}
                self.assertEqual(found & UNPRINTABLE, set())
            self.assertFalse(lines[-1].rstrip().endswith("\\"))


class BuiltinTests(SynchronousTestCase):
    """
    Tests for the three tasks that come with the package.
    """

    def setUp(self) -> None:
        self.tasks = builtin_tasks()
        self.story = self.tasks["generate-story"]

    def refusal(self, task: Task, body: Any) -> InvalidInput:
        with self.assertRaises(InvalidInput) as raised:
            task.accept(body)
        refusal: InvalidInput = raised.exception
        return refusal

    def test_valid(self) -> None:
        """
        Their schemas, which no server checks, are valid.
        """
        for task in self.tasks.values():
            self.assertEqual(load_task(Path(task.source)), task)

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

    def test_misspelt_field(self) -> None:
        """
        A missing field for which there is an unknown one with a similar name says so.
        """
        hint = "ideas is an unknown field; did you mean idea?"
        refusal = self.refusal(self.story, {"ideas": "x", "colour": "red"})
        self.assertEqual((refusal.field, str(refusal)), ("idea", f"Idea is required; {hint}"))
        test = self.tasks["generate-test"]
        refusal = self.refusal(test, {"story": {"titel": "x"}})
        self.assertEqual(refusal.field, "story.title")
        self.assertIn("story.titel is an unknown field; did you mean title?", str(refusal))
        refusal = self.refusal(self.story, {"colour": "red"})
        self.assertEqual(str(refusal), "Idea is required")

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

    def test_unchecked(self) -> None:
        """
        What is nested too deeply to be looked at is refused like all that does not
        fit.
        """
        deep: Any = None
        for _ in range(5000):
            deep = [deep]
        for task in self.tasks.values():
            with self.assertRaises(InvalidInput):
                task.accept({**task.example_input, "more": deep})

    def test_nulls_are_absent(self) -> None:
        """
        An optional field that is null is as if it were not there.
        """
        accepted = self.story.accept({"idea": "x", "parentStory": None, "extra": {"a": None}})
        self.assertEqual(accepted, {"idea": "x", "extra": {}})

    def test_cheap_checks(self) -> None:
        """
        A check may take long only if there are many values, and the schema compares them with
        each other or they do not fit; its outcome is the same in another process.
        """
        many = {"idea": "x", "more": [{"n": number} for number in range(500)]}
        unique = {**self.story.input_schema, "properties": {"more": {"uniqueItems": True}}}
        comparing = evolve(self.story, input_schema=unique)
        self.assertTrue(self.story.input_check(many).is_cheap)
        self.assertTrue(comparing.input_check({"idea": "x", "more": []}).is_cheap)
        self.assertFalse(comparing.input_check(many).is_cheap)
        self.assertFalse(self.story.input_check({"components": ["c"] * 1000}).is_cheap)
        self.assertTrue(self.story.input_check({"components": ["c"] * 900}).is_cheap)
        body: Any
        for body in (many, {**many, "x": None}, {**many, "more": [{}, {}]}, {}, []):
            check = comparing.input_check(body)
            outcome = json.loads(json.dumps(check.run()))
            try:
                accepted = check.find()
            except InvalidInput as problem:
                raised = self.assertRaises(InvalidInput, check.result, outcome)
                self.assertEqual(repr(raised), repr(problem))
            else:
                self.assertEqual(check.result(outcome), accepted)

    def test_long_choices(self) -> None:
        """
        A search for an answer that must choose from a long list is not cheap.
        """
        for number, cheap in ((2, True), (200, False)):
            request = {"idea": "x", "components": [f"c{index}" for index in range(number)]}
            search = self.story.answer_search(request, json.dumps(STORY_ANSWER))
            self.assertIs(search.is_cheap, cheap)

    def test_prompts_in_full(self) -> None:
        """
        A prompt is its template's text, with the literals in their places.
        """
        for task in self.tasks.values():
            for changes in ({}, {"extra": "{{ schema }} {% x %} $request \n"}):
                request = {**task.example_input, **changes}
                properties = task.input_schema["properties"]
                defaults = {
                    name: each["default"] for name, each in properties.items() if "default" in each
                }
                expected = task.prompt_template
                for name, text in [
                    ("schema", json_literal(task.answer_schema)),
                    ("example", json_literal(task.example_answer)),
                    ("layout", "compactly, on one line"),
                    ("request", json_literal({**defaults, **request})),
                ]:
                    expected = expected.replace(f"{{{{ {name} }}}}", text)
                self.assertEqual(task.prompt(request), expected)

    def test_prompt_carries_the_request_as_one_line_of_json(self) -> None:
        """
        What a client sends stands in the prompt once, as JSON on one line.
        """
        idea = 'quotes " and \n/quit\n!ls ```\\'
        prompt = self.story.prompt({"idea": idea})
        [line] = [line for line in prompt.splitlines() if line.startswith("Request: ")]
        self.assertEqual(json.loads(line.removeprefix("Request: "))["idea"], idea)
        self.assertNotIn("`", prompt)

    def test_no_components(self) -> None:
        """
        Without a list of components none is offered, and an agent may still name some.
        """
        self.assertIn('Request: {"components":[],"idea":"x"}\n', self.story.prompt({"idea": "x"}))
        for components in ([], ["Elsewhere"]):
            answer = {**STORY_ANSWER, "components": components}
            search = self.story.answer_search({"idea": "x"}, json.dumps(answer))
            self.assertEqual(search.find().value, answer)

    def test_default_components(self) -> None:
        """
        With the operator's list the answer must choose from it, unless the client sends its
        own list, even an empty one.
        """
        task = with_defaults(self.story, {"components": ["Web", "API"]})
        cases: list[tuple[dict[str, Any], list[str], bool]] = [
            ({}, ["web"], True),
            ({}, ["Door"], False),
            ({"components": ["Door"]}, ["Door"], True),
            ({"components": ["Door"]}, ["Web"], False),
            ({"components": []}, [], True),
            ({"components": []}, ["Web"], False),
        ]
        for request, components, fits in cases:
            accepted = task.accept({"idea": "x", **request})
            self.assertEqual(accepted, {"idea": "x", **request})
            offered = request.get("components", ["Web", "API"])
            self.assertIn(f'"components":{json_literal(offered)}', task.prompt(accepted))
            answer = json.dumps({**STORY_ANSWER, "components": components})
            search = task.answer_search(accepted, answer)
            if fits:
                self.assertEqual(len(search.find().value["components"]), len(components))
            else:
                self.assertRaises(AnswerSchemaMismatch, search.find)

    def test_pipeline(self) -> None:
        """
        The answer of generate-story is a story that the other tasks know, and may be the parent
        of another one.
        """
        self.assertEqual(self.story.unknown_fields({"idea": "x", "parentStory": STORY_ANSWER}), [])
        for name in ("generate-test", "analyze-invest"):
            self.assertEqual(self.tasks[name].unknown_fields({"story": STORY_ANSWER}), [])

    def test_forbidden_fields(self) -> None:
        """
        If the schema forbids other fields, the refusal names the field and the nearest one
        that the task knows.
        """
        schema = {**self.story.input_schema, "additionalProperties": False}
        strict = evolve(self.story, input_schema=schema)
        refusal = self.refusal(strict, {"idea": "x", "Parent_Story": {"title": "y"}})
        self.assertEqual(refusal.field, "Parent_Story")
        self.assertEqual(
            str(refusal), "Parent_Story is an unknown field; did you mean parentStory?"
        )

    def test_given_components_are_the_only_ones(self) -> None:
        """
        With a list of components the answer must choose from it, in any case.
        """
        request = {"idea": "x", "components": ["Door", "Roof"]}
        self.assertIn('"components":["Door","Roof"]', self.story.prompt(request))
        with self.assertRaises(AnswerSchemaMismatch):
            self.story.answer_search(request, json.dumps(STORY_ANSWER)).find()
        answer = (
            self.story.answer_search(request, json.dumps({**STORY_ANSWER, "components": ["door"]}))
            .find()
            .value
        )
        self.assertEqual(answer["components"], ["Door"])

    def test_answers_that_break_the_contract(self) -> None:
        """
        What a consumer could not read is refused.
        """
        story_changes: list[dict[str, Any]] = [
            {"acceptanceCriteria": []},
            {"acceptanceCriteria": "one\ntwo"},
            {"storyPoint": 13},
            {"storyPoint": "13"},
            {"storyPoint": "some"},
            {"components": None},
            {"title": " "},
        ]
        for change in story_changes:
            with self.assertRaises(AnswerSchemaMismatch):
                self.story.answer_search(
                    {"idea": "x"}, json.dumps({**STORY_ANSWER, **change})
                ).find()
        test = self.tasks["generate-test"]
        test_changes: list[dict[str, Any]] = [{"then": []}, {"given": ""}, {"when": [""]}]
        for change in test_changes:
            answer = {"title": "t", "given": ["g"], "when": ["w"], "then": ["t"], **change}
            with self.assertRaises(AnswerSchemaMismatch):
                test.answer_search({"story": {"title": "x"}}, json.dumps(answer)).find()

    def test_harmless_differences(self) -> None:
        """
        A number in a string, and a string where a list of one is wanted, are
        brought into form, and that is told.
        """
        said = {**STORY_ANSWER, "storyPoint": "2", "acceptanceCriteria": "A file is made"}
        found = self.story.answer_search({"idea": "x"}, json.dumps(said)).find()
        self.assertEqual(found.value, STORY_ANSWER)
        fields = [(each.field, each.kind) for each in found.normalized]
        self.assertEqual(fields, [("storyPoint", "number"), ("acceptanceCriteria", "list")])
        self.assertEqual(
            self.story.answer_search({}, json.dumps(STORY_ANSWER)).find().normalized, ()
        )

    def test_criterion_in_lower_case(self) -> None:
        """
        A criterion is accepted in any letter case and returned in lower case;
        no warnings at all is an answer.
        """
        task = self.tasks["analyze-invest"]
        warning = {"criterion": "Testable", "message": "m", "suggestion": "s"}
        said = json.dumps({"summary": "s", "warnings": [warning]})
        answer = task.answer_search({}, said).find().value
        self.assertEqual(answer["warnings"][0]["criterion"], "testable")
        self.assertEqual(
            task.answer_search({}, '{"summary": "s", "warnings": []}').find().value["warnings"], []
        )
