"""
Offer a running server's tasks to a desktop agent or an editor, as tools of MCP on standard I/O.

The agent starts this command, which forwards each message to the server's /mcp.  Standard output
has nothing but messages of MCP; what people should know is on standard error.
Needs ``pip install 'kiroworkers[client]'``.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimedOut
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.stdio import StandardIO
from twisted.internet.task import react
from twisted.python.failure import Failure
from zope.interface import implementer

from kiroworkers.clean_text import clean_lines
from kiroworkers.cli.cancellation import run_until_signal
from kiroworkers.cli.server_options import add_server_options, server_address
from kiroworkers.cli.token_file import read_token
from kiroworkers.clocks import make_monotonic

try:
    from kiroworkers.client.http import base_address
    from kiroworkers.mcp_stdio.forwarder import MAX_LINE_BYTES, Forwarder, Target
    from kiroworkers.mcp_stdio.lines import LineReader
except ModuleNotFoundError as error:
    raise SystemExit(f"{error.name} is missing: pip install 'kiroworkers[client]'") from None

#: The path of MCP below a server's address.
_PATH = "/mcp"

#: Seconds that requests have to end after the end of standard input.  Clients kill a program that
#: stays for two seconds or more.
_LAST_REQUESTS = 1.0

#: Seconds to write what is left.
_LAST_OUTPUT = 0.5

#: Seconds to wait beyond --timeout: the server's error says more about what happened.
_GRACE = 5.0

_EPILOG = """\
exit status:
  0    standard input has ended; requests had one second to end, and the rest was cancelled
  2    the command line is invalid
  130  cancelled by Ctrl-C
  143  ended by SIGTERM

environment:
  KIROWORKERS_URL    the address of the server
  KIROWORKERS_TOKEN  the token to send, if there is no --token-file
"""


@implementer(IHalfCloseableProtocol)
class _StandardStreams(Protocol):
    """
    Read lines from standard input.

    Args:
        receive: Called with each line; with None for one that is too long.

    Attributes:
        input_ended: Fires at the end of standard input, or when nobody reads standard output.
        closed: Fires when all was written.
    """

    def __init__(self, receive: Callable[[bytes | None], object]) -> None:
        self._receive = receive
        self._reader = LineReader(MAX_LINE_BYTES)
        self.input_ended: Deferred[None] = Deferred()
        self.closed: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        transport: Any = self.transport
        # Nothing is read while the client does not read either.
        transport.registerProducer(transport, True)

    def dataReceived(self, data: bytes) -> None:
        for line in self._reader.feed(data):
            self._receive(line)

    def readConnectionLost(self) -> None:
        for line in self._reader.end():
            self._receive(line)
        self._end()

    def writeConnectionLost(self) -> None:
        self._end()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._end()
        if not self.closed.called:
            self.closed.callback(None)

    def write(self, message: bytes) -> None:
        """
        Write a message as a line.
        """
        transport: Any = self.transport
        transport.write(message + b"\n")

    def _end(self) -> None:
        if not self.input_ended.called:
            self.input_ended.callback(None)


class _Reporter:
    """
    Print sentences to standard error, each once in a row.

    Nothing is lost if that fails: the client gets errors, too.
    """

    def __init__(self) -> None:
        self._last = ""

    def report(self, sentence: str) -> None:
        if sentence == self._last:
            return
        self._last = sentence
        with suppress(OSError):
            print(f"kiroworkers mcp: {clean_lines(sentence)}", file=sys.stderr, flush=True)


def make_target(url: str, token: str | None, options: argparse.Namespace) -> Target:
    """
    Return the server that the command line describes.

    Args:
        url: The address of the server, with or without the path of MCP.
        token: The token to send, if there is one.
        options: The other options.

    Raises:
        ValueError: If `url` is not an address.
    """
    given = {
        "X-Agent": options.agent,
        "X-Model": options.model,
        "X-Priority": options.priority,
        "X-Request-Timeout": None if options.timeout is None else f"{options.timeout:.3f}",
    }
    return Target(
        url=base_address(url).removesuffix(_PATH) + _PATH,
        headers={} if token is None else {"Authorization": f"Bearer {token}"},
        call_headers={name: str(value) for name, value in given.items() if value is not None},
        call_timeout=None if options.timeout is None else options.timeout + _GRACE,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "kiroworkers mcp",
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_server_options(parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """
    Forward messages until standard input ends, and exit.

    Args:
        arguments: The arguments; by default those of this process.

    Raises:
        SystemExit: Always, with the exit status.
    """
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - stays open as long as the process
    parser = _parser()
    options = parser.parse_args(arguments)
    if sys.stdin is None or sys.stdout is None:
        parser.error("there is no standard input or no standard output")
    url = server_address(options)
    try:
        target = make_target(url, read_token(options.token_file), options)
    except ValueError as error:
        parser.error(str(error))
    react(_run, (target,))


async def _run(reactor: Any, target: Target) -> None:
    make_monotonic(reactor)
    reporter = _Reporter()
    if sys.stdin.isatty():
        reporter.report(f"forwards messages of MCP to {target.url}; Ctrl-D ends it")
    await run_until_signal(reactor, _forward(reactor, target, reporter.report))


async def _forward(reactor: Any, target: Target, report: Callable[[str], object]) -> None:
    """
    Forward messages until standard input ends.
    """
    streams = _StandardStreams(lambda line: forwarder.receive(line))
    forwarder = Forwarder(reactor, target, streams.write, report)
    StandardIO(streams, reactor=reactor)
    try:
        await streams.input_ended
        await forwarder.finish(_LAST_REQUESTS)
        transport: Any = streams.transport
        transport.unregisterProducer()
        transport.loseConnection()
        streams.closed.addTimeout(_LAST_OUTPUT, reactor)
        await streams.closed
    except DeferredTimedOut:
        report("standard output was not read to its end")
    finally:
        forwarder.stop()


if __name__ == "__main__":
    main()
