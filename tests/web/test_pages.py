"""
Tests for `kiroworkers.web.pages`: a description as people read it.
"""

from __future__ import annotations

import shlex
from typing import Any

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.tasks import builtin_tasks
from kiroworkers.web.pages.reference import ApiReference, FieldRow
from tests.web.test_openapi import described


class ReadingTests(SynchronousTestCase):
    """
    Tests for `ApiReference`.
    """

    def shown(self, name: str, **more: Any) -> tuple[ApiReference, Any]:
        """
        The reading of a description, and the operation `name` in it.
        """
        reading = ApiReference(described(**more))
        found = [each for _, operations in reading.groups() for each in operations]
        return reading, next(each for each in found if each.id == name)

    def test_fields(self) -> None:
        """
        Fields are told by their paths, within lists and objects, too.
        """
        reading = ApiReference(described())
        schema = {
            "required": ["list"],
            "properties": {
                "list": {
                    "type": "array",
                    "minItems": 1,
                    "items": {
                        "type": "object",
                        "properties": {"size": {"type": "integer", "maximum": 8}},
                    },
                },
                "word": {"type": ["string", "null"], "pattern": r"\S", "description": "One."},
            },
        }
        self.assertEqual(
            reading.fields(schema),
            [
                FieldRow("list", "list of object, items: at least 1", True, ""),
                FieldRow("list[].size", "integer, at most 8", False, ""),
                FieldRow("word", "string or null, not blank", False, "One."),
            ],
        )

    def test_endless(self) -> None:
        """
        A schema that holds itself ends somewhere.
        """
        schema: dict[str, Any] = {"type": "object", "properties": {}}
        schema["properties"]["child"] = schema
        self.assertLess(len(ApiReference(described()).fields(schema)), 20)

    def test_kinds(self) -> None:
        """
        A schema is said in a few words.
        """
        reading = ApiReference(described())
        for schema, kind in (
            ({"$ref": "#/components/schemas/Job"}, "Job"),
            ({"enum": ["a", "b"]}, '"a" | "b"'),
            ({"const": 1}, "1"),
            ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "string or null"),
            ({"type": "object", "additionalProperties": {"type": "string"}}, "map of string"),
            ({}, "anything"),
        ):
            self.assertEqual(reading.kind(schema), kind)

    def test_command(self) -> None:
        """
        The command line sends the example, whatever quotes are in it.
        """
        task = evolve(builtin_tasks()["generate-story"], example_input={"idea": "It's $HOME"})
        reading, shown = self.shown("ask-generate-story", tasks={task.name: task})
        words = shlex.split(reading.command(shown).replace("\\\n", ""))
        self.assertEqual(words[:4], ["curl", "-X", "POST", "$BASE/kiro/generate-story"])
        self.assertEqual(words[-2:], ["-d", '{"idea": "It\'s $HOME"}'])

    def test_command_with_token(self) -> None:
        """
        The command line has a token where one is needed.
        """
        reading, shown = self.shown("health", needs_token=True)
        self.assertIn("Authorization: Bearer $TOKEN", reading.command(shown))
        reading, shown = self.shown("ready", needs_token=True)
        self.assertNotIn("Authorization", reading.command(shown))
