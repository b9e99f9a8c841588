"""
Tests for `kiroworkers.tasks.new_task`.
"""

from __future__ import annotations

from pathlib import Path

from jsonschema import Draft202012Validator
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.json_schema import first_problem
from kiroworkers.offline.replies import SAMPLE_NOTICE, reply
from kiroworkers.tasks import find_answer, load_task, new_task


class NewTaskTests(SynchronousTestCase):
    """
    Tests for `new_task`.
    """

    def test_valid(self) -> None:
        """
        The file is valid whatever its name, and the offline agent answers it with a sample that
        is not the example.
        """
        for name, title in [("release-note", "Release note"), ("---", "---"), ("x" * 64, None)]:
            file = Path(self.mktemp())
            file.write_text(new_task(name), encoding="utf-8")
            task = load_task(file)
            self.assertEqual(task.name, name)
            self.assertEqual(task.title, title or task.title)
            self.assertEqual(task.unknown_fields(task.example_input), [])
            text = reply(task.prompt(task.accept(task.example_input)))
            self.assertIn(SAMPLE_NOTICE, text)
            answer = find_answer(text, task.answer_schema, task.example_answer).value
            problem = first_problem(Draft202012Validator(dict(task.answer_schema)), answer)
            self.assertIsNone(problem)
