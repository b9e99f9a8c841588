"""
Write dialects: ``kiroworkers dialect record``, ``new`` and ``check``.

`record` runs a program and records its terminal.  `new` drafts a dialect from a recording.
`check` checks a dialect file, and shows the events that the dialect finds in a recording.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from kiroworkers.cli.dialect_check import check
from kiroworkers.cli.dialect_files import print_clean
from kiroworkers.cli.dialect_new import new
from kiroworkers.cli.dialect_record import record
from kiroworkers.conversations import BadDialect
from kiroworkers.conversations.terminal.recording import BadRecording


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run the command line and return the exit status.

    Args:
        arguments: The arguments; by default those of this process.
    """
    parser = argparse.ArgumentParser(prog="kiroworkers dialect", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    checking = commands.add_parser(
        "check", help="check a dialect, and show the events that it finds in a recording"
    )
    checking.add_argument("dialect", help="dialect file (.toml), or name of a built-in dialect")
    checking.add_argument(
        "recording",
        nargs="?",
        help="recording (.cast, .jsonl) made by `record` or by a server with --record, or a file "
        "of raw output",
    )
    recording = commands.add_parser("record", help="run a program and record its terminal")
    recording.add_argument(
        "--output", default="session.cast", help="new file for the recording [default: %(default)s]"
    )
    recording.add_argument(
        "--rows", type=int, default=50, help="height of the terminal [default: %(default)s]"
    )
    recording.add_argument(
        "--columns", type=int, default=1000, help="width of the terminal [default: %(default)s]"
    )
    recording.add_argument("program", nargs="+", help="the program and its arguments, after --")
    drafting = commands.add_parser("new", help="draft a dialect from a recording")
    drafting.add_argument("recording", help="recording (.cast) made by `record`")
    drafting.add_argument("--output", help="new file for the dialect [default: standard output]")
    options = parser.parse_args(arguments)
    try:
        match options.command:
            case "record":
                return record(options.program, options.output, options.rows, options.columns)
            case "new":
                new(options.recording, options.output)
            case _:
                check(options.dialect, options.recording)
    except (BadDialect, BadRecording, OSError) as error:
        print_clean(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
