"""
Send a request to a running server: ``kiroworkers ask generate-story idea="Export feature"``.

Only the answer is printed to standard output, as JSON.  If standard error is a terminal, it
shows the progress of the request.  Ctrl-C cancels the request.
Needs ``pip install 'kiroworkers[client]'``.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from twisted.internet.task import react

from kiroworkers.clean_text import clean_json, clean_text
from kiroworkers.cli.cancellation import run_until_signal
from kiroworkers.cli.server_options import add_server_options, seconds, server_address
from kiroworkers.cli.token_file import read_token
from kiroworkers.clocks import make_monotonic

try:
    from rich.console import Console
    from rich.text import Text

    from kiroworkers.client import (
        Answer,
        Kiro,
        KiroError,
        Noticed,
        Postponed,
        Queued,
        Retrying,
        Said,
        Started,
        Terms,
        TimedOut,
        Unavailable,
        Watch,
    )
except ModuleNotFoundError as error:
    raise SystemExit(f"{error.name} is missing: pip install 'kiroworkers[client]'") from None

_EPILOG = """\
exit status:
  0    answered
  1    refused or failed
  2    the command line is invalid, or there is no such task
  3    no worker can answer now, or no server listens there: try again later
  4    there was no answer in time
  130  cancelled by Ctrl-C

environment:
  KIROWORKERS_URL    the address of the server
  KIROWORKERS_TOKEN  the token to send, if there is no --token-file
