"""
Reading dialects from TOML files, each checked before anything is started.

A file has the tables of `kiro-classic.toml`, which are explained there.  One
that says ``extends = "kiro-classic"`` needs only those that differ; a table or
list that it gives replaces the base's as a whole.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker

from kiroworkers.schema import first_problem
from kiroworkers.terminal.dialect import Dialect, Flag, Menu, version_in
from kiroworkers.terminal.trouble import KINDS, TroubleSign


class BadDialect(ValueError):
    """
    A dialect file is wrong; the message names the file, the key and the reason.
    """


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
_ARGUMENTS = _list({"type": "string"})
_VERSION = {**_TEXT, "pattern": r"^\d+(\.\d+)+$"}

_SCHEMA = _table(
    {
        "name": {**_TEXT, "pattern": "^[a-z0-9][a-z0-9-]*$"},
        "label": _TEXT,
        "start": _table(
            {"arguments": _ARGUMENTS},
            {
                "program": _TEXT,
                "version": _ARGUMENTS,
                "until": _VERSION,
                "flags": _list(_table({"arguments": _ARGUMENTS}, {"since": _VERSION})),
            },
        ),
        "environment": _table(
            {"set": {"type": "object", "additionalProperties": {"type": "string"}}},
            {"unset": _ARGUMENTS},
        ),
        "screen": _table(
            {
                "rows": {"type": "integer", "minimum": 2, "maximum": 65535},
                "columns": {"type": "integer", "minimum": 20, "maximum": 65535},
            }
        ),
        "prompt": _table({"open": _TEXT, "ready": _BYTE_PATTERN, "close": _TEXT}),
        "keys": _table(dict.fromkeys(("paste-start", "paste-end", "submit", "interrupt"), _TEXT)),
        "clear": _table({"type": _TEXT, "question": _PATTERN, "confirm": _TEXT, "done": _PATTERN}),
        "approval": _table({"question": _PATTERN, "deny": _TEXT}),
        "answer": _table({"prefix": _BYTE_PATTERN}),
    },
    {
        "menu": _list(_table({"question": _PATTERN, "keys": _TEXT})),
        "trouble": _list(
            _table(
                {"kind": {"enum": list(KINDS)}, "text": _PATTERN}, {"blocks": {"type": "boolean"}}
            )
        ),
    },
)
_FORMATS = FormatChecker(())


@_FORMATS.checks("regular expression", re.error)
def _is_pattern(value: object) -> bool:
    return not isinstance(value, str) or bool(re.compile(value))


@_FORMATS.checks("regular expression of bytes", re.error)
def _is_byte_pattern(value: object) -> bool:
    return not isinstance(value, str) or bool(re.compile(value.encode()))


_VALIDATOR = Draft202012Validator(_SCHEMA, format_checker=_FORMATS)


def load_dialect(name: str) -> Dialect:
    """
    The built-in dialect in the file `name`.toml.
    """
    return _dialect(_tables(_builtin(name)))


def read_dialect(path: Path) -> Dialect:
    """
    The dialect in a file of the user's.

    @raise BadDialect: when the file cannot be one.
    """
    try:
        data = _tables(path)
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise BadDialect(f"{path}: {problem}") from None
    except BadDialect as problem:
        raise BadDialect(f"{path}: {problem}") from None
    unfit = first_problem(_VALIDATOR, data)
    if unfit is not None:
        raise BadDialect(f"{path}: {unfit.sentence}")
    return _dialect(data)


def _builtin(name: str) -> Traversable:
    return files("kiroworkers.terminal").joinpath(f"{name}.toml")


def _tables(source: Traversable) -> dict[str, Any]:
    """
    The tables of a file, laid over those of the one it `extends`.
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
    return {**_tables(_builtin(base)), **data}


def _dialect(data: Mapping[str, Any]) -> Dialect:
    start, environment = data["start"], data["environment"]
    prompt, keys, clear = data["prompt"], data["keys"], data["clear"]
    return Dialect(
        name=data["name"],
        label=data["label"],
        program=start.get("program"),
        arguments=tuple(start["arguments"]),
        flags=tuple(
            Flag(tuple(each["arguments"]), version_in(each.get("since", "")) or ())
            for each in start.get("flags", ())
        ),
        version_arguments=tuple(start.get("version", ())),
        until=version_in(start.get("until", "")),
        set_environment=environment["set"],
        unset_environment=tuple(environment.get("unset", ())),
        rows=data["screen"]["rows"],
        columns=data["screen"]["columns"],
        prompt_open=prompt["open"].encode(),
        prompt_ready=re.compile(prompt["ready"].encode()),
        prompt_close=prompt["close"].encode(),
        paste_start=keys["paste-start"].encode(),
        paste_end=keys["paste-end"].encode(),
        submit=keys["submit"].encode(),
        interrupt=keys["interrupt"].encode(),
        clear=clear["type"].encode(),
        clear_question=re.compile(clear["question"]),
        clear_confirm=clear["confirm"].encode(),
        clear_done=re.compile(clear["done"]),
        approval_question=re.compile(data["approval"]["question"]),
        approval_deny=data["approval"]["deny"].encode(),
        answer_prefix=re.compile(data["answer"]["prefix"].encode()),
        menus=tuple(
            Menu(re.compile(each["question"]), each["keys"].encode())
            for each in data.get("menu", ())
        ),
        troubles=tuple(
            TroubleSign(each["kind"], re.compile(each["text"]), each.get("blocks", False))
            for each in data.get("trouble", ())
        ),
    )
