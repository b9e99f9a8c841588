"""
Tests for `kiroworkers.offline.replies`.
"""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.chat import parse_completion
from kiroworkers.conversations import load_dialect
from kiroworkers.offline.replies import RULES, reply
from kiroworkers.tasks import Task, builtin_tasks

SAMPLE = load_dialect("offline").answer.sample


class TaskTests(SynchronousTestCase):
    """
    Tests for prompts of tasks.
    """

    def answer(self, task: Task, request: Any) -> tuple[Any, bool]:
        """
        Return the answer to `request`, and whether it is marked as a sample.
        """
        accepted = task.accept(request)
        text = reply(task.prompt(accepted))
        assert SAMPLE is not None
        return task.answer_search(accepted, text).find().value, bool(SAMPLE.search(text))

    def test_builtin(self) -> None:
        """
        The built-in tasks are answered by rules, not with samples.
        """
        self.assertEqual(set(RULES), set(builtin_tasks()))
        for task in builtin_tasks().values():
            answer, is_sample = self.answer(task, task.example_input)
            self.assertNotEqual(answer, task.example_answer)
            self.assertFalse(is_sample)

    def test_own(self) -> None:
        """
        Another task gets a sample that fits its schema, also if it has a built-in task's name.
        """
        for name in ("release-note", "generate-story"):
            own = Task(
                name=name,
                title="A note",
                description="Writes a note.",
                prompt_template=f"Task: {name}\nRequest: {{{{ request }}}}\n"
                "JSON Schema: {{ schema }}\nAn example: {{ example }}\n{{ layout }}",
                input_schema={"type": "object"},
                answer_schema={
                    "type": "object",
                    "required": ["note"],
                    "properties": {"note": {"type": "string"}},
                },
                example_input={},
                example_answer={"note": "a"},
            )
            self.assertEqual(self.answer(own, {}), ({"note": "a (sample)"}, True))

    def test_unusable(self) -> None:
        """
        A prompt without a schema, and one without a task, get what can be said.
        """
        self.assertIn("no JSON Schema", reply("Task: other\nRequest: {}"))
        self.assertIn("no JSON Schema", reply("Task: other\nJSON Schema: {broken"))
        self.assertIn('"title":"CSV export"', reply("CSV export"))


class ChatTests(SynchronousTestCase):
    """
    Tests for the replies to a conversation.
    """

    def content(self, **others: Any) -> str:
        messages = [{"role": "user", "content": "Hello"}]
        chat = parse_completion({"model": "offline", "messages": messages, **others}).conversation
        text = reply(chat.prompt({}, "compact"))
        assert SAMPLE is not None
        self.assertIsNotNone(SAMPLE.search(text))
        return chat.reply(chat.answer_search({}, text, False).find().value).content

    def test_honest(self) -> None:
        """
        The agent says that it cannot converse, as text and in an object.
        """
        text = self.content()
        self.assertTrue(text.startswith("offline agent: "), text)
        self.assertIn("5 characters", text)
        answer = json.loads(self.content(response_format={"type": "json_object"}))
        self.assertEqual(answer, {"reply": text})

    def test_schema(self) -> None:
        """
        A client's own schema gets a sample that fits it.
        """
        schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
        given = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
        self.assertEqual(json.loads(self.content(response_format=given)), {"n": 1})
        given["json_schema"] = {"name": "any", "schema": {}}
        self.assertIn("reply", json.loads(self.content(response_format=given)))

    def test_odd(self) -> None:
        """
        The agent replies to malformed conversations, too.
        """
        odd: Any
        for odd in ({}, {"messages": 3}, {"messages": [1]}, {"messages": [{"content": 1}]}):
            text = reply(f"Task: chat\nRequest: {json.dumps(odd)}")
            self.assertIn("0 characters", text)
