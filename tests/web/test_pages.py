"""
Tests for `kiroworkers.web.pages`: the OpenAPI document as people read it.
"""

from __future__ import annotations

import shlex
from typing import Any

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.tasks import builtin_tasks
from kiroworkers.web.pages import render_prose
from kiroworkers.web.pages.reference import ApiReference, FieldRow, OperationView
from tests.web.test_openapi import document_of


class ApiReferenceTests(SynchronousTestCase):
    """
    Tests for `ApiReference`.
    """

    def operation(self, name: str, **options: Any) -> tuple[ApiReference, OperationView]:
        """
        Return the reference of a document, and its operation called `name`.
        """
        reference = ApiReference(document_of(**options))
        operations = [operation for _, group in reference.groups() for operation in group]
        return reference, next(each for each in operations if each.id == name)

    def test_fields(self) -> None:
        """
        Every field has a row, also those within lists and objects.
        """
        reference = ApiReference(document_of())
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
            reference.fields(schema),
            [
                FieldRow("list", "list of object, 1 or more items", True, ""),
                FieldRow("list[].size", "integer, at most 8", False, ""),
                FieldRow("word", "string or null, not blank", False, "One."),
            ],
        )

    def test_links(self) -> None:
        """
        A field links to the schema of its value, its items or its values.
        """
        reference = ApiReference(document_of())
        job = {"$ref": "#/components/schemas/Job"}
        story = {"$ref": "#/components/schemas/generate-story.answer"}
        for schema, link in (
            (job, "Job"),
            ({"type": "array", "items": job}, "Job"),
            ({"type": "object", "additionalProperties": job}, "Job"),
            (story, None),
            ({"type": "object", "additionalProperties": False}, None),
        ):
            [row] = reference.fields({"properties": {"field": schema}})
            self.assertEqual(row.link, link, schema)

    def test_endless(self) -> None:
        """
        The rows of a schema that contains itself end.
        """
        schema: dict[str, Any] = {"type": "object", "properties": {}}
        schema["properties"]["child"] = schema
        self.assertLess(len(ApiReference(document_of()).fields(schema)), 20)

    def test_types(self) -> None:
        """
        The type of a schema is described in a few words.
        """
        reference = ApiReference(document_of())
        for schema, words in (
            ({"$ref": "#/components/schemas/Job"}, "Job"),
            ({"enum": ["a", "b"]}, '"a" | "b"'),
            ({"const": 1}, "1"),
            ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "string or null"),
            ({"type": "object", "additionalProperties": {"type": "string"}}, "map of string"),
            (
                {"type": "string", "minLength": 2, "default": "ab"},
                'string, 2 or more characters, default "ab"',
            ),
            (
                {"type": "array", "items": {"type": "string", "pattern": r"\S"}, "maxItems": 4},
                "list of string (not blank), at most 4 items",
            ),
            ({}, "anything"),
        ):
            self.assertEqual(reference.type_of(schema), words)

    def test_command(self) -> None:
        """
        The command line sends the example, whatever quotes are in it.
        """
        task = evolve(builtin_tasks()["generate-story"], example_input={"idea": "It's $HOME"})
        reference, operation = self.operation("ask-generate-story", tasks={task.name: task})
        words = shlex.split(reference.curl_command(operation).replace("\\\n", ""))
        self.assertEqual(words[:4], ["curl", "-X", "POST", "$BASE/kiro/generate-story"])
        self.assertEqual(words[-2:], ["-d", '{"idea": "It\'s $HOME"}'])

    def test_command_with_token(self) -> None:
        """
        The command line has a token if the operation needs one.
        """
        reference, operation = self.operation("health", needs_token=True)
        self.assertIn("Authorization: Bearer $TOKEN", reference.curl_command(operation))
        reference, operation = self.operation("ready", needs_token=True)
        self.assertNotIn("Authorization", reference.curl_command(operation))


class ProseTests(SynchronousTestCase):
    """
    Tests for `render_prose`.
    """

    def test_code(self) -> None:
        """
        Text in backticks becomes code, and HTML in the text stays text.
        """
        self.assertEqual(render_prose("Is `a<b` <i>"), "Is <code>a&lt;b</code> &lt;i&gt;")
