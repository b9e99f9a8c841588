"""
Tests for `kiroworkers.web.openapi`: the description itself; what a server does of it
is tried in `tests.test_openapi`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attrs import evolve
from jsonschema import Draft202012Validator
from klein import Klein
from twisted.trial.unittest import SynchronousTestCase

import kiroworkers.web
from kiroworkers.tasks import builtin_tasks
from kiroworkers.web.app import Application
from kiroworkers.web.openai.routes import OpenAIRoutes
from kiroworkers.web.openapi import document
from kiroworkers.web.openapi.failures import MEANING, codes
from kiroworkers.web.openapi.routes import Route, routes_of
from kiroworkers.web.openapi.task_schemas import with_nulls
from kiroworkers.web.operator import OperatorRoutes

ROUTES = (
    *routes_of(Application.app),
    *routes_of(OperatorRoutes.app, "/operator"),
    *routes_of(OpenAIRoutes.app, "/v1"),
)


def described(**more: Any) -> dict[str, Any]:
    """
    The description of a server with the built-in tasks.
    """
    return document(ROUTES, more.pop("tasks", builtin_tasks()), ["kiro", "gemini"], **more)


def references(value: Any) -> Iterator[str]:
    """
    Every place that `value` refers to.
    """
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for each in value.values():
            yield from references(each)
    if isinstance(value, list | tuple):
        for each in value:
            yield from references(each)


def at(value: Any, place: str) -> Any:
    """
    What stands in `value` at a `place` such as ``#/a/b``.
    """
    for step in place.removeprefix("#").split("/")[1:]:
        value = value[step]
    return value


class RoutesTests(SynchronousTestCase):
    """
    Tests for the route table.
    """

    def test_read_back(self) -> None:
        """
        A route's path, method and docstring are read; one that leads on is left out.
        """
        app = Klein()

        @app.route("/things/<id>", methods=["DELETE"])
        def forget(request: Any, id: str) -> bytes:
            """
            Forgets it.  It is `gone`
            then.
            """
            return b""

        @app.route("/others", branch=True)
        def others(request: Any) -> Any:
            return None

        route = Route("/x/things/{id}", "DELETE", "forget", "Forgets it.", "It is gone then.")
        self.assertEqual([*routes_of(app, "/x")], [route])


class DocumentTests(SynchronousTestCase):
    """
    Tests for the description.
    """

    def test_all_paths(self) -> None:
        """
        It has every route but those of pages, and a path for each task.
        """
        tasks = {f"/kiro/{name}" for name in builtin_tasks()}
        pages = {"/", "/docs/{name}", "/kiro/{name}"}
        self.assertEqual({*described()["paths"]}, {each.path for each in ROUTES} - pages | tasks)

    def test_references(self) -> None:
        """
        Every reference leads somewhere.
        """
        found = described(calls_back=True, needs_token=True)
        for each in {*references(found)}:
            self.assertIsNotNone(at(found, each), each)

    def test_names(self) -> None:
        """
        No two operations have the same name.
        """
        names = [
            operation["operationId"]
            for operations in described()["paths"].values()
            for operation in operations.values()
        ]
        self.assertEqual(len(names), len({*names}))

    def test_schemas(self) -> None:
        """
        Every schema is one, and every example fits its own.
        """
        found = described()
        for name, schema in found["components"]["schemas"].items():
            Draft202012Validator.check_schema(schema)
            self.assertRegex(name, r"^[a-zA-Z0-9._-]+$")
        for operations in found["paths"].values():
            for operation in operations.values():
                for content in operation.get("requestBody", {}).get("content", {}).values():
                    whole = {**found, **content["schema"]}
                    Draft202012Validator(whole).validate(content["example"])

    def test_own_references(self) -> None:
        """
        A task's schema that refers to itself does so in its place in the description.
        """
        task = builtin_tasks()["generate-story"]
        schema = {
            "type": "object",
            "properties": {"tree": {"$ref": "#/$defs/tree"}},
            "$defs": {"tree": {"type": "object", "properties": {"of": {"$ref": "#/$defs/tree"}}}},
        }
        found = described(tasks={"plant": evolve(task, name="plant", answer_schema=schema)})
        place = "#/components/schemas/plant.answer/$defs/tree"
        answer = found["components"]["schemas"]["plant.answer"]
        self.assertEqual(answer["properties"]["tree"], {"$ref": place})
        self.assertEqual(at(found, place)["properties"]["of"], {"$ref": place})

    def test_security(self) -> None:
        """
        A token is asked for where the server wants one, for what each operation needs.
        """
        open_to_all, closed = described(), described(needs_token=True)
        health = closed["paths"]["/health"]["get"]
        self.assertEqual(health["security"], [{"token": ["watch"]}])
        self.assertIn("401", health["responses"])
        self.assertNotIn("security", closed["paths"]["/ready"]["get"])
        self.assertNotIn("securitySchemes", open_to_all["components"])
        self.assertNotIn("401", open_to_all["paths"]["/health"]["get"]["responses"])

    def test_callbacks(self) -> None:
        """
        Callbacks are described where the server calls back.
        """
        self.assertNotIn("Callback", described()["components"]["parameters"])
        self.assertIn("Callback", described(calls_back=True)["components"]["parameters"])

    def test_agents(self) -> None:
        """
        Agents are chosen from those that answer.
        """
        agent = described()["components"]["parameters"]["Agent"]
        self.assertEqual(agent["schema"]["enum"], ["kiro", "gemini"])


class NullsTests(SynchronousTestCase):
    """
    Tests for `with_nulls`.
    """

    def test_as_tasks_accept(self) -> None:
        """
        Null is accepted where a task takes it for nothing, at any depth, and nowhere else.
        """
        task = builtin_tasks()["generate-story"]
        published = Draft202012Validator(with_nulls(task.input_schema))
        for body, fits in (
            ({"idea": "x", "parentStory": None}, True),
            ({"idea": "x", "components": None}, True),
            ({"idea": None}, False),
            ({"idea": "x", "parentStory": {"title": None}}, False),
            ({"idea": "x", "components": [None]}, False),
        ):
            self.assertIs(published.is_valid(body), fits, body)
            if fits:
                task.accept(body)

    def test_kinds(self) -> None:
        """
        Whatever an optional property is said to be, null may stand in its place.
        """
        for schema in ({"enum": ["a"]}, {"$ref": "#/$defs/a"}, {"type": ["string", "integer"]}, {}):
            whole = {"properties": {"x": schema}, "$defs": {"a": {"const": 1}}}
            self.assertTrue(Draft202012Validator(with_nulls(whole)).is_valid({"x": None}), schema)


class RefusalsTests(SynchronousTestCase):
    """
    Tests for the codes of failures.
    """

    def test_complete(self) -> None:
        """
        Every refusal in the code of the door is described, with its status.
        """
        described = codes()
        self.assertEqual({*described}, {*MEANING})
        found = []
        for path in Path(kiroworkers.web.__file__).parent.rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                match node:
                    case ast.Call(
                        func=ast.Name(id="HttpError"),
                        args=[ast.Constant(value=int(status)), ast.Constant(value=str(code)), *_],
                    ):
                        found.append((status, code))
        self.assertIn((403, "wrong_host"), found)
        for status, code in found:
            self.assertIn(code, described[status])
