r"""
Write the tables of a dialect as TOML, with comments.

    >>> table = Table("[keys]")
    >>> table.add("submit", b"\r", "Typed after each line.")
    >>> print(table)
    [keys]
    # Typed after each line.
    submit = "\r"
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from textwrap import wrap
from typing import TypeAlias

Value: TypeAlias = str | bytes | float | int | bool | list[str] | Mapping[str, str]

#: How a comment begins if a person must check the value.
GUESS = "CHECK: "

_WIDTH = 90


class Table:
    """
    Collect the keys of a table.

    Args:
        header: The table's name in brackets; empty for the keys before the first table.
        comment: What to say about the table; empty for nothing.
    """

    def __init__(self, header: str = "", comment: str = "") -> None:
        self._lines = [*comment_lines(comment)]
        if header:
            self._lines.append(header)

    def add(self, key: str, value: Value, comment: str = "") -> None:
        """
        Add a key with its value, below a comment.
        """
        self._lines += [*comment_lines(comment), f"{key} = {to_toml(value)}"]

    def note(self, comment: str) -> None:
        """
        Add a comment.
        """
        self._lines += comment_lines(comment)

    def __str__(self) -> str:
        return "\n".join(self._lines)


def comment_lines(text: str) -> list[str]:
    """
    Return `text` as lines of a comment.
    """
    lines = (wrap(paragraph, _WIDTH, break_long_words=False) for paragraph in text.split("\n"))
    return [f"# {line}" for paragraph in lines for line in paragraph]


def to_toml(value: Value) -> str:
    """
    Return `value` in TOML.
    """
    match value:
        case bytes():
            return _basic(value.decode("utf-8", "replace"))
        case str():
            if "\\" in value or '"' in value:
                return f"'{value}'" if value.isprintable() and "'" not in value else _basic(value)
            return _basic(value) if "'" in value or not _is_pattern(value) else f"'{value}'"
        case bool():
            return str(value).lower()
        case int() | float():
            return str(value)
        case list():
            return f"[{', '.join(map(_basic, value))}]"
        case _:
            return f"{{ {', '.join(f'{key} = {_basic(text)}' for key, text in value.items())} }}"


def _is_pattern(text: str) -> bool:
    return text.isprintable() and any(character in text for character in "^$")


def _basic(text: str) -> str:
    # TOML has JSON's escapes, but no surrogates, and requires one for DEL.
    clean = text.encode("utf-8", "replace").decode()
    return json.dumps(clean, ensure_ascii=False).replace("\x7f", "\\u007f")
