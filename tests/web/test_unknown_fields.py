"""
Tests for requests with fields that their task does not know, on a pool in memory.
"""

from __future__ import annotations

import json
import re
from typing import Any

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.tasks.defaults import with_defaults
from kiroworkers.web.headers import cors_headers
from tests.web.test_errors import MemoryServer, Response

_HEADER = "x-kiroworkers-ignored"


class UnknownFieldsTests(SynchronousTestCase):
    """
    Tests for ``X-Kiroworkers-Ignored`` and ``--strict-input``.
    """

    def setUp(self) -> None:
        self.server = MemoryServer()

    def ask(self, body: Any, task: str = "generate-story", **headers: str) -> Response:
        return self.server.request("POST", f"/kiro/{task}", body, **headers)

    def test_named(self) -> None:
        """
        Unknown fields are named in a header, with their paths; without any there is no header.
        """
        response = self.ask({"idea": "x", "parentStory": None, "more": None})
        self.assertNotIn(_HEADER, response.headers)
        response = self.ask({"idea": "x", "size": 1, "parentStory": {"title": "y", "z": 1}})
        self.assertEqual((response.status, response.headers[_HEADER]), (200, "size, parentstory.z"))
        response = self.ask({"story": {"title": "x", "status": "open"}}, "analyze-invest")
        self.assertEqual((response.status, response.headers[_HEADER]), (200, "story.status"))

    def test_kinds_of_responses(self) -> None:
        """
        A job, a replayed answer, a stream and a failed request have the header as well, and a
        stream repeats it in an event.
        """
        invalid = self.ask({"ideas": "x"})
        self.assertEqual((invalid.status, invalid.headers[_HEADER]), (400, "ideas"))
        body = {"idea": "x", "size": 1}
        accepted = self.ask(body, Prefer="respond-async")
        self.assertEqual((accepted.status, accepted.headers[_HEADER]), (202, "size"))
        for replayed in (None, "true"):
            response = self.ask(body, Idempotency_Key="k")
            self.assertEqual(response.headers.get("idempotency-replayed"), replayed)
            self.assertEqual(response.headers[_HEADER], "size")
        stream = self.ask(body, Accept="text/event-stream")
        self.assertEqual(stream.headers[_HEADER], "size")
        [text] = re.findall(r"^event: headers\ndata: (.*)$", stream.content.decode(), re.M)
        self.assertEqual(json.loads(text)["X-Kiroworkers-Ignored"], "size")
        self.server.dispatcher.stopService()
        failed = self.ask(body)
        self.assertEqual((failed.status, failed.headers[_HEADER]), (503, "size"))

    def test_hostile(self) -> None:
        """
        The header is one short line of harmless characters, for any names.
        """
        names = ["ä\r\nSet-Cookie: x", "\ud800", "", "a, b", "é" * 60, "x" * 1000]
        body = {"idea": "x", **dict.fromkeys(names, 1)}
        body |= {f"more{number}": 1 for number in range(100)}
        value = self.ask(body).headers[_HEADER]
        self.assertNotRegex(value, '[^a-z0-9%_.~, "-]')
        self.assertNotRegex(value, "%.?(,|$)")
        self.assertLess(len(value), 2200)
        found = value.split(", ")
        self.assertEqual(len(found), 20)
        self.assertEqual(found[:4], ["%c3%a4%0d%0aset-cookie%3a%20x", "%3f", '""', "a%2c%20b"])
        self.assertEqual(found[4], "%c3%a9" * 17)

    def test_readable_for_pages(self) -> None:
        """
        Pages of other origins that may call the server can read the header.
        """
        exposed = cors_headers("http://localhost", ["*"])[b"Access-Control-Expose-Headers"]
        self.assertIn(b"X-Kiroworkers-Ignored", exposed.split(b", "))

    def test_strict(self) -> None:
        """
        With --strict-input an unknown field is refused before anything else is checked, with
        its path and the nearest name; nothing is asked and no job is made.
        """
        self.server = MemoryServer(strict_input=True)
        self.assertEqual(self.ask({"idea": "x", "more": None}).status, 200)
        turns = len(self.server.reactor.programs[0].typed)
        for body, field, sentence in [
            ({"ide": "x"}, "ide", "ide is an unknown field; did you mean idea?"),
            (
                {"idea": "x", "parentStory": {"titel": "y"}},
                "parentStory.titel",
                "parentStory.titel is an unknown field; did you mean title?",
            ),
            ({"idea": "x", "\ud800": 1}, "\ud800", "\ud800 is an unknown field"),
        ]:
            for headers in ({}, {"Prefer": "respond-async"}, {"Accept": "text/event-stream"}):
                response = self.ask(body, **headers)
                self.assertEqual(response.status, 400)
                self.assertNotIn(_HEADER, response.headers)
                expected = {"error": sentence, "code": "invalid_input", "field": field}
                expected["requestId"] = response.error["requestId"]
                self.assertEqual(response.error, expected)
        self.assertEqual(len(self.server.reactor.programs[0].typed), turns)
        self.assertEqual(json.loads(self.server.request("GET", "/jobs").content)["jobs"], [])
        response = self.ask([{"more": 1}])
        self.assertEqual(response.error["error"], "The value must be an object, not a list")

    def test_defaults_shown(self) -> None:
        """
        The catalogue and the OpenAPI document show the operator's default values.
        """
        for task, values in [
            ("generate-story", dict[str, Any](components=["Web"])),
            ("generate-test", {"story": {"title": "x"}}),
        ]:
            self.server.tasks[task] = with_defaults(self.server.tasks[task], values)
        tasks = json.loads(self.server.request("GET", "/kiro").content)["tasks"]
        document = json.loads(self.server.request("GET", "/openapi.json").content)
        schemas = document["components"]["schemas"]
        for task, field, value in [
            ("generate-story", "components", ["Web"]),
            ("generate-test", "story", {"title": "x"}),
        ]:
            [shown] = [listed["input"] for listed in tasks if listed["name"] == task]
            for schema in (shown, schemas[f"{task}.input"]):
                self.assertNotIn(field, schema["required"])
            self.assertEqual(shown["properties"][field]["default"], value)
            described = json.dumps(schemas[f"{task}.input"]["properties"][field])
            self.assertIn(f'"default": {json.dumps(value)}', described)
        self.assertEqual(self.ask({}, "generate-test").status, 200)

    def test_defaults_change(self) -> None:
        """
        A request is the same one under its idempotency key after the defaults have changed.
        """
        story = self.server.tasks["generate-story"]
        for components in (["Web"], ["API"]):
            self.server.tasks["generate-story"] = with_defaults(story, {"components": components})
            response = self.ask({"idea": "x"}, Idempotency_Key="k")
            self.assertEqual(response.status, 200)
        self.assertEqual(response.headers["idempotency-replayed"], "true")

    def test_forbidden(self) -> None:
        """
        A task may forbid unknown fields itself.
        """
        story = self.server.tasks["generate-story"]
        schema = {**story.input_schema, "additionalProperties": False}
        self.server.tasks["generate-story"] = evolve(story, input_schema=schema)
        response = self.ask({"idea": "x", "component": []})
        self.assertEqual(response.status, 400)
        self.assertEqual(response.error["field"], "component")

    def test_forbidden_inside(self) -> None:
        """
        A task may forbid unknown fields of an object only; the error names the one in it.
        """
        story = self.server.tasks["generate-story"]
        closed = {"type": "object", "properties": {"title": {}}, "additionalProperties": False}
        properties = {**story.input_schema["properties"], "parentStory": closed}
        schema = {**story.input_schema, "properties": properties}
        self.server.tasks["generate-story"] = evolve(story, input_schema=schema)
        response = self.ask({"idea": "x", "size": 1, "parentStory": {"titel": "y"}})
        self.assertEqual(response.status, 400)
        self.assertEqual(response.error["field"], "parentStory.titel")
