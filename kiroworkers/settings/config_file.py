r"""
Read a configuration file: TOML whose tables are groups of options and whose keys are flags.

    >>> parse_config(b'[server]\nport = 9000\n', Path("/etc"), options).values["port"].text
    '9000'

`[tasks.NAME]` is not a table of options: it has default values for the input of a task.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

from attrs import frozen

from kiroworkers.settings.option_types import OptionType
from kiroworkers.settings.options import Option, did_you_mean

#: A file with more bytes is not a configuration file.
MAX_BYTES = 1024**2

#: The table whose tables are tasks, and the option that names the file itself.
_TASKS, _CONFIG = "tasks", "config"

_TYPE_NAMES: Mapping[type, str] = {
    bool: "a boolean",
    int: "an integer",
    float: "a float",
    str: "a string",
    list: "an array",
    dict: "a table",
    datetime: "a date",
    date: "a date",
    time: "a time",
}


class InvalidConfig(ValueError):
    """
    Raised when a file cannot be used; the message says why, and names the table and the key.
    """


@frozen
class FileValue:
    """
    Hold the value that a file gives an option.

    Attributes:
        text: The value as it would be written on the command line; its paths are absolute.
        value: The option's value.
        line: The number of the line with the key; None if it was not found.
    """

    text: str
    value: Any
    line: int | None


@frozen
class ConfigFile:
    """
    Hold what a configuration file contains.

    Attributes:
        values: The values of options, by the options' names.
        task_defaults: Default values of input fields, by task.
    """

    values: Mapping[str, FileValue]
    task_defaults: Mapping[str, Mapping[str, Any]]


def load_config(path: Path, options: Iterable[Option]) -> ConfigFile:
    """
    Read the file at `path`.  Relative paths in it begin at the folder that it is in.

    Args:
        path: The absolute path of the file.
        options: The table of options.

    Raises:
        InvalidConfig: If the file cannot be read or used.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise InvalidConfig(f"cannot be read: {error.strerror}") from None
    return parse_config(data, path.parent, options)


