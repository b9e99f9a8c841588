"""
Print ``dialect-keys.rst``, the page about the keys of a dialect file.

After a change of a class in ``kiroworkers/conversations/dialects/dialect.py``::

    python docs/dialect_keys.py > docs/dialect-keys.rst
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from inspect import getdoc
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

from attrs import NOTHING, Attribute, fields, has, resolve_types

from kiroworkers.conversations import Dialect
from kiroworkers.conversations.dialects.dialect import Version, key_of
from kiroworkers.conversations.failures import FAILURE_KINDS
from kiroworkers.errors import FailureKind

_HEAD = """\
The keys of a dialect file
==========================

`Writing a dialect <writing-a-dialect.rst>`_ explains the tables, and where their values come
from. ``kiro-classic.toml`` and ``kiro-tui.toml`` show them. With ``extends = "NAME"`` a file takes
the tables that it does not have from the built-in dialect ``NAME``. Its ``trouble`` is added before
that of ``NAME``.

A dialect has exactly one of ``prompt``, ``line``, ``signs`` and ``acp``. With ``acp`` it has no
``screen``, ``keys``, ``clear``, ``approval``, ``tools`` and ``menu``; otherwise it needs
``screen`` and ``keys``. A key without a default can be left out, unless it is required.

``docs/dialect_keys.py`` makes this page from the classes in
``kiroworkers/conversations/dialects/dialect.py``.

.. list-table::
   :header-rows: 1

   * - Key
     - Value
     - Default
     - Meaning
"""

#: The names of plain types.
_NAMES: Mapping[Any, str] = {
    str: "string",
    bytes: "string (must not be empty)",
    bool: "true or false",
    int: "integer",
    float: "number",
    re.Pattern[str]: "regular expression",
    re.Pattern[bytes]: "regular expression",
    Version: "version, such as 2.11",
    FailureKind: " or ".join(f"``{kind}``" for kind in FAILURE_KINDS),
}


def page() -> str:
    """
    Return the page.
    """
    return _HEAD + "".join(_rows(Dialect, ""))


def _rows(table: type, path: str) -> Iterator[str]:
    """
    Yield a row for each key of `table`, and for each one of the tables in it.

    Args:
        table: The class that declares the table.
        path: What comes before the table's keys, such as ``start.flags[].``.
    """
    meanings = _meanings(table)
    for attribute in fields(resolve_types(table)):
        key = path + key_of(attribute)
        yield f"   * - ``{key}``\n     - {_value(attribute.type)}\n"
        yield f"     - {_default(attribute)}\n     - {meanings[attribute.name]}\n"
        for inner, end in _inner_tables(attribute.type):
            yield from _rows(inner, key + end)


def _meanings(table: type) -> dict[str, str]:
    """
    Return the first clause about each attribute in the docstring of `table`.
    """
    attributes = (getdoc(table) or "").partition("Attributes:")[2]
    meanings = re.findall(r"^    (\w+): (.+(?:\n {8}.+)*)", attributes, re.M)
    clauses = {name: re.split(r"[.;](?:\s|$)", text)[0] for name, text in meanings}
    return {name: re.sub("`+", "``", " ".join(clause.split())) for name, clause in clauses.items()}


def _value(kind: Any) -> str:
    """
    Return a description of the values that the type `kind` stands for.
    """
    if kind in _NAMES:
        return _NAMES[kind]
    if has(kind):
        return "table"
    inner = [part for part in get_args(kind) if part not in (NoneType, ...)]
    origin = get_origin(kind)
    if origin is Annotated:
        requirements = " and ".join(must.requirement for must in inner[1:])
        return f"{_value(inner[0])} (must {requirements})"
    if origin is Literal:
        return " or ".join(f"``{choice}``" for choice in inner if choice)
    if origin is tuple:
        return f"list: {_value(inner[0])}"
    if origin is Mapping:
        return f"table: {_value(inner[1])}"
    return ", or ".join(map(_value, inner))


def _default(attribute: Attribute[Any]) -> str:
    """
    Return the default of a key, or that it is required; empty if it is left out.
    """
    match attribute.default:
        case _ if attribute.default is NOTHING:
            return "required"
        case bool(value):
            return str(value).lower()
        case int() | float() | str() as value:
            return str(value)
        case _:
            return ""


def _inner_tables(kind: Any) -> Iterator[tuple[type, str]]:
    """
    Yield each class in the type `kind` that declares a table, and what follows its key.
    """
    if isinstance(kind, type) and has(kind):
        yield kind, "."
    for part in get_args(kind):
        for table, end in _inner_tables(part):
            yield table, "[]." if get_origin(kind) is tuple else end


if __name__ == "__main__":
    print(page(), end="")
