"""
Show the effective settings of a server: ``kiroworkers config show --config FILE``.

It prints the value of each option and where it comes from: a flag, an environment variable,
the configuration file or the default.  The output is itself a configuration file.  Give it the
flags that you would give the server; all of them are listed by ``kiroworkers serve --help``.
It exits with 64 if one of the settings is not valid.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from twisted.python.usage import UsageError

from kiroworkers.clean_text import clean_json, clean_lines
from kiroworkers.cli.output import print_output
from kiroworkers.exit_status import INVALID_OPTION
from kiroworkers.settings import inherited_environment, unknown_variables
from kiroworkers.settings.config_writer import config_json, write_config
from kiroworkers.tap import Options


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run the command line and return the exit status.

    Args:
        arguments: The arguments; by default those of this process.
    """
    parser = argparse.ArgumentParser("kiroworkers config", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser(
        "show",
        help="print each setting and where it comes from",
        usage="kiroworkers config show [--changed] [--format toml|json] [flags of the server]",
        description="Print each setting of a server and where it comes from. Flags of the "
        "server, such as --config FILE, are those of kiroworkers serve.",
        allow_abbrev=False,
    )
    command.add_argument(
        "--changed", action="store_true", help="leave out options that have their defaults"
    )
    command.add_argument(
        "--format", choices=("toml", "json"), default="toml", help="[default: toml]"
    )
    own, flags = parser.parse_known_args(arguments)
    server = Options()
    try:
        server.parseOptions(flags)
    except UsageError as error:
        _print_error(f"{error} (see kiroworkers serve --help)")
        return INVALID_OPTION
    for name, nearest in unknown_variables(inherited_environment()):
        hint = f"; did you mean {nearest}?" if nearest else ""
        _print_error(f"the variable {name} is unknown{hint}")
    if own.format == "json":
        values = config_json(server.effective, only_given=own.changed)
        print_output(clean_json(json.dumps(values, indent=2, ensure_ascii=False, default=str)))
    else:
        print_output(write_config(server.effective, only_given=own.changed).removesuffix("\n"))
    return 0


def _print_error(line: str) -> None:
    print(clean_lines(f"kiroworkers: {line}"), file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
