"""
Write the help text of the server's command line: the options by group, as ``--help`` shows them.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from textwrap import fill, wrap

from kiroworkers.settings.options import Option

#: The column where descriptions begin, and the limits of a line's length.
_COLUMN, _LEAST_WIDTH, _MOST_WIDTH = 29, 40, 100

#: A space where lines are not broken, which `textwrap` does not take for one.
_UNBROKEN = "\N{NO-BREAK SPACE}"

_INTRODUCTION = """\
Keep sessions of a terminal AI agent warm, and answer HTTP requests with JSON.

Each option is a flag, an environment variable (--port is KIROWORKERS_PORT) or a key of the \
file that --config names, in the table beside its group's title. A flag takes precedence over a \
variable, and a variable over the file. \
SECONDS may have the unit s, m or h, as in 5m; SIZE may have the unit k, m or g, as in 8MiB. \
A flag without a value also has an opposite, such as --no-canary. Defaults are in brackets. \
docs/settings.rst describes the options in full; "kiroworkers config show" shows their values."""


def help_text(
    options: Iterable[Option], titles: Mapping[str, str], width: int | None = None
) -> str:
    """
    Return the introduction, and the options with their summaries and defaults.

    Args:
        options: The table of options, each group in one piece.
        titles: The titles of the groups.
        width: The length of a line; by default that of the terminal, or 80.
    """
    if width is None:
        width = shutil.get_terminal_size().columns
    width = max(_LEAST_WIDTH, min(width, _MOST_WIDTH))
    lines = [fill(paragraph, width) for paragraph in _INTRODUCTION.split("\n\n")]
    parts = ["\n\n".join(lines)]
    rows = list(options)
    for group, title in titles.items():
        entries = (
            line
            for option in rows
            if option.group == group
            for line in _entry(_spelling(option), _description(option), width)
        )
        parts.append("\n".join([f"{title} [{group}]:", *entries]))
    other = [
        *_entry("--version", "Print the version and exit", width),
        *_entry("--help", "Print this help and exit", width),
    ]
    return "\n\n".join([*parts, "\n".join(["Other:", *other])]) + "\n"


def _spelling(option: Option) -> str:
    return option.flag if option.is_boolean else f"{option.flag} {option.value_name}"


def _description(option: Option) -> str:
    default = option.default_text
    if option.is_boolean or not default:
        return option.summary
    # The whole default stays on one line.
    default = f"[{default}]".replace(" ", _UNBROKEN)
    return f"{option.summary} {default}"


def _entry(spelling: str, description: str, width: int) -> Iterator[str]:
    """
    Yield the lines of one option: its spelling, and beside or below it the description.
    """
    # On a narrow terminal, descriptions begin further to the left.
    column = min(_COLUMN, width * 3 // 8)
    lines = wrap(description, width - column, break_on_hyphens=False)
    lines = [line.replace(_UNBROKEN, " ") for line in lines]
    start = f"  {spelling}"
    if len(start) + 2 > column:
        yield start
    else:
        yield f"{start:{column}}{lines.pop(0)}"
    for line in lines:
        yield " " * column + line
