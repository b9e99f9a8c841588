"""
Tests for `kiroworkers.tasks.catalogue`.
"""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.tasks import Task
from kiroworkers.tasks.catalogue import BadTask, load_task

GOOD = """
name = "echo"
title = "Echo"
description = "Says it again."
prompt = "Say {{ request }} as {{ schema }}, like {{ example }}."
[input]
type = "object"
[answer]
type = "object"
required = ["said"]
[example]
input = {}
answer = { said = "x" }
"""


class LoadTests(SynchronousTestCase):
    """
    Tests for `load_task`.
    """

    def load(self, text: str) -> Task:
        path = Path(self.mktemp()).with_suffix(".toml")
        path.write_text(text, encoding="utf-8")
        return load_task(path)

    def test_good(self) -> None:
        """
        A file with all it needs is a task.
        """
        task = self.load(GOOD)
        self.assertEqual((task.name, task.agent), ("echo", None))
        self.assertEqual(self.load(f'agent = "q"{GOOD}').agent, "q")

    def test_wrong_files_say_the_key_and_the_reason(self) -> None:
        """
        A file that cannot be a task is refused by its key, with the reason.
        """
        for old, new, reason in [
            ('name = "echo"', "", "name: is missing"),
            ('name = "echo"', 'name = "echo', "line 2"),
            ('name = "echo"', 'name = "echo"\nagent = ""', "agent: must be the name"),
            ('name = "echo"', 'name = "echo"\nagent = ["q"]', "agent: must be the name"),
            ("[input]\ntype", "[input]\ntyp", None),
            ('[answer]\ntype = "object"', '[answer]\ntype = "obj"', "answer: "),
            ("Say $request", "Say $idea", "prompt: may use"),
            ("Say $request", "Say $ 5", "prompt: may use"),
            ("Say $request", "!ls $request", "prompt: line 1 begins with !"),
            ("Say $request", "``` $request", "prompt: may hold no backtick"),
            ("answer = { said", "answer = { sad", "example.answer: said is required"),
            ("input = {}", "input = 3", "example.input: "),
        ]:
            text = GOOD.replace(old, new)
            self.assertNotEqual(text, GOOD)
            if reason is None:
                self.assertEqual(self.load(text).name, "echo")
                continue
            with self.assertRaises(BadTask) as raised:
                self.load(text)
            self.assertIn(reason, str(raised.exception))
            self.assertIn(".toml: ", str(raised.exception))
