"""
Prepare an OpenAPI document for the API page.

Each schema becomes a table of fields, and each operation gets a command line.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from shlex import quote
from typing import Any

from attrs import frozen

#: Levels of nested fields that are shown.  A schema that contains itself has no end.
_MAX_DEPTH = 6

_METHODS = ("get", "post", "put", "delete")

#: How the page words the keywords that clients are likely to violate.
_CONSTRAINTS = (
    ("minimum", "at least {}"),
    ("exclusiveMinimum", "above {}"),
    ("maximum", "at most {}"),
    ("exclusiveMaximum", "below {}"),
    ("minLength", "{} or more characters"),
    ("maxLength", "at most {} characters"),
    ("minItems", "{} or more items"),
    ("maxItems", "at most {} items"),
)


@frozen
class FieldRow:
    """
    Hold a row in a table of fields.

    Attributes:
        path: The field's dotted path; ``[]`` stands for the items of a list.
        type: The field's type and constraints in words.
        required: Whether the field is always there.
        description: What the field means.
        link: Name of the shared schema of the field or of its items; None if it has none.
    """

    path: str
    type: str
    required: bool
    description: str
    link: str | None = None


@frozen
class OperationView:
    """
    Hold an operation, with references resolved.

    Attributes:
        id: The operation's id, which is also its anchor on the page.
        method: The HTTP method, in lower case.
        path: The path, with its variable parts in braces.
        spec: The OpenAPI operation object.
        parameters: The parameter objects.
        body: The schema of the request body; None if there is none.
        responses: The response objects by status.
        example: An example of the request body, as JSON text; None if there is none.
    """

    id: str
    method: str
    path: str
    spec: Mapping[str, Any]
    parameters: tuple[Mapping[str, Any], ...]
    body: Mapping[str, Any] | None
    responses: Mapping[str, Mapping[str, Any]]
    example: str | None

    @property
    def can_try(self) -> bool:
        """
        Return whether the page can send the operation's example as it is.
        """
        return self.example is not None and "{" not in self.path


class ApiReference:
    """
    Give the API page the parts of an OpenAPI 3.1 document.

    Attributes:
        info: The document's info object.
        needs_token: Whether the server requires tokens.

    Args:
        document: An OpenAPI document, as `build_document` makes it.
    """

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document
        self.info = document["info"]
        self.needs_token = "securitySchemes" in document["components"]

    def groups(self) -> Iterator[tuple[Mapping[str, Any], list[OperationView]]]:
        """
        Yield each tag object and its operations, starting with those that the page can try.
        """
        operations = [
            self._operation_view(path, method, spec)
            for path, specs in self._document["paths"].items()
            for method, spec in specs.items()
            if method in _METHODS
        ]
        operations.sort(key=lambda operation: not operation.can_try)
        for tag in self._document["tags"]:
            yield tag, [view for view in operations if view.spec["tags"] == [tag["name"]]]

    def schemas(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """
        Yield the name and the schema of each component that operations share.
        """
        for name, schema in self._document["components"]["schemas"].items():
            if _is_shared(name):
                yield name, schema

    def shared_name(self, schema: Mapping[str, Any]) -> str | None:
        """
        Return the name of the shared component that `schema` refers to, or None.
        """
        name = str(schema.get("$ref", "")).rpartition("/")[2]
        return name if name and _is_shared(name) else None

    def failures(self) -> Iterator[tuple[str, str]]:
        """
        Yield each status of a failure, and what it means.
        """
        for status, response in self._document["components"]["responses"].items():
            if status.isdigit():
                yield status, response["description"]

    def fields(self, schema: Mapping[str, Any]) -> list[FieldRow]:
        """
        Return a row for each field of an object that fits `schema`, nested ones included.
        """
        return [*self._fields(schema, "", 0)]

    def type_of(self, schema: Mapping[str, Any]) -> str:
        """
        Return the type and the constraints of `schema` in words.
        """
        if "$ref" in schema:
            return str(schema["$ref"]).rpartition("/")[2]
        if "const" in schema:
            return json.dumps(schema["const"])
        if "enum" in schema:
            return " | ".join(json.dumps(value) for value in schema["enum"])
        for key in ("anyOf", "oneOf"):
            if key in schema and "type" not in schema:
                return " or ".join(dict.fromkeys(self.type_of(branch) for branch in schema[key]))
        types = schema.get("type", "anything")
        names = [
            self._type_name(name, schema) for name in ([types] if isinstance(types, str) else types)
        ]
        return ", ".join([" or ".join(names), *_constraints(schema)])

    def resolve(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        """
        Return the component that `schema` refers to, or `schema` if it is not a reference.
        """
        if "$ref" not in schema:
            return schema
        target: Any = self._document
        for step in schema["$ref"].removeprefix("#/").split("/"):
            target = target[step.replace("~1", "/").replace("~0", "~")]
        return target  # type: ignore[no-any-return]

    def curl_command(self, operation: OperationView) -> str:
        """
        Return a shell command that sends the operation's example.

        The command expects the server's address in ``$BASE`` and a token in ``$TOKEN``.
        """
        words = ["curl"]
        if operation.method != "get":
            words += ["-X", operation.method.upper()]
        if self.needs_token and operation.spec.get("security"):
            words += ["-H", '"Authorization: Bearer $TOKEN"']
        url = "$BASE" + operation.path
        if operation.example is None:
            return " ".join([*words, f'"{url}"'])
        example = json.dumps(json.loads(operation.example))
        return " ".join(
            [*words, f'"{url}"', "\\\n  -H 'Content-Type: application/json' -d", quote(example)]
        )

    def _operation_view(self, path: str, method: str, spec: Mapping[str, Any]) -> OperationView:
        content = spec.get("requestBody", {}).get("content", {})
        body = content.get("application/json")
        example = body.get("example") if body else None
        return OperationView(
            id=spec["operationId"],
            method=method,
            path=path,
            spec=spec,
            parameters=tuple(map(self.resolve, spec["parameters"])),
            body=body["schema"] if body else None,
            responses={
                status: self.resolve(response) for status, response in spec["responses"].items()
            },
            example=None if example is None else json.dumps(example, indent=2, ensure_ascii=False),
        )

    def _fields(self, schema: Mapping[str, Any], prefix: str, depth: int) -> Iterator[FieldRow]:
        """
        Yield the rows of the fields of `schema`, whose paths begin with `prefix`.
        """
        if depth == 0:
            schema = self.resolve(schema)
        required = schema.get("required", ())
        for name, field in schema.get("properties", {}).items():
            path = f"{prefix}{name}"
            yield FieldRow(
                path,
                self.type_of(field),
                name in required,
                str(field.get("description", "")),
                self._link_of(field),
            )
            if depth < _MAX_DEPTH:
                yield from self._fields(field, f"{path}.", depth + 1)
        items = schema.get("items")
        if isinstance(items, Mapping) and depth < _MAX_DEPTH:
            yield from self._fields(items, f"{prefix.removesuffix('.')}[].", depth + 1)

    def _link_of(self, schema: Mapping[str, Any]) -> str | None:
        """
        Return the name of the shared component that `schema`, its items or values refer to.
        """
        for inner in (schema, schema.get("items"), schema.get("additionalProperties")):
            if isinstance(inner, Mapping):
                name = self.shared_name(inner)
                if name is not None:
                    return name
        return None

    def _type_name(self, name: str, schema: Mapping[str, Any]) -> str:
        """
        Return the JSON type `name` of `schema` in words, with the type of what it contains.
        """
        if name == "array":
            items = schema.get("items")
            return f"list of {self._nested_type(items)}" if isinstance(items, Mapping) else "list"
        values = schema.get("additionalProperties")
        if name == "object" and isinstance(values, Mapping) and values:
            return f"map of {self._nested_type(values)}"
        return name

    def _nested_type(self, schema: Mapping[str, Any]) -> str:
        """
        Return the type of `schema` in words, with its constraints in parentheses.
        """
        name, _, constraints = self.type_of(schema).partition(", ")
        return f"{name} ({constraints})" if constraints else name


def _is_shared(name: str) -> bool:
    """
    Return whether the schema component `name` does not belong to a task.
    """
    return "." not in name


def _constraints(schema: Mapping[str, Any]) -> list[str]:
    """
    Return, in words, the constraints on a value other than its type, and its default.
    """
    words = [text.format(schema[key]) for key, text in _CONSTRAINTS if key in schema]
    if "pattern" in schema:
        pattern = schema["pattern"]
        words.append("not blank" if pattern == r"\S" else f"matches {pattern}")
    if "default" in schema:
        words.append(f"default {json.dumps(schema['default'])}")
    return words
