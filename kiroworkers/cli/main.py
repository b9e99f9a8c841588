"""
Run the subcommand that the command line of ``kiroworkers`` names.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module

from kiroworkers import __version__

#: Each subcommand and its summary.  Its module, ``kiroworkers.cli.<name>``, has a function
#: `main`, which takes the remaining arguments and returns the exit status.  A module is
#: imported only when it is used: a server, for example, needs neither treq nor rich.
_SUBCOMMANDS = {
    "serve": "run the server in the foreground",
    "ask": "send a request to a server and print the answer",
    "mcp": "offer a server's tasks to a desktop agent, as tools of MCP",
    "check": "check that a server works, with real requests",
    "doctor": "check that this machine can run a server, and say what to do",
    "config": "show the effective settings and where each comes from",
    "db": "create or migrate the tables in the database of several servers",
    "prove": "check that agents give exact answers from fresh conversations",
    "task": "write a task file, check it and try it",
    "dialect": "draft or check a dialect file, or record a terminal session",
}

_NAMES = ", ".join(_SUBCOMMANDS)

#: The exit status for a command line that cannot be understood, as of Python's argparse.
_USAGE_ERROR = 2

#: The exit status after Ctrl-C, as of shells.
_INTERRUPTED = 130

_USAGE = "usage: kiroworkers COMMAND [arguments]"

_FOOTER = """\
Run "kiroworkers COMMAND --help" for the arguments of a command, and "twistd kiroworkers"
for a server in the background."""


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run the command line and return the exit status.

    Args:
        arguments: The arguments after the program's name; by default those of this process.

    Raises:
        SystemExit: If a subcommand ends that way.
    """
    match list(sys.argv[1:] if arguments is None else arguments):
        case ["-h" | "--help", *_]:
            print(_help())
            return 0
        case ["-V" | "--version", *_]:
            print(f"kiroworkers {__version__}")
            return 0
        case [name, *others] if name in _SUBCOMMANDS:
            try:
                status: int | None = import_module(f"kiroworkers.cli.{name}").main(others)
            except KeyboardInterrupt:
                # Before the command handles Ctrl-C itself, which takes a second to import.
                return _INTERRUPTED
            return status or 0
        case [name, *_]:
            kind = "option" if name.startswith("-") else "command"
            similar = get_close_matches(name, _SUBCOMMANDS, 1)
            hint = f"did you mean {similar[0]}?" if similar else ""
            error = f"unknown {kind} {name!r}; {hint or f'commands are {_NAMES}'}"
        case _:
            error = f"missing command: {_NAMES}"
    print(f"{_USAGE}\nkiroworkers: error: {error}", file=sys.stderr)
    return _USAGE_ERROR


def _help() -> str:
    width = max(map(len, _SUBCOMMANDS))
    commands = "\n".join(f"  {name:{width}}  {text}" for name, text in _SUBCOMMANDS.items())
    options = "  -h, --help     show this help and exit\n  -V, --version  show the version and exit"
    return f"{_USAGE}\n\ncommands:\n{commands}\n\noptions:\n{options}\n\n{_FOOTER}"
