"""
Normalize harmless differences between an agent's answer and its schema.

A model writes ``"Small"`` for ``small``, ``"5"`` for 5, or one string where the
schema wants a list of strings.  Where the schema leaves no doubt about the meaning,
the value is converted::

    >>> schema = {"properties": {"size": {"type": "integer"}}}
    >>> normalize_answer({"size": "5"}, schema)
    ({'size': 5}, (Change(field='size', kind='number'),))

Only values that do not fit are changed; a value that fits is returned as the same object.
Nothing is changed where the schema allows more than one reading: behind a reference, or
below ``anyOf`` and similar keywords.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from attrs import frozen

from kiroworkers.json_schema import kinds_of

Kind: TypeAlias = Literal["letter case", "number", "list"]

_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,17})?([eE][+-]?[0-9]{1,3})?")

#: Text that spells several items, or none, instead of being one.
_SPELLED_LIST = re.compile(r"^\s*[\[{]|[\n\r]")


@frozen
class Change:
    """
    Describe a change to a field.

    Attributes:
        field: The dotted path, without list indexes.
        kind: What was changed.
    """

    field: str
    kind: Kind


def normalize_answer(value: Any, schema: Mapping[str, Any]) -> tuple[Any, tuple[Change, ...]]:
    """
    Return `value` in the form that `schema` wants, and the distinct changes made.

    The result need not fit: other problems are left as they are.
    """
    changes: dict[Change, None] = {}
    return _normalize(value, schema, "", changes), tuple(changes)


def _normalize(value: Any, schema: Any, path: str, changes: dict[Change, None]) -> Any:
    if not isinstance(schema, Mapping):
        return value
    match value:
        case dict():
            properties = schema.get("properties", {})
            members = {
                name: _normalize(member, properties[name], _join_path(path, name), changes)
                if name in properties
                else member
                for name, member in value.items()
            }
            changed = any(members[name] is not value[name] for name in value)
            return members if changed else value
        case list():
            # Next to `prefixItems`, `items` applies to some of the items only.
            item_schema = None if "prefixItems" in schema else schema.get("items")
            items = [_normalize(item, item_schema, path, changes) for item in value]
            same = all(new is old for new, old in zip(items, value, strict=True))
            return value if same else items
        case str():
            return _convert(value, schema, path, changes)
    return value


def _convert(text: str, schema: Mapping[str, Any], path: str, changes: dict[Change, None]) -> Any:
    """
    Return the only value that `text` can stand for under `schema`, or `text` itself.
    """
    kinds = kinds_of(schema)
    value: Any = None
    kind: Kind = "letter case"
    if "enum" in schema and kinds <= {"string", ""}:
        value = _match_case(text, schema["enum"])
    elif kinds in ({"integer"}, {"number"}):
        value, kind = _parse_number(text, kinds == {"integer"}), "number"
    elif kinds == {"array"} and _is_single_item(text, schema):
        item = _normalize(text, schema.get("items"), path, changes)
        value, kind = [item], "list"
    if value is None:
        return text
    changes.setdefault(Change(path, kind))
    return value


def _match_case(text: str, choices: list[Any]) -> str | None:
    """
    Return the only one of `choices` that differs from `text` in letter case alone.
    """
    if text in choices:
        return None
    folded = text.casefold()
    matches = [word for word in choices if isinstance(word, str) and word.casefold() == folded]
    return matches[0] if len(matches) == 1 else None


def _is_single_item(text: str, schema: Mapping[str, Any]) -> bool:
    """
    Return whether `text` is one item of the list of strings that `schema` wants.

    Text that spells out a whole list, or an empty one, is not an item.
    """
    items = schema.get("items")
    if "prefixItems" in schema or not isinstance(items, Mapping):
        return False
    strings = kinds_of(items, "string" if "enum" in items else "") == {"string"}
    return strings and bool(text.strip()) and not _SPELLED_LIST.search(text)


def _parse_number(text: str, integer: bool) -> int | float | None:
    """
    Return the number that `text` represents in JSON, or None.
    """
    if _INTEGER.fullmatch(text):
        return int(text)
    if integer or not _NUMBER.fullmatch(text):
        return None
    number = float(text)
    return number if math.isfinite(number) else None


def _join_path(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
