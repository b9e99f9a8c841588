"""
Read dialects from TOML files, and validate them before anything is started.

`kiro-classic.toml` explains the tables of a file.  A file that says
``extends = "kiro-classic"`` needs only the tables that differ.  A table or list in it
replaces that of the extended dialect as a whole, except that its ``[[trouble]]`` comes
before that of the extended dialect.

`Dialect` declares the tables and their keys.  This module tells cattrs how to make the
values of its attributes from those of TOML.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib.resources import files
from importlib.resources.abc import Traversable
from operator import eq
from pathlib import Path
from types import GenericAlias
from typing import Annotated, Any, AnyStr, get_args, get_origin

from attrs import fields, has
from cattrs import BaseValidationError, Converter, ForbiddenExtraKeysError
from cattrs.errors import (
    AttributeValidationNote,
    ClassValidationError,
    IterableValidationError,
)
from cattrs.gen import make_dict_structure_fn, override

from kiroworkers.conversations.dialects.dialect import (
    READINESS_TABLES,
    TERMINAL_TABLES,
    Dialect,
    Engine,
    Layout,
    Menu,
    Version,
    key_of,
)
from kiroworkers.conversations.failures import FAILURE_KINDS
from kiroworkers.errors import FailureKind


class BadDialect(ValueError):
    """
    Raised when a dialect file is invalid; the message names the file, key and reason.
    """


#: The maximum length of an error's reason, in characters.
_MAX_REASON_LENGTH = 300

_TOML_TYPES = {
    dict: "a table",
    list: "a list",
    str: "a string",
    bool: "true or false",
    int: "an integer",
    float: "a float",
}


def load_dialect(name: str) -> Dialect:
    """
    Return the built-in dialect in the file `name`.toml.
    """
    dialect: Dialect = _converter.structure(_read_builtin(name), Dialect)
    return dialect


def read_dialect(path: Path) -> Dialect:
    """
    Return the dialect in the file at `path`.

    Raises:
        BadDialect: If the file cannot be read or is not a valid dialect.
    """
    try:
        return parse_dialect(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise BadDialect(f"{path}: {_printable(reason)[:_MAX_REASON_LENGTH]}") from None


def parse_dialect(text: str) -> Dialect:
    """
    Return the dialect in the `text` of a file.

    Raises:
        BadDialect: If it is not a valid dialect.
    """
    try:
        dialect: Dialect = _converter.structure(_parse_tables(text), Dialect)
        return dialect
    except BaseValidationError as error:
        # The outermost problem may be the cause of the others.
        _, reason = min(_problems(error), key=lambda problem: problem[0])
    except (ValueError, RecursionError) as error:
        reason = str(error)
    raise BadDialect(_printable(reason)[:_MAX_REASON_LENGTH])


def _builtin(name: str) -> Traversable:
    return files("kiroworkers.conversations.dialects").joinpath(f"{name}.toml")


def _read_builtin(name: str) -> dict[str, Any]:
    return _parse_tables(_builtin(name).read_text(encoding="utf-8"))


def _parse_tables(text: str) -> dict[str, Any]:
    """
    Return the tables of a file, merged into those of the dialect that it extends.
    """
    data = tomllib.loads(text)
    base = data.pop("extends", None)
    if base is None:
        return data
    if (
        not isinstance(base, str)
        or not re.fullmatch("[a-z0-9-]+", base)
        or not _builtin(base).is_file()
    ):
        raise BadDialect(f"extends: there is no built-in dialect {base!r}")
    base_tables = _read_builtin(base)
    replaced = set(READINESS_TABLES) if any(name in data for name in READINESS_TABLES) else set()
    if "acp" in data:
        replaced.update(TERMINAL_TABLES)
    kept = {name: table for name, table in base_tables.items() if name not in replaced}
    match data.get("trouble"):
        case list(own):
            data["trouble"] = [*own, *kept.get("trouble", [])]
    return {**kept, **data}


def _problems(error: Exception, path: str = "", depth: int = 0) -> Iterator[tuple[int, str]]:
    """
    Yield the problems that cattrs found: the depth of each one's table, and a sentence.

    Args:
        error: A group of errors, or the error of one value.
        path: The dotted key of the value.
        depth: How many tables and lists the value is in.
    """
    match error:
        case ClassValidationError() | IterableValidationError():
            located, others = error.group_exceptions()
            for problem in others:
                yield from _problems(problem, path, depth)
            for problem, note in located:
                if isinstance(note, AttributeValidationNote):
                    step: str | int = key_of(getattr(fields(error.cl), note.name))
                else:
                    step = note.index
                yield from _problems(problem, _join(path, step), depth + 1)
        case ForbiddenExtraKeysError():
            extra = ", ".join(map(repr, sorted(error.extra_fields)))
            yield depth, f"{path} may not have {extra}".lstrip()
        case KeyError():
            yield depth - 1, f"{path} is required"
        case _:
            yield depth, f"{path} {error}".lstrip()


def _printable(text: str) -> str:
    """
    Return `text` with line breaks and control characters escaped.

    Python quotes them from a file as they are, for example from a regular expression.
    """
    return "".join(
        character if character.isprintable() else repr(character)[1:-1] for character in text
    )


def _join(path: str, step: str | int) -> str:
    if isinstance(step, int):
        return f"{path}[{step}]"
    key = step if re.fullmatch("[A-Za-z0-9_-]+", step) else repr(step)
    return f"{path}.{key}" if path else key


def _require(value: Any, *kinds: type) -> Any:
    """
    Return `value`, which must be of one of `kinds`, as tomllib makes them.
    """
    if type(value) not in kinds:
        expected = " or ".join(_TOML_TYPES[kind] for kind in kinds)
        actual = _TOML_TYPES.get(type(value), "a date or time")
        raise ValueError(f"must be {expected}, not {actual}")
    return value


def _read_text(value: Any) -> str:
    text: str = _require(value, str)
    if not text:
        raise ValueError("must not be empty")
    return text


def _compile(pattern: AnyStr) -> re.Pattern[AnyStr]:
    try:
        return re.compile(pattern)
    except (re.error, ValueError, OverflowError, RecursionError) as error:
        raise ValueError(f"must be a regular expression: {error}") from None


def _read_version(value: Any) -> Version:
    text: str = _require(value, str)
    if not re.fullmatch(r"\d+(\.\d+)+", text):
        raise ValueError("must be a version, such as 2.11")
    return tuple(map(int, text.split(".")))


def _read_choice(value: Any, choices: Mapping[str, Any]) -> Any:
    if _require(value, str) not in choices:
        raise ValueError(f"must be one of {', '.join(choices)}")
    return choices[value]


def _read_keys_or_menus(value: Any) -> Any:
    kind = bytes if type(_require(value, str, list)) is str else tuple[Menu, ...]
    return _converter.structure(value, kind)


#: How to read a TOML value as each of the types that keys have, except tables and lists.
_READERS: Mapping[Any, Callable[[Any], Any]] = {
    str: lambda value: _require(value, str),
    bool: lambda value: _require(value, bool),
    int: lambda value: _require(value, int),
    float: lambda value: _require(value, int, float),
    bytes: lambda value: _read_text(value).encode(),
    re.Pattern[str]: lambda value: _compile(_read_text(value)),
    re.Pattern[bytes]: lambda value: _compile(_read_text(value).encode()),
    Version: _read_version,
    Layout: lambda value: _read_choice(value, {layout: layout for layout in get_args(Layout)}),
    Engine: lambda value: _read_choice(
        value, {engine: engine for engine in get_args(Engine) if engine}
    ),
    FailureKind: lambda value: _read_choice(value, {kind.value: kind for kind in FAILURE_KINDS}),
    bytes | tuple[Menu, ...]: _read_keys_or_menus,
}

_converter = Converter(forbid_extra_keys=True)


@_converter.register_structure_hook_factory(has)
def _table_hook(cls: type) -> Any:
    keys: Any = {field.name: override(rename=key_of(field)) for field in fields(cls)}
    read: Any = make_dict_structure_fn(cls, _converter, **keys)
    return lambda value, _: read(_require(value, dict), cls)


def _made_from(origin: Any) -> Callable[[Any], bool]:
    return lambda kind: get_origin(kind) is origin


@_converter.register_structure_hook_factory(_made_from(Mapping))
def _mapping_hook(cls: Any) -> Any:
    kind = GenericAlias(dict, get_args(cls))
    read = _converter.get_structure_hook(kind)
    return lambda value, _: read(_require(value, dict), kind)


@_converter.register_structure_hook_factory(_made_from(tuple))
def _list_hook(cls: Any) -> Any:
    kind = GenericAlias(list, get_args(cls)[0])
    read = _converter.get_structure_hook(kind)
    return lambda value, _: tuple(read(_require(value, list), kind))


@_converter.register_structure_hook_factory(_made_from(Annotated))
def _checked_hook(cls: Any) -> Any:
    kind, *requirements = get_args(cls)
    read = _converter.get_structure_hook(kind)

    def read_checked(value: Any, _: object) -> Any:
        result = read(value, kind)
        for must in requirements:
            if not must.fits(result):
                raise ValueError(f"must {must.requirement}")
        return result

    return read_checked


def _register(kind: Any, read: Callable[[Any], Any]) -> None:
    def hook(value: Any, _: object) -> Any:
        return read(value)

    if isinstance(kind, type):
        # cattrs has hooks of its own for these, which come before all predicates.
        _converter.register_structure_hook(kind, hook)
    else:
        _converter.register_structure_hook_func(partial(eq, kind), hook)


for _kind, _reader in _READERS.items():
    _register(_kind, _reader)