def parse_config(data: bytes, folder: Path, options: Iterable[Option]) -> ConfigFile:
    """
    Read the content of a file.

    Args:
        data: The content.
        folder: Where relative paths begin.
        options: The table of options.

    Raises:
        InvalidConfig: If the content is not valid.
    """
    if len(data) > MAX_BYTES:
        raise InvalidConfig(f"is larger than {MAX_BYTES // 1024} KiB")
    try:
        # Some editors put a byte-order mark in front, which tomllib does not know.
        text = data.decode("utf-8-sig")
        content = tomllib.loads(text)
        _check_integers(content)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InvalidConfig(f"line {line}: is not UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise InvalidConfig(_with_line_first(str(error))) from None
    except RecursionError:
        raise InvalidConfig("not valid TOML: too many nested values") from None
    except ValueError:
        # Of `_check_integers`, or of Python for a number with thousands of digits.
        raise InvalidConfig("not valid TOML: an integer has more than 64 bits") from None
    return _Reader(text, folder, tuple(options)).read(content)


@frozen
class _Reader:
    """
    Check the tables of one file.

    Args:
        text: The file's text, in which line numbers are looked up.
        folder: Where relative paths begin.
        options: The table of options.
    """

    text: str
    folder: Path
    options: Sequence[Option]

    def read(self, content: Mapping[str, Any]) -> ConfigFile:
        values: dict[str, FileValue] = {}
        task_defaults: Mapping[str, Mapping[str, Any]] = {}
        groups = {option.group: option.group for option in self.options}
        for table, keys in content.items():
            if table not in groups:
                raise self._unknown_table(table, keys, groups)
            if not isinstance(keys, dict):
                raise self._error("", table, f"must be a table, not {_TYPE_NAMES[type(keys)]}")
            if table == _TASKS:
                task_defaults = {key: value for key, value in keys.items() if _is_table(value)}
            for key, value in keys.items():
                if table == _TASKS and _has_tables(value):
                    raise self._error(table, key, "must be one table, not an array of tables")
                if not (table == _TASKS and key in task_defaults):
                    option = self._option(table, key)
                    values[option.name] = self._value(option, value)
        return ConfigFile(values, task_defaults)

    def _option(self, table: str, key: str) -> Option:
        """
        Return the option that `key` of `table` stands for.
        """
        for option in self.options:
            if option.key == key and option.name != _CONFIG and option.group == table:
                return option
        raise self._error(table, key, self._reason_unknown(table, key))

    def _reason_unknown(self, table: str, key: str) -> str:
        """
        Return why there is no `key` in `table`, with the key that was probably meant.
        """
        if key == _CONFIG:
            return "a configuration file cannot name another one"
        own = {option.key: option.key for option in self.options if option.group == table}
        own.pop(_CONFIG, None)
        others = {option.key: option.group for option in self.options if option.group != table}
        if key in others:
            return f"belongs to the table [{others[key]}]"
        elsewhere = {name: f"{name} in [{group}]" for name, group in others.items()}
        return f"unknown key{did_you_mean(key, own) or did_you_mean(key, elsewhere)}"

    def _unknown_table(self, table: str, keys: Any, groups: Mapping[str, str]) -> InvalidConfig:
        if not _is_table(keys) and not _has_tables(keys):
            return self._error("", table, self._reason_unknown("", table))
        return self._error("", table, f"unknown table{did_you_mean(table, groups)}")

    def _value(self, option: Option, value: Any) -> FileValue:
        try:
            text = option.type.anchor(to_text(option.type, value), self.folder)
            line = self._line(option.group, option.key)
            return FileValue(text, option.type(text), line)
        except ValueError as error:
            shown = "" if _is_table(value) else f" = {_shown(value)}"
            raise self._error(option.group, option.key, str(error), shown) from None

    def _error(self, table: str, key: str, reason: str, value: str = "") -> InvalidConfig:
        line = self._line(table, key)
        place = f"line {line}: " if line else ""
        group = f"[{table}] " if table else ""
        return InvalidConfig(f"{place}{group}{_printable(key)}{value}: {reason}")

    def _line(self, table: str, key: str) -> int | None:
        """
        Return the number of the line where `key` of `table`, or a table named `key`, begins.

        The parser does not report lines, so this looks for what the usual spellings look like.
        """
        header = re.compile(r"""\s*\[\[?\s*["']?([^\[\],]*?)["']?\s*\]\]?\s*(#.*)?$""")
        assignment = re.compile(rf"""\s*["']?{re.escape(key)}["']?\s*(=|\.)""")
        dotted = re.compile(rf"\s*{re.escape(table)}\s*\.\s*{re.escape(key)}\s*=")
        current = ""
        # Other line separators of Unicode may stand in comments and end no line of TOML.
        for number, line in enumerate(self.text.split("\n"), 1):
            if match := header.match(line):
                current = match[1]
                if not table and current.partition(".")[0].rstrip("\"' ") == key:
                    return number
            elif (current == table and assignment.match(line)) or (
                not current and dotted.match(line)
            ):
                return number
        return None


def _check_integers(value: Any) -> None:
    """
    Check that the integers in a value have 64 bits, as those of TOML do.

    Raises:
        ValueError: If one has more.  Python may not be able to print it.
    """
    match value:
        case dict():
            for member in value.values():
                _check_integers(member)
        case list():
            for item in value:
                _check_integers(item)
        case int() if not -(2**63) <= value < 2**63:
            raise ValueError


def to_text(type: OptionType[Any], value: Any) -> str:
    """
    Return a value of TOML as it would be written on the command line.

    Args:
        type: What the option's values are.
        value: The value in the file.

    Raises:
        ValueError: If an option of this type has no such values.
    """
    match value:
        case str():
            text = value
        case bool() if bool in type.natives:
            text = "yes" if value else "no"
        case bool():
            raise _wrong_type(type, value)
        case int() if int in type.natives:
            text = str(value)
        case float() if float in type.natives:
            # Without an exponent.
            text = format(Decimal(repr(value)), "f")
        case list() if list in type.natives and all(isinstance(item, str) for item in value):
            text = ",".join(value)
        case _:
            raise _wrong_type(type, value)
    if "\0" in text:
        raise ValueError("must not contain a NUL character")
    return text


def _wrong_type(type: OptionType[Any], value: Any) -> ValueError:
    if list in type.natives:
        expected = "a string or an array of strings"
    elif bool in type.natives:
        expected = "true or false"
    elif type.natives:
        expected = "a number" if float in type.natives else "an integer"
    else:
        expected = "a string"
    if isinstance(value, list) and list in type.natives:
        return ValueError(f"must be {expected}")
    return ValueError(f"must be {expected}, not {_TYPE_NAMES[value.__class__]}")


def _is_table(value: Any) -> bool:
    return isinstance(value, dict)


def _has_tables(value: Any) -> bool:
    """
    Return whether `value` is an array of tables.
    """
    return isinstance(value, list) and any(map(_is_table, value))


def _with_line_first(message: str) -> str:
    """
    Return a message of tomllib, where the line comes last, as this module words its own.
    """
    match = re.fullmatch(r"(.*) \(at line (\d+), column \d+\)", message, re.S)
    return f"line {match[2]}: not valid TOML: {match[1]}" if match else f"not valid TOML: {message}"


def _shown(value: Any) -> str:
    """
    Return the beginning of a value, for a message.
    """
    return _beginning(str(value).lower() if isinstance(value, bool) else repr(value))


def _printable(key: str) -> str:
    """
    Return the beginning of a key, for a message.
    """
    return _beginning(key if key and key.isprintable() else repr(key))


def _beginning(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:80]}…"
