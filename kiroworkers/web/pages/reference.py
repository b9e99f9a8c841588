"""
A description in OpenAPI's form, as people read it: a table of fields for each schema,
a command line for each operation.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from shlex import quote
from typing import Any

from attrs import frozen

#: A schema that refers to itself goes on for ever.
_DEEPEST = 6

_METHODS = ("get", "post", "put", "delete")


@frozen
class FieldRow:
    """
    A field of an object, by its dotted path.
    """

    path: str
    kind: str
    required: bool
    description: str


@frozen
class OperationView:
    """
    One operation.

    Attributes:
        id: of its place in the page.
        parts: the schemas of its body and of its responses, each with a title.
        example: of its body, as text.
    """

    id: str
    method: str
    path: str
    about: Mapping[str, Any]
    parameters: tuple[Mapping[str, Any], ...]
    body: Mapping[str, Any] | None
    responses: Mapping[str, Mapping[str, Any]]
    example: str | None

    @property
    def tries(self) -> bool:
        """
        Can it be tried with nothing but a body?
        """
        return self.example is not None and "{" not in self.path


class ApiReference:
    """
    Reads `description`, a document of OpenAPI 3.1.
    """

    def __init__(self, description: Mapping[str, Any]) -> None:
        self._description = description
        self.info = description["info"]
        self.needs_token = "securitySchemes" in description["components"]

    def groups(self) -> Iterator[tuple[Mapping[str, Any], list[OperationView]]]:
        """
        Each tag, and its operations.
        """
        shown = [
            self._shown(path, method, operation)
            for path, operations in self._description["paths"].items()
            for method, operation in operations.items()
            if method in _METHODS
        ]
        # What can be tried comes first.
        shown.sort(key=lambda each: not each.tries)
        for tag in self._description["tags"]:
            yield tag, [each for each in shown if each.about["tags"] == [tag["name"]]]

    def schemas(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """
        The schemas that operations share, by their names.
        """
        for name, schema in self._description["components"]["schemas"].items():
            if _is_shared(name):
                yield name, schema

    def shared(self, schema: Mapping[str, Any]) -> str | None:
        """
        The name of the shared schema that `schema` refers to; None where it is none.
        """
        name = str(schema.get("$ref", "")).rpartition("/")[2]
        return name if name and _is_shared(name) else None

    def failures(self) -> Iterator[tuple[str, str]]:
        """
        The statuses of failures, and what each means.
        """
        for status, response in self._description["components"]["responses"].items():
            if status.isdigit():
                yield status, response["description"]

    def fields(self, schema: Mapping[str, Any]) -> list[FieldRow]:
        """
        What stands in an object that fits `schema`.
        """
        return [*self._fields(schema, "", 0)]

    def kind(self, schema: Mapping[str, Any]) -> str:
        """
        What fits `schema`, in a few words.
        """
        if "$ref" in schema:
            return str(schema["$ref"]).rpartition("/")[2]
        if "const" in schema:
            return json.dumps(schema["const"])
        if "enum" in schema:
            return " | ".join(json.dumps(each) for each in schema["enum"])
        for key in ("anyOf", "oneOf"):
            if key in schema and "type" not in schema:
                return " or ".join(dict.fromkeys(self.kind(each) for each in schema[key]))
        kinds = schema.get("type", "anything")
        words = [
            self._word(each, schema) for each in ([kinds] if isinstance(kinds, str) else kinds)
        ]
        return " or ".join(words) + _bounds(schema)

    def resolved(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        """
        `schema`, or the component that it refers to.
        """
        found: Any = schema
        if "$ref" in schema:
            found = self._description
            for step in schema["$ref"].removeprefix("#/").split("/"):
                found = found[step.replace("~1", "/").replace("~0", "~")]
        return found  # type: ignore[no-any-return]

    def command(self, operation: OperationView) -> str:
        """
        How to ask with curl.
        """
        words = ["curl"]
        if operation.method != "get":
            words += ["-X", operation.method.upper()]
        if self.needs_token and operation.about.get("security"):
            words += ["-H", '"Authorization: Bearer $TOKEN"']
        url = "$BASE" + operation.path
        if operation.example is None:
            return " ".join([*words, f'"{url}"'])
        example = json.dumps(json.loads(operation.example))
        return " ".join(
            [*words, f'"{url}"', "\\\n  -H 'Content-Type: application/json' -d", quote(example)]
        )

    def _shown(self, path: str, method: str, operation: Mapping[str, Any]) -> OperationView:
        content = operation.get("requestBody", {}).get("content", {})
        body = content.get("application/json")
        example = body.get("example") if body else None
        return OperationView(
            id=operation["operationId"],
            method=method,
            path=path,
            about=operation,
            parameters=tuple(map(self.resolved, operation["parameters"])),
            body=body["schema"] if body else None,
            responses={
                status: self.resolved(each) for status, each in operation["responses"].items()
            },
            example=None if example is None else json.dumps(example, indent=2, ensure_ascii=False),
        )

    def _fields(self, schema: Mapping[str, Any], prefix: str, depth: int) -> Iterator[FieldRow]:
        if depth == 0:
            schema = self.resolved(schema)
        required = schema.get("required", ())
        for name, each in schema.get("properties", {}).items():
            path = f"{prefix}{name}"
            description = str(each.get("description", ""))
            yield FieldRow(path, self.kind(each), name in required, description)
            if depth < _DEEPEST:
                yield from self._fields(each, f"{path}.", depth + 1)
        items = schema.get("items")
        if isinstance(items, Mapping) and depth < _DEEPEST:
            yield from self._fields(items, f"{prefix.removesuffix('.')}[].", depth + 1)

    def _word(self, kind: str, schema: Mapping[str, Any]) -> str:
        if kind == "array":
            items = schema.get("items")
            return f"list of {self.kind(items)}" if isinstance(items, Mapping) else "list"
        others = schema.get("additionalProperties")
        if kind == "object" and isinstance(others, Mapping) and others:
            return f"map of {self.kind(others)}"
        return kind


def _is_shared(name: str) -> bool:
    """
    Is the schema `name` no task's?
    """
    return "." not in name


def _bounds(schema: Mapping[str, Any]) -> str:
    """
    What else must hold, for what people are likely to trip over.
    """
    words = []
    for key, word in (
        ("minimum", "at least"),
        ("exclusiveMinimum", "above"),
        ("maximum", "at most"),
        ("exclusiveMaximum", "below"),
        ("minLength", "characters: at least"),
        ("maxLength", "characters: at most"),
        ("minItems", "items: at least"),
        ("maxItems", "items: at most"),
    ):
        if key in schema:
            words.append(f"{word} {schema[key]}")
    if "pattern" in schema:
        pattern = schema["pattern"]
        words.append("not blank" if pattern == r"\S" else f"matches {pattern}")
    if "default" in schema:
        words.append(f"default {json.dumps(schema['default'])}")
    return "".join(f", {each}" for each in words)
