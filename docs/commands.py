"""
Print ``commands.rst``: what ``--help`` says of each command.

After a change of a command's arguments::

    python docs/commands.py > docs/commands.rst
"""

from __future__ import annotations

import io
import os
import re
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout, suppress
from unittest.mock import patch

from kiroworkers.cli.main import main

_HEAD = """\
Commands
========

The ``kiroworkers`` command has these subcommands. ``twistd kiroworkers`` is another way to run the
server, with the options of ``kiroworkers serve`` and, before the name, those of twistd. ``python -m
kiroworkers.ask``, ``check``, ``task`` and ``dialect`` are the commands of these names.

``docs/commands.py`` makes this page from the commands themselves.
"""

#: How wide the help is, and that it has no colours, as newer versions of Python would add.
_TERMINAL = {"COLUMNS": "100", "NO_COLOR": "1", "PYTHON_COLORS": "0"}


def page() -> str:
    """
    Return the page.
    """
    sections = (_section(command, text) for command, text in _commands())
    return _HEAD + "".join(sections)


def _commands() -> Iterator[tuple[Sequence[str], str]]:
    """
    Yield each command, as its words, and its help.
    """
    text = help_of([])
    yield [], text
    for name in re.findall(r"^  ([a-z]+)  ", text, re.M):
        text = help_of([name])
        yield [name], text
        # The subcommands of a subcommand, as argparse lists them.
        listed = re.search(r"^positional arguments:\n  \{([a-z,]+)\}$", text, re.M)
        for part in listed[1].split(",") if listed is not None else ():
            yield [name, part], help_of([name, part])


def help_of(command: Sequence[str]) -> str:
    """
    Return what a command prints with ``--help``.
    """
    with (
        patch.dict(os.environ, _TERMINAL),
        redirect_stdout(io.StringIO()) as printed,
        suppress(SystemExit),
    ):
        main([*command, "--help"])
    lines = (line.rstrip() for line in printed.getvalue().strip().splitlines())
    # Python 3.13 writes "-o, --output DIR" where earlier versions write "-o DIR, --output DIR".
    return re.sub(r"(-\w) (\S+), (--[\w-]+ \2)", r"\1, \3", "\n".join(lines))


def _section(command: Sequence[str], text: str) -> str:
    title = " ".join(["kiroworkers", *command])
    underline = ("~" if len(command) > 1 else "-") * len(title)
    return f"\n{title}\n{underline}\n\n::\n\n{textwrap.indent(text, '   ')}\n"


if __name__ == "__main__":
    print(page(), end="")
