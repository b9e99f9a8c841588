"""
Print the output of a command.
"""

from __future__ import annotations

import io
import os
import sys

#: The exit status if the output cannot be printed.
_FAILED = 1


def print_output(text: str) -> None:
    """
    Print `text` and the end of its line to standard output at once, if there is one.

    It is UTF-8 whatever the locale is, as TOML and JSON must be.

    Raises:
        SystemExit: If that fails.  The reason is on standard error, except if the reader, such
            as ``head``, has seen enough.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    try:
        print(text, flush=True)
    except OSError as error:
        # Python would print what is left when it exits, and fail again.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
        if not isinstance(error, BrokenPipeError):
            print(f"kiroworkers: cannot print the output: {error.strerror}", file=sys.stderr)
        raise SystemExit(_FAILED) from None