"""

_FAILED, _USAGE_ERROR, _UNAVAILABLE, _TIMED_OUT = 1, 2, 3, 4


class InvalidArguments(Exception):
    """
    Raised when the command line is invalid; the message says why.
    """


class ProgressReporter:
    """
    Describe the events of a request, in one line each.

    Args:
        show: Called with each line.
    """

    def __init__(self, show: Callable[[str], object]) -> None:
        self._show = show
        self._worker = "the agent"
        self._length = 0

    def watch(self, event: Queued | Started | Said | Retrying | Noticed | Postponed) -> None:
        """
        Show an event; pass this method to the client as `watch`.
        """
        match event:
            case Queued(position, seconds):
                self._show(f"waiting: number {position} in the queue, about {seconds:.0f} s")
            case Started(worker):
                self._worker, self._length = worker, 0
                self._show(f"{worker} has the request")
            case Said(text):
                self._length += len(text)
                self._show(f"{self._worker} is answering: {self._length} characters")
            case Retrying(reason):
                self._length = 0
                self._show(f"trying again: {reason}")
            case Noticed(detail=detail):
                self._show(f"{self._worker}: {detail}")
            case Postponed(reason, seconds):
                self._show(f"{reason}; trying again in {seconds:.0f} s")


def build_input(pairs: Sequence[str], source: str | None) -> dict[str, Any]:
    """
    Return the input of a task, put together from a file and from arguments.

    Args:
        pairs: Members, each ``name=text`` or ``name:=json``; they replace those of the file.
        source: The path of a file with a JSON object, or ``-`` for standard input.

    Raises:
        InvalidArguments: If an argument or the file is not valid.
    """
    members: dict[str, Any] = {} if source is None else _read_object(source)
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name.removesuffix(":"):
            raise InvalidArguments(f"{pair!r} is neither name=text nor name:=json")
        try:
            pair.encode()
            value = json.loads(text) if name.endswith(":") else text
        except UnicodeEncodeError:
            raise InvalidArguments(f"{name} is not UTF-8") from None
        except (ValueError, RecursionError) as error:
            raise InvalidArguments(f"{name}= takes JSON: {error}") from None
        members[name.removesuffix(":")] = value
    return members


def _read_object(source: str) -> dict[str, Any]:
    name = "standard input" if source == "-" else source
    if source == "-" and sys.stdin is None:
        raise InvalidArguments("--input: there is no standard input")
    try:
        data = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
        value = json.loads(data)
    except OSError as error:
        raise InvalidArguments(f"--input: {error}") from None
    except (ValueError, RecursionError) as error:
        raise InvalidArguments(f"--input: {name} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise InvalidArguments(f"--input: {name} does not hold a JSON object")
    return value


def _check_task_exists(name: str, tasks: Mapping[str, Any]) -> None:
    if name not in tasks:
        similar = difflib.get_close_matches(name, tasks, 1)
        hint = f"; did you mean {similar[0]}?" if similar else ""
        raise InvalidArguments(
            f"the server has no task named {name!r}, only {', '.join(tasks)}{hint}"
        )


async def _ask(kiro: Kiro, options: argparse.Namespace, body: dict[str, Any]) -> Answer[Any]:
    _check_task_exists(options.task, await kiro.tasks())
    terms = Terms(
        timeout=options.timeout,
        priority=options.priority,
        agent=options.agent,
        model=options.model,
        patience=options.patience,
    )
    with _progress(options.verbose) as watch:
        terms["watch"] = watch
        return await kiro.ask(options.task, body, **terms)


def _progress(verbose: bool) -> AbstractContextManager[Watch | None]:
    """
    Return the context that shows the progress of a request.

    It shows many lines if `verbose`, else one changing line if standard error is a
    terminal, and otherwise nothing.
    """
    if verbose:
        return nullcontext(ProgressReporter(_print_error).watch)
    return _StatusLine() if sys.stderr.isatty() else nullcontext(None)


class _StatusLine(AbstractContextManager[Watch]):
    """
    Show the progress of a request in one line of the terminal, and remove it at the end.
    """

    def __init__(self) -> None:
        self._status = Console(stderr=True).status(Text("sending the request"))

    def __enter__(self) -> Watch:
        self._status.start()
        show = self._status.update
        return ProgressReporter(lambda line: show(Text(clean_text(line)))).watch

    def __exit__(self, *_: object) -> None:
        self._status.stop()


def _print_error(line: str) -> None:
    # It may hold an agent's words, which must not control the user's terminal.
    print(clean_text(line), file=sys.stderr, flush=True)


def _encode_json(value: Any, raw: bool) -> bytes:
    """
    Return `value` as JSON in UTF-8, on one line if `raw`.

    Characters that control a terminal, and surrogates, which UTF-8 does not allow, are escaped.
    """
    layout: dict[str, Any] = {"separators": (",", ":")} if raw else {"indent": 2}
    return clean_json(json.dumps(value, ensure_ascii=False, **layout)).encode() + b"\n"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "kiroworkers ask",
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("task", help="name of the task, such as generate-story")
    parser.add_argument(
        "input",
        nargs="*",
        metavar="name=text",
        help="member of the task's input; name:=json for a value that is not text",
    )
    parser.add_argument(
        "--input",
        dest="source",
        metavar="FILE",
        help="file with the input, as a JSON object; - for standard input",
    )
    add_server_options(parser)
    parser.add_argument(
        "--patience",
        type=seconds,
        default=0.0,
        metavar="S",
        help="how long to keep trying while no worker can answer (seconds) [default: 0]",
    )
    parser.add_argument("--raw", action="store_true", help="print the answer on one line")
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="print the progress to standard error"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """
    Send the request that the command line describes, print the answer, and exit.

    Args:
        arguments: The arguments; by default those of this process.

    Raises:
        SystemExit: Always, with the exit status.
    """
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - stays open as long as the process
    parser = _parser()
    if sys.stdout is None:
        parser.error("there is no standard output")
    options = parser.parse_intermixed_args(arguments)
    url = server_address(options)
    try:
        body = build_input(options.input, options.source)
        kiro = Kiro(url, read_token(options.token_file))
    except (InvalidArguments, ValueError) as error:
        parser.error(str(error))
    react(_run, (_ask(kiro, options, body), options.raw))


async def _run(reactor: Any, request: Coroutine[Any, Any, Answer[Any]], raw: bool) -> None:
    """
    Print the answer to `request`.

    Raises:
        SystemExit: If there is no answer, or it cannot be printed; with the exit status.
    """
    make_monotonic(reactor)
    try:
        answer = await run_until_signal(reactor, request)
    except InvalidArguments as error:
        _print_error(str(error))
        raise SystemExit(_USAGE_ERROR) from None
    except KiroError as error:
        _print_error(_describe(error))
        raise SystemExit(_status_for(error)) from None
    try:
        with os.fdopen(sys.stdout.fileno(), "wb", closefd=False) as output:
            output.write(_encode_json(answer.value, raw))
    except OSError as error:
        _print_error(f"cannot print the answer: {error}")
        raise SystemExit(_FAILED) from None


def _describe(error: KiroError) -> str:
    retry = "" if error.retry_after is None else f" (retry in {error.retry_after:g} s)"
    return f"{error} [{error.code}]{retry}"


def _status_for(error: KiroError) -> int:
    match error:
        case Unavailable():
            return _UNAVAILABLE
        case TimedOut():
            return _TIMED_OUT
    return _FAILED


if __name__ == "__main__":
    main()
