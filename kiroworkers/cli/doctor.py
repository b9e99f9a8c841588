"""
Check whether this machine can run a server: ``kiroworkers doctor --config FILE``.

A line is printed for each check; it says what was found and what to do.  Give it the flags that
you would give the server, as the user that is to run it.  One session of each agent is started
and ended; no prompt is sent, so nothing is spent.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

#: The exit statuses: of a failed check, and of a command line that cannot be understood.
_FAILED, _USAGE_ERROR = 1, 2

#: The width of the names of most checks; the findings are printed as they are made.
_NAME_WIDTH = 16

_EPILOG = """\
exit status:
  0    no check failed; there may be warnings
  1    a check failed: a server would not start, or would not answer
  2    the command line is invalid
  130  cancelled by Ctrl-C
"""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """
    Make the checks and print the findings.

    Args:
        arguments: The arguments; by default those of this process.

    Raises:
        SystemExit: With the exit status.
    """
    parser = argparse.ArgumentParser(
        "kiroworkers doctor",
        usage="kiroworkers doctor [--json] [--no-start] [flags of the server]",
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    parser.add_argument("--no-start", action="store_true", help="do not start a session")
    own, flags = parser.parse_known_args(arguments)
    try:
        # Only here: that a package is missing is a finding, too.
        from twisted.internet.task import react
        from twisted.python.usage import UsageError

        from kiroworkers.doctor.options import CheckedOptions
    except ImportError as error:
        print(f"FAILED   {'python':{_NAME_WIDTH}}  {error}. Install kiroworkers again with pip")
        sys.exit(_FAILED)
    server = CheckedOptions()
    try:
        server.parseOptions(flags)
    except UsageError as error:
        print(f"kiroworkers: {error} (see kiroworkers serve --help)", file=sys.stderr)
        sys.exit(_USAGE_ERROR)
    react(_run, (server, own))


async def _run(reactor: Any, server: Any, own: argparse.Namespace) -> None:
    """
    Print the findings, and stop and clean up at SIGINT and SIGTERM.

    Raises:
        SystemExit: If a check failed, or at a signal.
    """
    from kiroworkers.cli.cancellation import run_until_signal
    from kiroworkers.clocks import make_monotonic

    make_monotonic(reactor)
    status = await run_until_signal(reactor, _examine(reactor, server, own))
    if status:
        raise SystemExit(status)


async def _examine(reactor: Any, server: Any, own: argparse.Namespace) -> int:
    """
    Print the findings and return the exit status.
    """
    from kiroworkers.cli.output import print_output
    from kiroworkers.doctor.examine import Examination
    from kiroworkers.doctor.finding import has_failed
    from kiroworkers.doctor.output import as_json, line, summary
    from kiroworkers.settings import inherited_environment

    environ = inherited_environment()
    settings = server.settings if server.has_settings else None
    examination = Examination(reactor, settings, server.problem, not own.no_start, environ)
    colour = sys.stdout is not None and sys.stdout.isatty() and not environ.get("NO_COLOR")
    findings = []
    async for finding in examination.findings():
        findings.append(finding)
        if not own.json:
            print_output(line(finding, _NAME_WIDTH, colour=colour))
    print_output(as_json(findings) if own.json else summary(findings))
    return _FAILED if has_failed(findings) else 0


if __name__ == "__main__":
    main()
