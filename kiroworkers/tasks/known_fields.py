"""
Find the fields of a request that its task does not know.

A field is known if a ``properties`` of the schema has it, also one that is reached through
``allOf``, ``anyOf``, ``oneOf``, ``if``, ``then``, ``else``, ``dependentSchemas`` or a ``$ref``
to ``#/…``.  Objects in fields and in lists are looked at in the same way.

An object is open, and all its fields count as known, if its schema lists no properties or
allows others by ``patternProperties``, ``additionalProperties`` or ``unevaluatedProperties``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, TypeAlias
from urllib.parse import unquote

from attrs import field, frozen

from kiroworkers.json_schema import dotted

#: The longest name that is reported, in characters.
_MAX_NAME_LENGTH = 100

#: Keywords whose schemas apply to the same value.
_LISTS_OF_PARTS = ("allOf", "anyOf", "oneOf")
_PARTS = ("if", "then", "else")

#: Keywords that allow fields which ``properties`` does not list, unless they are false.
_OPENING = ("patternProperties", "additionalProperties", "unevaluatedProperties", "$dynamicRef")

#: The steps to a value, innermost first.
_Path: TypeAlias = "tuple[_Path, str | int] | None"


@frozen
class UnknownField:
    """
    Describe a field that a request has and its task does not know.

    Attributes:
        path: The dotted path of the field.
        parent: The dotted path of the object that has it; empty for the request itself.
        name: The name of the field.
        unused: The names that the schema has and the object has not.
    """

    path: str
    parent: str
    name: str
    unused: tuple[str, ...]

    @property
    def nearest(self) -> str:
        """
        Return the name that the client probably meant, empty if there is none.
        """
        names = {_plain(name): name for name in self.unused}
        near = get_close_matches(_plain(self.name), names, 1)
        return names[near[0]] if near else ""

    @property
    def sentence(self) -> str:
        """
        Return a sentence for the client, with the nearest name that the task knows.
        """
        hint = f"; did you mean {self.nearest}?" if self.nearest else ""
        path = self.path or '""'
        return f"{path} is an unknown field{hint}"


@frozen
class _Fields:
    """
    Hold what the schemas of one value say about its fields and its items.

    Attributes:
        schemas: The schemas of each field.
        lists: What each schema of a list has: the schemas of the first items, and that of all
            others, which may be None.
        is_open: Whether an object may have other fields.
    """

    schemas: Mapping[str, tuple[Any, ...]]
    lists: tuple[tuple[Sequence[Any], Any], ...]
    is_open: bool

    @property
    def prefix_length(self) -> int:
        """
        Return the number of items after which all have the same schemas.
        """
        return max((len(first) for first, _ in self.lists), default=0)

    def item(self, number: int) -> tuple[Any, ...]:
        """
        Return the schemas of the item with that `number`.
        """
        return tuple(first[number] if number < len(first) else rest for first, rest in self.lists)


@frozen
class KnownFields:
    """
    Find unknown fields in requests that are to fit `schema`.
    """

    schema: Mapping[str, Any]
    _cache: dict[tuple[int, ...], _Fields] = field(init=False, factory=dict, eq=False, repr=False)

    def unknown(self, request: Any, limit: int) -> list[UnknownField]:
        """
        Return the first unknown fields of `request`, outermost first.

        A field that is null counts as absent.

        Args:
            request: The body of the request, as parsed JSON.
            limit: The maximum number of fields to return.
        """
        unknown: list[UnknownField] = []
        pending: deque[tuple[_Path, _Fields, Any]] = deque()
        if isinstance(request, dict):
            pending.append((None, self._fields_of((self.schema,)), request))
        while pending and len(unknown) < limit:
            path, fields, value = pending.popleft()
            if isinstance(value, list):
                prefix_length = fields.prefix_length
                for number, item in enumerate(value if fields.lists else ()):
                    if number <= prefix_length:
                        known = self._fields_of(fields.item(number))
                    if isinstance(item, dict | list):
                        pending.append(((path, number), known, item))
                continue
            for name, item in value.items():
                if name in fields.schemas:
                    if isinstance(item, dict | list):
                        known = self._fields_of(fields.schemas[name])
                        pending.append(((path, name), known, item))
                elif not fields.is_open and item is not None:
                    unused = tuple(other for other in fields.schemas if value.get(other) is None)
                    unknown.append(_unknown_field(path, name, unused))
                    if len(unknown) == limit:
                        break
        return unknown

    def _fields_of(self, schemas: tuple[Any, ...]) -> _Fields:
        # They are parts of `schema`, so their identities are those of no other objects.
        key = tuple(map(id, schemas))
        if key not in self._cache:
            self._cache[key] = self._read(schemas)
        return self._cache[key]

    def _read(self, schemas: Iterable[Any]) -> _Fields:
        fields: dict[str, tuple[Any, ...]] = {}
        lists: list[tuple[Sequence[Any], Any]] = []
        is_open, is_closed = False, False
        for schema in self._parts(schemas):
            for name, subschema in schema.get("properties", {}).items():
                fields[name] = (*fields.get(name, ()), subschema)
            if "prefixItems" in schema or "items" in schema:
                lists.append((schema.get("prefixItems", ()), schema.get("items")))
            is_open = is_open or any(
                schema.get(keyword, False) is not False for keyword in _OPENING
            )
            is_open = is_open or ("$ref" in schema and self._resolve(schema["$ref"]) is None)
            is_closed = is_closed or schema.get("additionalProperties") is False
        return _Fields(fields, tuple(lists), is_open or not (fields or is_closed))

    def _parts(self, schemas: Iterable[Any]) -> Iterator[Mapping[str, Any]]:
        """
        Yield `schemas` and all schemas in them that apply to the same value.
        """
        pending, seen = [*schemas], set()
        while pending:
            schema = pending.pop(0)
            if not isinstance(schema, Mapping) or id(schema) in seen:
                continue
            seen.add(id(schema))
            yield schema
            for keyword in _LISTS_OF_PARTS:
                pending += schema.get(keyword, ())
            pending += [schema.get(keyword) for keyword in _PARTS]
            pending += schema.get("dependentSchemas", {}).values()
            pending.append(self._resolve(schema.get("$ref")))

    def _resolve(self, reference: Any) -> Any:
        """
        Return the part of the schema that `reference` points to; None if that is not known.
        """
        if not isinstance(reference, str) or reference[:2] not in ("#", "#/"):
            return None
        target: Any = self.schema
        for step in unquote(reference).split("/")[1:]:
            step = step.replace("~1", "/").replace("~0", "~")
            match target:
                case Mapping():
                    target = target.get(step)
                case list() if step.isdecimal() and int(step) < len(target):
                    target = target[int(step)]
                case _:
                    return None
        return target


def _unknown_field(path: _Path, name: str, unused: tuple[str, ...]) -> UnknownField:
    steps: list[str | int] = []
    while path is not None:
        path, step = path
        steps.insert(0, step)
    name = _shorten(name)
    return UnknownField(dotted([*steps, name]), dotted(steps), name, unused)


def _shorten(name: str) -> str:
    return name if len(name) <= _MAX_NAME_LENGTH else f"{name[: _MAX_NAME_LENGTH - 1]}…"


def _plain(name: str) -> str:
    """
    Return `name` in a form that is the same for ``parentStory`` and ``parent_story``.
    """
    return name.lower().replace("_", "").replace("-", "")
