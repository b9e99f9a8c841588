"""
Harmless differences between what an agent said and what was asked for.

A model writes ``"Small"`` for ``small``, ``"5"`` for 5, or one string where a list
of them is wanted.  Where the schema's own words leave no doubt what is meant, the
value is brought into its form::

    >>> schema = {"properties": {"size": {"type": "integer"}}}
    >>> normalised({"size": "5"}, schema)
    ({'size': 5}, (Change(field='size', kind='number'),))

Only what cannot fit as it is is touched: each of the three is a violation of the
very keyword that says what is wanted.  So what fits comes back as it is, the same
object.  Nothing is done where the schema allows more than one reading, by a
reference, or below ``anyOf`` and its like.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from attrs import frozen

from kiroworkers.json_schema import kinds_of

Kind: TypeAlias = Literal["letter case", "number", "list"]

_WHOLE = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,17})?([eE][+-]?[0-9]{1,3})?")

_WRITTEN_LIST = re.compile(r"^\s*[\[{]|[\n\r]")


@frozen
class Change:
    """
    What was done to a field: its dotted path, without the places in lists.
    """

    field: str
    kind: Kind


def normalize_answer(value: Any, schema: Mapping[str, Any]) -> tuple[Any, tuple[Change, ...]]:
    """
    `value` in the form that `schema` wants, and what was done to it, each but
    once.  It need not fit: what else is wrong stays as it is.
    """
    changes: dict[Change, None] = {}
    return _normalised(value, schema, "", changes), tuple(changes)


def _normalised(value: Any, schema: Any, path: str, changes: dict[Change, None]) -> Any:
    if not isinstance(schema, Mapping):
        return value
    match value:
        case dict():
            found: Any = {
                name: _normalised(each, schema["properties"][name], _below(path, name), changes)
                if name in schema.get("properties", {})
                else each
                for name, each in value.items()
            }
            return found if any(found[name] is not value[name] for name in value) else value
        case list():
            # Beside `prefixItems` it is for some of the items only.
            items = None if "prefixItems" in schema else schema.get("items")
            found = [_normalised(each, items, path, changes) for each in value]
            same = all(new is old for new, old in zip(found, value, strict=True))
            return value if same else found
        case str():
            return _reading(value, schema, path, changes)
    return value


def _reading(text: str, schema: Mapping[str, Any], path: str, changes: dict[Change, None]) -> Any:
    """
    The one thing that `text` can mean where `schema` applies; itself if there is
    none.
    """
    kinds = kinds_of(schema)
    found: Any = None
    kind: Kind = "letter case"
    if "enum" in schema and kinds <= {"string", ""}:
        found = _as_spelt(text, schema["enum"])
    elif kinds in ({"integer"}, {"number"}):
        found, kind = _number(text, kinds == {"integer"}), "number"
    elif kinds == {"array"} and _is_one_of_many(text, schema):
        item = _normalised(text, schema.get("items"), path, changes)
        found, kind = [item], "list"
    if found is None:
        return text
    changes.setdefault(Change(path, kind))
    return found


def _as_spelt(text: str, words: list[Any]) -> str | None:
    """
    The one of `words` that is `text` in other letters.
    """
    if text in words:
        return None
    same = [each for each in words if isinstance(each, str) and each.casefold() == text.casefold()]
    return same[0] if len(same) == 1 else None


def _is_one_of_many(text: str, schema: Mapping[str, Any]) -> bool:
    """
    Is `text` one item of the strings that `schema` wants a list of, and not all
    of them, or none, written as a text?
    """
    items = schema.get("items")
    if "prefixItems" in schema or not isinstance(items, Mapping):
        return False
    strings = kinds_of(items, "string" if "enum" in items else "") == {"string"}
    return strings and bool(text.strip()) and not _WRITTEN_LIST.search(text)


def _number(text: str, whole: bool) -> int | float | None:
    """
    The number that JSON would read in `text`.
    """
    if _WHOLE.fullmatch(text):
        return int(text)
    if whole or not _NUMBER.fullmatch(text):
        return None
    number = float(text)
    return number if math.isfinite(number) else None


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
