"""
Tests for `kiroworkers.tasks.catalogue`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.tasks import Task, builtin_tasks
from kiroworkers.tasks.catalogue import BadTask, Catalogue, load_task
from kiroworkers.tasks.task import TaskLimits

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
        self.assertEqual((task.name, task.agent, task.limits), ("echo", None, TaskLimits()))
        self.assertIsNone(task.model)
        named = self.load(f'agent = "q"\nmodel = "claude-sonnet-4.5"{GOOD}')
        self.assertEqual((named.agent, named.model), ("q", "claude-sonnet-4.5"))
        limited = self.load(f"{GOOD}[limits]\ntimeout = 2.5\nprompt = 900")
        self.assertEqual(limited.limits, TaskLimits(2.5, 900))

    def test_wrong_files_say_the_key_and_the_reason(self) -> None:
        """
        A file that cannot be a task is refused by its path, with the key or the
        line and the reason, in one line.
        """
        name, answer = 'name = "echo"', '[answer]\ntype = "object"'
        a_table = f"{answer}\nproperties.x = "
        deep = "{ not = " * 300 + "{}" + " }" * 300
        for old, new, reason in [
            (name, "", "name: is missing"),
            (name, 'name = "echo', "line 2"),
            (name, f"{name}\n{name}", "line 3"),
            (name, 'name = "Echo it"', "name: must be 1 to 64 of the characters a-z"),
            (name, "name = 3", "name: must be a non-empty string"),
            ('"Echo"', '" "', "title: must be a non-empty string"),
            (name, f"{name}\nagent = ''", "agent: must be the name"),
            (name, f"{name}\nagent = ['q']", "agent: must be the name"),
            (name, f"{name}\nmodel = ''", "model: must be the name"),
            (name, f"{name}\nmodel = 4", "model: must be the name"),
            (name, f"{name}\nmodel = 'a b'", "model: must be the name"),
            (name, f"{name}\nmodel = 'ä'", "model: must be the name"),
            (name, f"{name}\nlimit = 3", "limit: is unknown; the known keys are name, title"),
            (name, f"{name}\nlimits = 3", "limits: must be a table"),
            (name, f"{name}\nlimits.timeout = 0", "limits.timeout: must be a number of seconds"),
            (name, f"{name}\nlimits.timeout = true", "limits.timeout: must be a number"),
            (name, f"{name}\nlimits.timeout = inf", "limits: contains a date, nan or inf"),
            (name, f"{name}\nlimits.prompt = 1.5", "limits.prompt: must be a whole number"),
            (name, f"{name}\nlimits.prompt = 9", "prompt: The request makes the prompt too long"),
            (name, f"{name}\nlimits.credits = 9", "limits.credits: is unknown; the known keys are"),
            (name, f"{name}\nmessages = 3", "messages: must be a table"),
            (name, f"{name}\nmessages.x = 3", "messages.x: must be a non-empty string"),
            (name, f"{name}\nchoices.said = 'x'", "choices.said: answer.properties.said must be"),
            ("[input]\ntype", "[input]\ntyp", 'input.type: must be "object"'),
            (answer, '[answer]\ntype = "obj"', "answer.type: "),
            (answer, f"{a_table}{{ pattern = '(' }}", "answer.properties.x.pattern: '('"),
            (answer, f"{a_table}{{ type = 'strin' }}", "answer.properties.x.type: 'strin'"),
            (answer, f"{a_table}{{ default = 1979-05-27 }}", "answer: contains a date"),
            (answer, f"{a_table}{{ '$ref' = '#/$defs/y' }}", "#/$defs/y does not resolve"),
            (answer, f"{a_table}{{ '$ref' = 'http://localhost/x' }}", "t/x does not resolve"),
            (answer, f'{answer}\n"$ref" = "#"', "schema refers to itself without end"),
            ("{{ request }}", "{{ request", "prompt: line 1: expected token"),
            ("{{ request }}", "{{ idea }}", "prompt: line 1: unknown name idea"),
            ("Say {{ request }}", "!ls {{ request }}", "prompt: line 1 begins with !"),
            ("Say {{ request }}", "``` {{ request }}", "prompt: may not contain a backtick"),
            ("answer = { said", "answer = { sad", "example.answer: said is required"),
            ("input = {}", "input = 3", "example.input: must be a table"),
            ("input = {}", "inputs = {}", "example.input: must be a table"),
            ("input = {}", "input = {}\nmore = {}", "example.more: is unknown"),
            ("[input]\n", "[input]\nrequired = ['x']\n", "example.input: x is required"),
            (answer, f"{answer}\nnot = {deep}", "answer: is nested too deeply"),
        ]:
            text = GOOD.replace(old, new)
            self.assertNotEqual(text, GOOD)
            with self.assertRaises(BadTask, msg=new) as raised:
                self.load(text)
            self.assertRegex(str(raised.exception), r"temp.toml: ")
            self.assertIn(reason, str(raised.exception))
            self.assertNotIn("\n", str(raised.exception))
            self.assertLess(len(str(raised.exception)), 500)

    def test_choices(self) -> None:
        """
        What is chosen from must be a list, or no answer to a request that gives it
        would ever fit.
        """
        for kind in ("array", "string"):
            text = GOOD.replace("[answer]\n", f"properties.offered.type = '{kind}'\n[answer]\n")
            text = text.replace("{ said = ", "{ chosen = [], said = ")
            choices = "[choices]\nchosen = 'offered'\n[answer.properties.chosen]\nitems = {}\n"
            if kind == "array":
                self.assertEqual(self.load(f"{text}{choices}").choices, {"chosen": "offered"})
                continue
            with self.assertRaises(BadTask) as raised:
                self.load(f"{text}{choices}")
            self.assertIn("input.properties.offered must be of type array", str(raised.exception))

    def test_unreadable(self) -> None:
        """
        What is no text, or far too large, is no task.
        """
        path = Path(self.mktemp())
        for data, reason in [(b"\xff", "utf-8"), (b"#" * 2_000_000, "larger than")]:
            path.write_bytes(data)
            with self.assertRaises(BadTask) as raised:
                load_task(path)
            self.assertIn(f"{path}: ", str(raised.exception))
            self.assertIn(reason, str(raised.exception))
        with self.assertRaises(BadTask) as raised:
            load_task(path / "nowhere")
        self.assertIn("cannot be read", str(raised.exception))


class CatalogueTests(SynchronousTestCase):
    """
    Tests for `Catalogue`.
    """

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.catalogue = Catalogue(self.folder, self.check)
        self.refused = ""

    def check(self, tasks: Mapping[str, Task]) -> None:
        if self.refused in tasks:
            raise BadTask(self.refused, "not here")

    def write(self, file: str, name: str, title: str = "Echo") -> None:
        text = GOOD.replace('"echo"', f'"{name}"').replace('"Echo"', f'"{title}"')
        (self.folder / file).write_text(text, encoding="utf-8")

    def reload(self) -> list[Task]:
        """
        Read and replace the tasks, and return those that replace built-in ones.
        """
        read = self.catalogue.read()
        self.catalogue.replace(read)
        return [*read.replacing]

    def assert_refused(self, reason: str) -> None:
        before = dict(self.catalogue)
        with self.assertRaises(BadTask) as raised:
            self.catalogue.read()
        self.assertIn(reason, str(raised.exception))
        self.assertEqual(dict(self.catalogue), before)

    def test_read(self) -> None:
        """
        The folder's tasks stand beside the built-in ones, and may replace them.
        """
        self.write("a.toml", "echo")
        self.write("b.txt", "other")
        self.assertEqual(self.reload(), [])
        self.assertEqual(set(self.catalogue), {*builtin_tasks(), "echo"})
        self.write("c.toml", "generate-story", "Mine")
        [replaced] = self.reload()
        self.assertEqual(replaced.source, str(self.folder / "c.toml"))
        self.assertEqual(self.catalogue["generate-story"].title, "Mine")
        (self.folder / "c.toml").unlink()
        self.reload()
        self.assertEqual(dict(self.catalogue), {**builtin_tasks(), "echo": self.catalogue["echo"]})

    def test_at_once(self) -> None:
        """
        Reading changes nothing; replacing changes everything at once.
        """
        self.write("a.toml", "echo")
        read = self.catalogue.read()
        self.assertEqual(dict(self.catalogue), {})
        self.catalogue.replace(read)
        self.assertEqual(set(self.catalogue), {*builtin_tasks(), "echo"})

    def test_all_or_nothing(self) -> None:
        """
        When one file is wrong, two have one name, one is refused, or the folder
        is gone, all stays as it was.
        """
        self.write("a.toml", "echo")
        self.reload()
        self.write("a.toml", "other")
        self.write("b.toml", "Bad")
        self.assert_refused("b.toml: name: must be")
        self.write("b.toml", "other")
        self.assert_refused(f"b.toml: name: other is already used by {self.folder / 'a.toml'}")
        self.write("b.toml", "third")
        self.refused = "third"
        self.assert_refused("third: not here")
        self.refused = ""
        self.reload()
        self.assertIn("third", self.catalogue)
        for each in self.folder.iterdir():
            each.unlink()
        self.folder.rmdir()
        self.assert_refused("cannot be read: No such file")

    def test_defaults(self) -> None:
        """
        Default values apply to built-in tasks and to those of the folder, each time they are
        read; if a value does not fit any more, all tasks stay as they were.
        """
        defaults: dict[str, dict[str, Any]] = {
            "generate-story": {"components": ["Web"]},
            "echo": {"said": "x"},
        }
        config = Path("/etc/kiro.toml")
        self.catalogue = Catalogue(self.folder, self.check, defaults, config)
        self.assert_refused(
            "kiro.toml: [tasks.echo]: there is no such task; the tasks are analyze-invest,"
        )
        self.write("a.toml", "echo")
        self.reload()
        self.assertEqual(self.catalogue["echo"].defaults, {"said": "x"})
        schema = self.catalogue["generate-story"].input_schema
        self.assertEqual(schema["properties"]["components"]["default"], ["Web"])
        text = (self.folder / "a.toml").read_text()
        other = "[input]\nproperties.count.type = 'integer'"
        (self.folder / "a.toml").write_text(text.replace("[input]", other))
        self.assert_refused("/etc/kiro.toml: [tasks.echo] said: said is an unknown field")
        self.write("a.toml", "echoes")
        self.assert_refused("did you mean echoes?")
