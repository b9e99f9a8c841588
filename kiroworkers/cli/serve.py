"""
Run the server in the foreground: ``kiroworkers serve``.

This is ``twistd -n --pidfile= kiroworkers`` by another name: Twisted's own runner reads
the options, writes the log to standard output, handles signals and sets the exit status.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

from twisted.application.service import ServiceMaker
from twisted.scripts.twistd import ServerOptions, runApp  # type: ignore[attr-defined]

_SERVICE = ServiceMaker(
    "kiroworkers", "kiroworkers.tap", "Run the server in the foreground.", "serve"
)


class _TwistdOptions(ServerOptions):
    """
    Read a twistd command line whose only plugin is the server.

    Twistd itself would look for plugins on the whole of `sys.path`, and would name itself
    in the usage line.
    """

    synopsis = "Usage: kiroworkers"

    #: What messages call this program.
    program = "kiroworkers serve"

    @property
    def subCommands(self) -> Iterator[tuple[str, None, Any, str]]:
        """
        Yield the server as the only subcommand.
        """
        self.loadedPlugins = {_SERVICE.tapname: _SERVICE}
        yield _SERVICE.tapname, None, _SERVICE.options, _SERVICE.description


def main(arguments: Sequence[str] | None = None) -> None:
    """
    Run the server until a signal stops it.

    Args:
        arguments: The options of the server; by default those of this process.

    Raises:
        SystemExit: If the server cannot start, with the reason.
    """
    options = _TwistdOptions()
    if arguments is None:
        arguments = sys.argv[1:]
    options.parseOptions(["--nodaemon", "--pidfile=", _SERVICE.tapname, *arguments])
    runApp(options)
