"""
Tests for `kiroworkers.tasks.defaults`.
"""

from __future__ import annotations

import json
from datetime import date
from typing import Any

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.errors import InvalidInput
from kiroworkers.tasks import builtin_tasks
from kiroworkers.tasks.defaults import InvalidDefault, with_defaults
from kiroworkers.tasks.task import Task, TaskLimits

TASK = Task(
    name="order",
    title="Order",
    description="Orders.",
    prompt_template="Request: {{ request }}",
    input_schema={
        "type": "object",
        "required": ["item", "unit"],
        "properties": {
            "item": {"$ref": "#/$defs/word"},
            "unit": {"$ref": "#/$defs/word"},
            "count": {"type": "integer", "default": 1, "description": "How many."},
            "address": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
        "dependentRequired": {"address": ["count"]},
        "$defs": {"word": {"type": "string", "pattern": "\\S"}},
    },
    answer_schema={"type": "object"},
    example_input={"item": "nails", "unit": "box"},
    example_answer={},
)


class WithDefaultsTests(SynchronousTestCase):
    """
    Tests for `with_defaults`.
    """

    def test_schema(self) -> None:
        """
        The input schema shows the values, keeps what it said, and requires the fields no more.
        """
        schema = with_defaults(TASK, {"unit": "box", "count": 5}).input_schema
        self.assertEqual(schema["required"], ["item"])
        properties = schema["properties"]
        self.assertEqual(properties["unit"], {"$ref": "#/$defs/word", "default": "box"})
        count = {"type": "integer", "default": 5, "description": "How many."}
        self.assertEqual(properties["count"], count)
        self.assertEqual(TASK.input_schema["required"], ["item", "unit"])
        self.assertEqual(TASK.input_schema["properties"]["count"]["default"], 1)

    def test_requests(self) -> None:
        """
        A field that the client does not send, or sends as null, has its default value in the
        prompt; the client's own value wins, and must still fit.
        """
        task = with_defaults(TASK, {"unit": "box", "count": 5})
        for body, expected in [
            ({"item": "nails"}, {"unit": "box", "count": 5, "item": "nails"}),
            ({"item": "nails", "unit": None}, {"unit": "box", "count": 5, "item": "nails"}),
            ({"item": "x", "count": 0}, {"unit": "box", "count": 0, "item": "x"}),
            (
                {"item": "x", "address": {}},
                {"unit": "box", "count": 5, "item": "x", "address": {}},
            ),
        ]:
            prompt = task.prompt(task.accept(body))
            self.assertEqual(json.loads(prompt.removeprefix("Request: ")), expected)
        with self.assertRaises(InvalidInput) as raised:
            task.accept({"item": "x", "unit": " "})
        self.assertEqual(raised.exception.field, "unit")

    def test_choices(self) -> None:
        """
        An answer must choose from a default list also if the client sends another list.
        """
        names = ("sizes", "colors")
        words = {name: {"type": "array", "items": {"type": "string"}} for name in names}
        lists = {"type": "object", "properties": words}
        task = evolve(
            TASK,
            input_schema=lists,
            answer_schema=lists,
            example_input={},
            choices={name: name for name in names},
        )
        task = with_defaults(task, {"sizes": ["S", "M"]})
        for request, colors in (({}, None), ({"colors": ["red"]}, ["red"])):
            properties = task.answer_schema_for(request)["properties"]
            self.assertEqual(properties["sizes"]["items"].get("enum"), ["S", "M"])
            self.assertEqual(properties["colors"]["items"].get("enum"), colors)

    def test_offloaded(self) -> None:
        """
        A check in another process uses the same values.
        """
        check = with_defaults(TASK, {"unit": "box"}).input_check({"item": "x"})
        self.assertIsNone(check.run())
        self.assertEqual(check.result(None), {"item": "x"})

    def test_invalid(self) -> None:
        """
        An unknown field and a value that does not fit are refused, with the field and the reason.
        """
        invalid: list[tuple[dict[str, Any], str, str]] = [
            ({"units": "box"}, "units", "units is an unknown field; did you mean unit?"),
            ({"count": "5"}, "count", "count must be a whole number, not a string"),
            ({"unit": " "}, "unit", "unit must not be blank"),
            ({"address": {"city": 5}}, "address", "address.city must be a string, not a number"),
            ({"address": {"town": "x"}}, "address", "address.town is an unknown field"),
            ({"unit": date(2026, 1, 1)}, "unit", "contains a date, nan or inf"),
            ({"count": float("nan")}, "count", "contains a date, nan or inf"),
            ({"address": {}}, "", "the task's own example does not fit: The value does"),
        ]
        for values, field, reason in invalid:
            with self.assertRaises(InvalidDefault) as raised:
                with_defaults(TASK, values)
            self.assertEqual(raised.exception.field, field)
            self.assertIn(reason, raised.exception.reason)

    def test_long_prompt(self) -> None:
        """
        Values with which the task's own example makes too long a prompt are refused.
        """
        limited = evolve(TASK, limits=TaskLimits(prompt=100))
        for city, is_valid in (("x", True), ("x" * 100, False)):
            values = {"count": 1, "address": {"city": city}}
            if is_valid:
                with_defaults(limited, values)
            else:
                self.assertRaises(InvalidDefault, with_defaults, limited, values)

    def test_open_input(self) -> None:
        """
        A task that accepts any fields accepts any defaults.
        """
        task = evolve(TASK, input_schema={"type": "object"})
        self.assertIn('"color":"red"', with_defaults(task, {"color": "red"}).prompt({}))

    def test_no_other_change(self) -> None:
        """
        Without values nothing changes.
        """
        for task in builtin_tasks().values():
            self.assertEqual(with_defaults(task, {}), task)
