"""
Tests for `kiroworkers.web.openapi`.

They check the document itself; `tests.end_to_end.test_openapi` checks a server against it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from attrs import evolve
from jsonschema import Draft202012Validator
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.errors import CATALOGUE
from kiroworkers.tasks import builtin_tasks
from kiroworkers.web.app import Application
from kiroworkers.web.openapi.document import build_document
from kiroworkers.web.openapi.failures import schema_name
from kiroworkers.web.openapi.schemas import ref
from kiroworkers.web.openapi.task_schemas import with_nulls
from kiroworkers.web.routing import routes_of

#: What a document with everything in it is made with.
EVERYTHING: Any = {
    "needs_token": True,
    "has_callbacks": True,
    "models": ["kiro/a", "gemini/b/c", "gemini/a"],
}

#: Keywords whose value is a list of schemas for the same value.
COMBINATORS = ("anyOf", "allOf", "oneOf")


def document_of(**options: Any) -> dict[str, Any]:
    """
    Return the document of a server with the built-in tasks.
    """
    tasks = options.pop("tasks", builtin_tasks())
    return build_document(routes_of(Application.app), tasks, ["kiro", "gemini"], **options)


def references(value: Any) -> Iterator[str]:
    """
    Yield every reference in `value`.
    """
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for item in value.values():
            yield from references(item)
    if isinstance(value, list | tuple):
        for item in value:
            yield from references(item)


def at(value: Any, location: str) -> Any:
    """
    Return what `value` has at a `location` such as ``#/a/b``.
    """
    for step in location.removeprefix("#").split("/")[1:]:
        value = value[step]
    return value


def document_texts(document: Any) -> Iterator[tuple[str, str]]:
    """
    Yield the location and the text of every summary and description that a document must
    have; the text is empty where there is none.
    """
    info, components = document["info"], document["components"]
    yield from (("info.summary", info["summary"]), ("info.description", info["description"]))
    for tag in document["tags"]:
        yield f"tag {tag['name']}", tag.get("description", "")
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            yield from operation_texts(operation, f"{method} {path}")
    for name, schema in components["schemas"].items():
        yield f"schema {name}", schema.get("description", "")
        yield from property_texts(schema, name)
    for kind in ("parameters", "headers", "responses", "securitySchemes"):
        for name, component in components[kind].items():
            yield f"{kind} {name}", component.get("description", "")
            for example, value in component.get("examples", {}).items():
                yield f"{kind} {name} {example}", value.get("summary", "")


def operation_texts(operation: Any, location: str) -> Iterator[tuple[str, str]]:
    """
    Yield the texts of an operation, as `document_texts`.
    """
    yield f"{location} summary", operation.get("summary", "")
    if "description" in operation:
        yield f"{location} description", operation["description"]
    if "requestBody" in operation:
        yield f"{location} body", operation["requestBody"].get("description", "")
    for status, response in operation["responses"].items():
        if "$ref" in response:
            continue
        yield f"{location} {status}", response.get("description", "")
        for name, link in response.get("links", {}).items():
            yield f"{location} {status} {name}", link.get("description", "")
        for media_type, content in response.get("content", {}).items():
            yield from property_texts(content["schema"], f"{location} {status} {media_type}")


def property_texts(
    schema: Any, location: str, described: frozenset[str] = frozenset()
) -> Iterator[tuple[str, str]]:
    """
    Yield the texts of the properties of `schema`, at any depth, as `document_texts`.

    Those in `described` need none: they were described beside a branch that restricts them.
    """
    if not isinstance(schema, dict):
        return
    properties = schema.get("properties", {})
    for name, inner in properties.items():
        if "description" in inner or name not in described:
            yield f"{location}.{name}", inner.get("description", "")
        yield from property_texts(inner, f"{location}.{name}")
    described |= {name for name, inner in properties.items() if "description" in inner}
    for keyword in COMBINATORS:
        for branch in schema.get(keyword, ()):
            yield from property_texts(branch, f"{location}({keyword})", described)
    for keyword in ("items", "additionalProperties"):
        yield from property_texts(schema.get(keyword), f"{location}[]")


class TextTests(SynchronousTestCase):
    """
    Tests for the summaries and descriptions.
    """

    def test_complete(self) -> None:
        """
        Every property, parameter, header, response, tag and operation is described.
        """
        texts = [*document_texts(document_of(**EVERYTHING))]
        self.assertEqual([location for location, text in texts if not text.strip()], [])

    def test_sentences(self) -> None:
        """
        Every summary and description consists of sentences that are not questions.
        """
        for location, text in document_texts(document_of(**EVERYTHING)):
            self.assertTrue(text.endswith("."), f"{location}: {text}")
            self.assertNotRegex(text, r"\?(\s|$)", location)

    def test_walk(self) -> None:
        """
        A property without a description is found wherever it is, but for one that a branch
        only restricts.
        """
        bare: Any = {"type": "object", "properties": {"bare": {}}}
        told: Any = {"properties": {"told": {"description": "It."}}}
        for schema in (
            bare,
            {"items": bare},
            {"additionalProperties": bare},
            {"anyOf": [told, bare]},
            {"properties": {"told": {**bare, "description": "It."}}},
        ):
            missing = [place for place, text in property_texts(schema, "x") if not text]
            self.assertEqual(len(missing), 1, schema)
        restricted = {**told, "anyOf": [{"properties": {"told": {"type": "string"}}}]}
        self.assertEqual([*property_texts(restricted, "x")], [("x.told", "It.")])


class DocumentTests(SynchronousTestCase):
    """
    Tests for the document.
    """

    def test_all_paths(self) -> None:
        """
        The document has every route but those of the page, and a path for each task.
        """
        tasks = {f"/kiro/{name}" for name in builtin_tasks()}
        undocumented = {"/", "/assets/{name}", "/docs/{name}", "/kiro/{task_name}"}
        paths = {route.path for route in routes_of(Application.app)} - undocumented | tasks
        self.assertEqual({*document_of()["paths"]}, paths)

    def test_references(self) -> None:
        """
        Every reference has a target.
        """
        document = document_of(**EVERYTHING)
        for reference in {*references(document)}:
            self.assertIsNotNone(at(document, reference), reference)

    def test_tags(self) -> None:
        """
        Every operation is in a group that the page shows, and no group is empty.
        """
        document = document_of()
        used = {
            operation["tags"][0]
            for operations in document["paths"].values()
            for operation in operations.values()
        }
        self.assertEqual(used, {tag["name"] for tag in document["tags"]})

    def test_names(self) -> None:
        """
        No two operations have the same name, and the names stay.
        """
        names = [
            operation["operationId"]
            for operations in document_of()["paths"].values()
            for operation in operations.values()
        ]
        self.assertEqual(len(names), len({*names}))
        tasks = {f"ask-{name}" for name in builtin_tasks()}
        # Generated clients name their functions after these.
        self.assertEqual(
            {*names} - tasks,
            {
                *("catalogue", "jobs", "job", "cancel", "models", "model", "complete"),
                *("create_response", "create_message", "count_tokens"),
                *("health", "cluster", "metrics", "ready", "queue", "approvals", "decide"),
                *("pause", "resume", "renew"),
                *("set_workers", "drain", "restart", "docs", "openapi"),
                *("session", "sign_in", "sign_out", "watch"),
                *("job_events", "requests", "request_history"),
                *("recordings", "recording", "delete_recording"),
                *("terminal", "mcp", "end_mcp_session"),
            },
        )

    def test_schemas(self) -> None:
        """
        Every schema is valid, and every example fits its schema.
        """
        document = document_of()
        for name, schema in document["components"]["schemas"].items():
            Draft202012Validator.check_schema(schema)
            self.assertRegex(name, r"^[a-zA-Z0-9._-]+$")
        for operations in document["paths"].values():
            for operation in operations.values():
                for content in operation.get("requestBody", {}).get("content", {}).values():
                    whole = {**document, **content["schema"]}
                    Draft202012Validator(whole).validate(content["example"])

    def test_response_examples(self) -> None:
        """
        Every JSON response has an example, and each fits its schema.
        """
        document = document_of(**EVERYTHING)
        without = []
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                for status, response in operation["responses"].items():
                    resolved = at(document, response["$ref"]) if "$ref" in response else response
                    content = resolved.get("content", {}).get("application/json")
                    if content is None:
                        continue
                    validator = Draft202012Validator({**document, **content["schema"]})
                    named = content.get("examples", {}).values()
                    examples = [example["value"] for example in named]
                    examples += [content["example"]] if "example" in content else []
                    for example in examples:
                        validator.validate(example)
                    if not examples:
                        without.append(f"{method} {path} {status}")
        self.assertEqual(without, ["get /openapi.json 200"])

    def test_failures(self) -> None:
        """
        Every failure that an operation may meet has a schema of its own, which its code selects.
        """
        document = document_of(**EVERYTHING)
        mapping: dict[str, str] = {}
        for response in document["components"]["responses"].values():
            schema = response["content"]["application/json"]["schema"]
            if "oneOf" in schema:
                self.assertEqual(schema["discriminator"]["propertyName"], "code")
                mapping |= schema["discriminator"]["mapping"]
                self.assertEqual(len(schema["oneOf"]), len(schema["discriminator"]["mapping"]))
        for code, reference in mapping.items():
            schema = at(document, reference)
            self.assertEqual(schema["properties"]["code"]["const"], code)
            self.assertLessEqual({"error", "code"}, {*schema["required"]})
        schemas = document["components"]["schemas"]
        codes = {code.value for code in CATALOGUE}
        self.assertEqual({*schemas["ErrorCode"]["enum"]}, codes)
        self.assertLessEqual({schema_name(code) for code in CATALOGUE}, {*schemas})

    def test_failures_of_operation(self) -> None:
        """
        An operation lists the failures that it may meet, and not others of the same status.
        """
        document = document_of()
        missing = {}
        for path in ("/jobs/{id}", "/operator/workers/{name}/drain"):
            [operation] = [*document["paths"][path].values()][:1]
            response = at(document, operation["responses"]["404"]["$ref"])
            missing[path] = [*response["content"]["application/json"]["examples"]]
        self.assertEqual(
            missing,
            {
                "/jobs/{id}": ["unknown_job"],
                "/operator/workers/{name}/drain": ["unknown_worker"],
            },
        )

    def test_failures_beside_responses(self) -> None:
        """
        A failure with the status of another response is described beside it.
        """
        response = document_of()["paths"]["/ready"]["get"]["responses"]["503"]
        self.assertEqual(
            response["content"]["application/json"]["schema"],
            {"anyOf": [ref("Readiness"), ref("TooManyConnectionsFailure")]},
        )
        self.assertIn("`too_many_connections`: ", response["description"])

    def test_events(self) -> None:
        """
        The stream of a task is described event by event, with a schema for the data of each.
        """
        document = document_of()
        operation = document["paths"]["/kiro/generate-story"]["post"]
        text = operation["responses"]["200"]["content"]["text/event-stream"]["schema"][
            "description"
        ]
        for name, schema in document["components"]["schemas"]["TaskEvents"]["properties"].items():
            self.assertIn(f"- `{name}`", text)
            self.assertIn(schema["description"], text)

    def test_own_references(self) -> None:
        """
        A task's schema that refers to itself does so at its place in the document.
        """
        task = builtin_tasks()["generate-story"]
        schema = {
            "type": "object",
            "properties": {"tree": {"$ref": "#/$defs/tree"}},
            "$defs": {"tree": {"type": "object", "properties": {"of": {"$ref": "#/$defs/tree"}}}},
        }
        document = document_of(tasks={"plant": evolve(task, name="plant", answer_schema=schema)})
        location = "#/components/schemas/plant.answer/$defs/tree"
        answer = document["components"]["schemas"]["plant.answer"]
        self.assertEqual(answer["properties"]["tree"], {"$ref": location})
        self.assertEqual(at(document, location)["properties"]["of"], {"$ref": location})

    def test_security(self) -> None:
        """
        If the server requires tokens, each operation names the scope that it needs.
        """
        without_tokens, with_tokens = document_of(), document_of(needs_token=True)
        health = with_tokens["paths"]["/health"]["get"]
        scopes = [
            {scheme: [scope]} for scheme in ("token", "apiKey") for scope in ("watch", "operate")
        ]
        self.assertEqual(health["security"], scopes)
        self.assertIn("401", health["responses"])
        self.assertEqual(with_tokens["paths"]["/ready"]["get"]["security"], [])
        self.assertNotIn("security", without_tokens["paths"]["/health"]["get"])
        self.assertNotIn("securitySchemes", without_tokens["components"])
        self.assertNotIn("401", without_tokens["paths"]["/health"]["get"]["responses"])

    def test_callbacks(self) -> None:
        """
        The callback header is described only if the server sends callbacks.
        """
        self.assertNotIn("Callback", document_of()["components"]["parameters"])
        self.assertIn("Callback", document_of(has_callbacks=True)["components"]["parameters"])

    def test_agents(self) -> None:
        """
        The agents to choose from are those of the server.
        """
        components = document_of()["components"]
        self.assertEqual(components["parameters"]["Agent"]["schema"]["enum"], ["kiro", "gemini"])
        models = components["schemas"]["Chat"]["properties"]["model"]["enum"]
        self.assertEqual(models, ["kiro", "gemini", "default", "kiroworkers"])

    def test_models(self) -> None:
        """
        The models to choose from are those that the agents offer, and there is no header for
        them if there are none.
        """
        components = document_of(**EVERYTHING)["components"]
        self.assertEqual(components["parameters"]["AgentModel"]["schema"]["enum"], ["a", "b/c"])
        models = components["schemas"]["Chat"]["properties"]["model"]["enum"]
        self.assertEqual(models[-3:], EVERYTHING["models"])
        self.assertNotIn("AgentModel", document_of()["components"]["parameters"])


class NullsTests(SynchronousTestCase):
    """
    Tests for `with_nulls`.
    """

    def test_as_tasks_accept(self) -> None:
        """
        Null is accepted in place of an optional property, at any depth, and nowhere else.
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
        Whatever the schema of an optional property is, null is accepted in its place.
        """
        for schema in ({"enum": ["a"]}, {"$ref": "#/$defs/a"}, {"type": ["string", "integer"]}, {}):
            whole = {"properties": {"x": schema}, "$defs": {"a": {"const": 1}}}
            self.assertTrue(Draft202012Validator(with_nulls(whole)).is_valid({"x": None}), schema)

    def test_description(self) -> None:
        """
        The description of an optional property stays beside its name.
        """
        schema = {"properties": {"x": {"enum": ["a"], "description": "It."}}}
        nullable = {"anyOf": [{"enum": ["a"]}, {"type": "null"}], "description": "It."}
        self.assertEqual(with_nulls(schema), {"properties": {"x": nullable}})
