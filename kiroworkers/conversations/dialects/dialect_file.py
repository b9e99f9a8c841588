"""
Read dialects from TOML files, and validate them before anything is started.

`kiro-classic.toml` explains the tables of a file.  A file that says
``extends = "kiro-classic"`` needs only the tables that differ.  A table or list that it
gives replaces the one of the extended dialect as a whole.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path, PurePosixPath
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker

from kiroworkers.conversations.dialects.dialect import (
    Acp,
    Approval,
    BracketedPastePrompt,
    Clear,
    Dialect,
    Flag,
    Keys,
    LinePrompt,
    Marker,
    Menu,
    StateDir,
    StatusMarkers,
    version_in,
)
from kiroworkers.conversations.failures import FAILURE_KINDS, FailurePattern
from kiroworkers.json_schema import first_problem


class BadDialect(ValueError):
    """
    Raised when a dialect file is invalid; the message has the file, key and reason.
    """


#: Defaults: seconds of silence after a prompt or an idle marker, and rows for markers.
_DEFAULT_LINE_QUIET = 0.5
_DEFAULT_MARKER_QUIET = 0.2
_DEFAULT_MARKER_ROWS = 4


def _table(required: Mapping[str, Any], optional: Mapping[str, Any] | None = None) -> Any:
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
        "additionalProperties": False,
    }


def _list(items: Any) -> Any:
    return {"type": "array", "items": items}


_TEXT = {"type": "string", "minLength": 1}
_PATTERN = {**_TEXT, "format": "regular expression"}
_BYTE_PATTERN = {**_TEXT, "format": "regular expression of bytes"}
# NUL cannot be passed to a program.
_ARGUMENTS = _list({"type": "string", "pattern": r"\A[^\x00]*\Z"})
_VARIABLES = {
    "type": "object",
    "additionalProperties": {"type": "string", "pattern": r"\A[^\x00]*\Z"},
    "propertyNames": {"pattern": r"\A[^=\x00]+\Z"},
}
#: A relative path that stays inside its folder.
_INNER_PATH = {**_TEXT, "format": "path inside the folder"}
_VERSION = {**_TEXT, "pattern": r"^\d+(\.\d+)+$"}
_QUIET = {"type": "number", "exclusiveMinimum": 0, "maximum": 60}
_MARKER = {
    **_table({}, dict.fromkeys(("screen", "title", "state"), _PATTERN)),
    "minProperties": 1,
}
_MENUS = _list(_table({"question": _PATTERN, "keys": _TEXT}))
_KEYS = {"type": ["string", "array"], "minLength": 1, "items": _MENUS["items"]}

#: The tables that say how the prompt is recognized; a dialect has exactly one of them.
_READINESS = ("prompt", "line", "signs", "acp")

#: The tables that only an agent on a terminal may have, and those that it must have.
_TERMINAL_TABLES = ("screen", "keys", "clear", "approval", "menu")
_REQUIRED_TERMINAL_TABLES = ("screen", "keys")

_SCHEMA = _table(
    {
        "name": {**_TEXT, "pattern": r"\A[a-z0-9][a-z0-9-]*\Z", "maxLength": 64},
        "label": _TEXT,
        "start": _table(
            {"arguments": _ARGUMENTS},
            {
                "program": _TEXT,
                "version": _ARGUMENTS,
                "login": _ARGUMENTS,
                "until": _VERSION,
                "flags": _list(_table({"arguments": _ARGUMENTS}, {"since": _VERSION})),
            },
        ),
        "environment": _table(
            {"set": _VARIABLES},
            {"pass": _list({**_TEXT, "pattern": r"^[A-Za-z0-9_*?\[\]!-]+$"})},
        ),
    },
    {
        "screen": _table(
            {
                "rows": {"type": "integer", "minimum": 2, "maximum": 65535},
                "columns": {"type": "integer", "minimum": 20, "maximum": 65535},
            }
        ),
        "keys": _table(
            {"submit": _TEXT, "interrupt": _TEXT},
            {
                **dict.fromkeys(("paste-start", "paste-end", "empty", "quit"), _TEXT),
                "apart": {"type": "boolean"},
            },
        ),
        "acp": _table({}),
        "prompt": _table({"open": _TEXT, "ready": _BYTE_PATTERN, "close": _TEXT}),
        "line": _table({"prompt": _PATTERN}, {"quiet": _QUIET}),
        "signs": _table(
            {"idle": _MARKER, "busy": _MARKER, "output": _PATTERN},
            {
                "quiet": _QUIET,
                "rows": {"type": "integer", "minimum": 1},
                "wraps": {"type": "boolean"},
            },
        ),
        "clear": _table(
            {"type": _TEXT, "done": _PATTERN}, {"question": _PATTERN, "confirm": _TEXT}
        ),
        "approval": _table({"question": _PATTERN, "deny": _KEYS}, {"allow": _KEYS}),
        "answer": _table(
            {},
            {
                "prefix": _BYTE_PATTERN,
                "layout": {"enum": ["compact", "lines"]},
                "journal": _TEXT,
            },
        ),
        "state": _list(
            _table(
                {
                    "variable": {**_TEXT, "pattern": r"\A[A-Za-z_][A-Za-z0-9_]*\Z"},
                    "default": _INNER_PATH,
                },
                dict.fromkeys(("copy", "link"), _list(_INNER_PATH)),
            )
        ),
        "menu": _MENUS,
        "trouble": _list(
            _table(
                {"kind": {"enum": list(FAILURE_KINDS)}, "text": _PATTERN},
                {"blocks": {"type": "boolean"}},
            )
        ),
    },
)
_FORMATS = FormatChecker(())


_PATTERN_ERRORS = (re.error, OverflowError, RecursionError)


@_FORMATS.checks("regular expression", _PATTERN_ERRORS)
def _is_pattern(value: object) -> bool:
    return not isinstance(value, str) or bool(re.compile(value))


@_FORMATS.checks("regular expression of bytes", _PATTERN_ERRORS)
def _is_byte_pattern(value: object) -> bool:
    return not isinstance(value, str) or bool(re.compile(value.encode()))


@_FORMATS.checks("path inside the folder", ValueError)
def _is_inner_path(value: object) -> bool:
    if isinstance(value, str) and (
        value.startswith("/") or ".." in value.split("/") or "\0" in value
    ):
        raise ValueError(f"{value!r} leads outside")
    return True


_VALIDATOR = Draft202012Validator(_SCHEMA, format_checker=_FORMATS)


def load_dialect(name: str) -> Dialect:
    """
    Return the built-in dialect in the file `name`.toml.
    """
    return _build_dialect(_read_tables(_builtin(name)))


def read_dialect(path: Path) -> Dialect:
    """
    Return the dialect in the file at `path`.

    Raises:
        BadDialect: If the file cannot be read or is not a valid dialect.
    """
    try:
        data = _read_tables(path)
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise BadDialect(f"{path}: {problem}") from None
    except BadDialect as problem:
        raise BadDialect(f"{path}: {problem}") from None
    invalid = first_problem(_VALIDATOR, data)
    if invalid is not None:
        raise BadDialect(f"{path}: {invalid.sentence}")
    if sum(name in data for name in _READINESS) != 1:
        raise BadDialect(f"{path}: exactly one of the tables {', '.join(_READINESS)} is required")
    variables: set[str] = set()
    for number, table in enumerate(data.get("state", ())):
        names = (*table.get("copy", ()), *table.get("link", ()))
        paths = {str(PurePosixPath(name)) for name in names}
        if table["variable"] in variables or len(names) > len(paths):
            raise BadDialect(f"{path}: state[{number}] names a variable or a file twice")
        variables.add(table["variable"])
    if "acp" in data:
        for name in _TERMINAL_TABLES:
            if name in data:
                raise BadDialect(
                    f"{path}: {name} is not allowed with acp: the agent has no terminal"
                )
    else:
        for name in _REQUIRED_TERMINAL_TABLES:
            if name not in data:
                raise BadDialect(f"{path}: {name} is required")
    return _build_dialect(data)


def _builtin(name: str) -> Traversable:
    return files("kiroworkers.conversations.dialects").joinpath(f"{name}.toml")


def _read_tables(source: Traversable) -> dict[str, Any]:
    """
    Return the tables of a file, merged into those of the dialect that it extends.
    """
    data = tomllib.loads(source.read_text(encoding="utf-8"))
    base = data.pop("extends", None)
    if base is None:
        return data
    if (
        not isinstance(base, str)
        or not re.fullmatch("[a-z-]+", base)
        or not _builtin(base).is_file()
    ):
        raise BadDialect(f"extends: there is no built-in dialect {base!r}")
    base_tables = _read_tables(_builtin(base))
    replaced = set(_READINESS) if any(name in data for name in _READINESS) else set()
    if "acp" in data:
        replaced.update(_TERMINAL_TABLES)
    kept = {name: table for name, table in base_tables.items() if name not in replaced}
    return {**kept, **data}


def _build_dialect(data: Mapping[str, Any]) -> Dialect:
    start, environment = data["start"], data["environment"]
    keys = data.get("keys", {"submit": "", "interrupt": ""})
    answer, screen = data.get("answer", {}), data.get("screen")
    return Dialect(
        name=data["name"],
        label=data["label"],
        program=start.get("program"),
        arguments=tuple(start["arguments"]),
        flags=tuple(
            Flag(tuple(flag["arguments"]), version_in(flag.get("since", "")) or ())
            for flag in start.get("flags", ())
        ),
        version_arguments=tuple(start.get("version", ())),
        login_arguments=tuple(start.get("login", ())),
        until=version_in(start.get("until", "")),
        set_environment=environment["set"],
        pass_environment=tuple(environment.get("pass", ())),
        state_dirs=tuple(
            StateDir(
                state["variable"],
                state["default"],
                tuple(state.get("copy", ())),
                tuple(state.get("link", ())),
            )
            for state in data.get("state", ())
        ),
        window=None if screen is None else (screen["rows"], screen["columns"]),
        readiness=_readiness(data),
        keys=_keys(keys),
        clear=_clear(data.get("clear")),
        approval=_approval(data.get("approval")),
        answer_prefix=re.compile(answer["prefix"].encode()) if "prefix" in answer else None,
        layout=answer.get("layout", "compact"),
        journal=answer.get("journal"),
        menus=_menus(data.get("menu", ())),
        failures=tuple(
            FailurePattern(table["kind"], re.compile(table["text"]), table.get("blocks", False))
            for table in data.get("trouble", ())
        ),
    )


def _keys(table: Mapping[str, Any]) -> Keys:
    texts = {name: text for name, text in table.items() if name != "apart"}
    return Keys(
        apart=table.get("apart", False),
        **{name.replace("-", "_"): text.encode() for name, text in texts.items()},
    )


def _readiness(data: Mapping[str, Any]) -> BracketedPastePrompt | LinePrompt | StatusMarkers | Acp:
    match data:
        case {"acp": _}:
            return Acp()
        case {"prompt": prompt}:
            ready = re.compile(prompt["ready"].encode())
            return BracketedPastePrompt(prompt["open"].encode(), ready, prompt["close"].encode())
        case {"line": line}:
            return LinePrompt(re.compile(line["prompt"]), line.get("quiet", _DEFAULT_LINE_QUIET))
        case _:
            signs = data["signs"]
            return StatusMarkers(
                idle=_marker(signs["idle"]),
                busy=_marker(signs["busy"]),
                quiet=signs.get("quiet", _DEFAULT_MARKER_QUIET),
                rows=signs.get("rows", _DEFAULT_MARKER_ROWS),
                output=re.compile(signs["output"]),
                wraps=signs.get("wraps", True),
            )


def _marker(table: Mapping[str, str]) -> Marker:
    return Marker(**{name: re.compile(pattern) for name, pattern in table.items()})


def _clear(table: Mapping[str, str] | None) -> Clear | None:
    if table is None:
        return None
    return Clear(
        type=table["type"].encode(),
        done=re.compile(table["done"]),
        question=re.compile(table["question"]) if "question" in table else None,
        confirm=table.get("confirm", "").encode(),
    )


def _approval(table: Mapping[str, Any] | None) -> Approval | None:
    if table is None:
        return None
    question = table["question"]

    def menus(keys: str | list[Any]) -> tuple[Menu, ...]:
        return _menus([{"question": question, "keys": keys}] if isinstance(keys, str) else keys)

    return Approval(re.compile(question), menus(table["deny"]), menus(table.get("allow", [])))


def _menus(tables: Iterable[Mapping[str, str]]) -> tuple[Menu, ...]:
    return tuple(Menu(re.compile(table["question"]), table["keys"].encode()) for table in tables)
