"""
Write the effective settings, as a configuration file or as JSON.

The file, if it is saved and read, gives the same settings, wherever it is saved.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import date, time
from typing import Any

from kiroworkers.settings.option_types import comma_separated
from kiroworkers.settings.options import Option
from kiroworkers.settings.table import GROUPS, EffectiveSettings, options

#: The origin of a value that the operator did not give.
_DEFAULT = "default"


def write_config(effective: EffectiveSettings, *, only_given: bool = False) -> str:
    """
    Return the settings as a configuration file, with the origin of each value as a comment.

    Args:
        effective: The settings.
        only_given: Leave out the options that have their defaults.
    """
    config = _printable(str(effective.settings.config))
    tables = [
        f"# The settings of a server that starts here; its configuration file is {config}."
        if effective.settings.config
        else "# The settings of a server that starts here, without a configuration file."
    ]
    for group, title in GROUPS.items():
        lines = [*_lines(effective, group, only_given)]
        if lines:
            tables.append("\n".join([f"# {title}", f"[{group}]", *lines]))
    for task, defaults in effective.settings.task_defaults.items():
        lines = [f"{_key(key)} = {to_toml(value)}" for key, value in defaults.items()]
        tables.append("\n".join([f"[tasks.{_key(task)}]  # {config}", *lines]))
    return "\n\n".join(tables) + "\n"


def _lines(effective: EffectiveSettings, group: str, only_given: bool) -> Iterator[str]:
    """
    Yield a line for each option of `group`, with the comments in one column.
    """
    rows = []
    for option in options():
        # A configuration file cannot name another one.
        if option.group == group and option.name != "config":
            text, origin = _text_and_origin(option, effective)
            if only_given and origin == _DEFAULT:
                continue
            if text is None:
                rows.append((f"# {option.key} =", f"not set{_default_note(option)}"))
            else:
                rows.append((f"{option.key} = {to_toml(native(option, text))}", _printable(origin)))
    width = min(40, max((len(setting) for setting, _ in rows), default=0))
    for setting, comment in rows:
        yield f"{setting:{width}}  # {comment}"


def config_json(effective: EffectiveSettings, *, only_given: bool = False) -> dict[str, Any]:
    """
    Return the settings by group and key as JSON, each with its value and origin.

    The value of an option that is not set is None.

    Args:
        effective: The settings.
        only_given: Leave out the options that have their defaults.
    """
    groups: dict[str, Any] = {group: {} for group in GROUPS}
    for option in options():
        text, origin = _text_and_origin(option, effective)
        if not (only_given and origin == _DEFAULT):
            value = None if text is None else native(option, text)
            groups[option.group][option.key] = {"value": value, "origin": origin}
    return {**groups, "taskDefaults": effective.settings.task_defaults}


def _text_and_origin(option: Option, effective: EffectiveSettings) -> tuple[str | None, str]:
    """
    Return the text of an option's value, and its origin; None if the option is not set.
    """
    given = effective.given.get(option.name)
    if given is not None:
        return given.text, given.origin
    has_value = option.default_text and option.name != "repo_path"
    return option.default_text if has_value else None, _DEFAULT


def _printable(text: str) -> str:
    """
    Return `text` as a comment can have it, which must not have control characters.
    """
    return text if text.isprintable() else repr(text)


def _default_note(option: Option) -> str:
    return f": {option.default_text}" if option.default_text else ""


def native(option: Option, text: str) -> bool | int | float | str | list[str]:
    """
    Return the value of TOML that a configuration file would have for a text.

    Args:
        option: The option.
        text: A valid value as it would be written on the command line.
    """
    natives = option.type.natives
    if bool in natives:
        return bool(option.read(text))
    if list in natives:
        return [*comma_separated(text)]
    if int in natives and re.fullmatch(r"[+-]?[0-9]+", text):
        return int(text)
    return text


def to_toml(value: Any) -> str:
    """
    Return a value in TOML, on one line.
    """
    match value:
        case bool():
            return str(value).lower()
        case int() | float():
            return str(value)
        case str():
            # TOML has JSON's escapes, but no surrogates.
            clean = json.dumps(value.encode("utf-8", "replace").decode(), ensure_ascii=False)
            return re.sub("[\x7f-\x9f]", lambda match: f"\\u{ord(match[0]):04x}", clean)
        case Mapping():
            members = ", ".join(f"{_key(key)} = {to_toml(each)}" for key, each in value.items())
            return f"{{ {members} }}" if members else "{}"
        case date() | time():
            return value.isoformat()
    return f"[{', '.join(map(to_toml, value))}]"


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else to_toml(name)
