"""
Ask a running server: ``python -m kiroworkers.ask generate-story idea="Export feature"``.

Prints the answer as JSON, and nothing else, to standard output.  What becomes of the
request meanwhile is shown on standard error, where that is a terminal; Ctrl-C gives
the request up.  Needs ``pip install 'kiroworkers[client]'``.
"""

from __future__ import annotations

import argparse
import difflib
import json
import math
import os
import re
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import FrameType
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import react

try:
    from rich.console import Console
    from rich.text import Text

    from kiroworkers.client import (
        Answer,
        Kiro,
        KiroError,
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
except ModuleNotFoundError as missing:
    raise SystemExit(f"{missing.name} is missing: pip install 'kiroworkers[client]'") from None

_URL = "http://127.0.0.1:8080"

_EXITS = """\
exit status:
  0    answered
  1    refused, or failed
  2    the command line makes no sense
  3    nobody can answer now, or nothing listens there: try again
  4    no answer in time
  130  given up by Ctrl-C

environment:
  KIROWORKERS_URL    where the server listens
  KIROWORKERS_TOKEN  the token to bear, where there is no --token-file
"""

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]+")

_REFUSED, _USAGE, _BUSY, _LATE = 1, 2, 3, 4


class InvalidArguments(Exception):
    """
    What is wrong with the command line, in one sentence.
    """


class Told:
    """
    Keeps what became of a request, as one line at a time for `show`.
    """

    def __init__(self, show: Callable[[str], object]) -> None:
        self._show = show
        self._worker = "the agent"
        self._length = 0

    def watch(self, event: Queued | Started | Said | Retrying | Postponed) -> None:
        """
        As a `client.Watch`.
        """
        match event:
            case Queued(position, seconds):
                self._show(f"waiting: number {position} in the queue, about {seconds:.0f} s")
            case Started(worker):
                self._worker, self._length = worker, 0
                self._show(f"{worker} is asked")
            case Said(text):
                self._length += len(text)
                self._show(f"{self._worker} answers: {self._length} characters")
            case Retrying(reason):
                self._length = 0
                self._show(f"asked once more: {reason}")
            case Postponed(reason, seconds):
                self._show(f"{reason}; once more in {seconds:.0f} s")


def input_of(pairs: Sequence[str], source: str | None) -> dict[str, Any]:
    """
    The input of a task: the object in the file `source` (``-``: standard input),
    with the members of `pairs`, each ``name=text`` or ``name:=json``.

    Raises:
        Unusable: saying which makes no sense.
    """
    found: dict[str, Any] = {} if source is None else _object_in(source)
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name.removesuffix(":"):
            raise InvalidArguments(f"{pair!r} is neither name=text nor name:=json")
        try:
            pair.encode()
            value = json.loads(text) if name.endswith(":") else text
        except UnicodeEncodeError:
            raise InvalidArguments(f"{name} is not UTF-8") from None
        except (ValueError, RecursionError) as problem:
            raise InvalidArguments(f"{name}= takes JSON: {problem}") from None
        found[name.removesuffix(":")] = value
    return found


def _object_in(source: str) -> dict[str, Any]:
    name = "standard input" if source == "-" else source
    if source == "-" and sys.stdin is None:
        raise InvalidArguments("--input: there is no standard input")
    try:
        data = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
        found = json.loads(data)
    except OSError as problem:
        raise InvalidArguments(f"--input: {problem}") from None
    except (ValueError, RecursionError) as problem:
        raise InvalidArguments(f"--input: {name} is not JSON: {problem}") from None
    if not isinstance(found, dict):
        raise InvalidArguments(f"--input: {name} holds no JSON object")
    return found


def _token(given: argparse.Namespace) -> str | None:
    if given.token_file is None:
        return os.environ.get("KIROWORKERS_TOKEN") or None
    try:
        token = Path(given.token_file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as problem:
        raise InvalidArguments(f"--token-file: {problem}") from None
    if len(token.split()) != 1:
        raise InvalidArguments(
            f"--token-file: {given.token_file} must hold one token, and nothing else"
        )
    return token


def _known(task: str, tasks: Mapping[str, Any]) -> None:
    """
    Raises:
        Unusable: where `task` is none of the server's `tasks`.
    """
    if task not in tasks:
        near = difflib.get_close_matches(task, tasks, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise InvalidArguments(f"there is no task named {task!r}, but {', '.join(tasks)}{hint}")


async def _ask(kiro: Kiro, given: argparse.Namespace, body: dict[str, Any]) -> Answer[Any]:
    _known(given.task, await kiro.tasks())
    terms = Terms(
        timeout=given.timeout,
        priority=given.priority,
        agent=given.agent,
        patience=given.patience,
    )
    with _shown(given.verbose) as watch:
        terms["watch"] = watch
        return await kiro.ask(given.task, body, **terms)


def _shown(verbose: bool) -> AbstractContextManager[Watch | None]:
    """
    What shows a request while it runs: a line that changes on a terminal, else
    lines where they are wanted.
    """
    if verbose:
        return nullcontext(Told(_say).watch)
    return _Line() if sys.stderr.isatty() else nullcontext(None)


class _Line(AbstractContextManager[Watch]):
    """
    One line on the terminal, which goes when the request ends.
    """

    def __init__(self) -> None:
        self._status = Console(stderr=True).status(Text("asking"))

    def __enter__(self) -> Watch:
        self._status.start()
        return Told(lambda line: self._status.update(Text(plain(line)))).watch

    def __exit__(self, *_: object) -> None:
        self._status.stop()


def _say(line: str) -> None:
    print(plain(line), file=sys.stderr, flush=True)


def plain(line: str) -> str:
    """
    `line` without what would control a terminal: it may hold an agent's words.
    """
    return _CONTROLS.sub(" ", line)


def _printed(value: Any, raw: bool) -> bytes:
    """
    `value` as UTF-8; a lone surrogate as the escape that it came in.
    """
    layout: dict[str, Any] = {"separators": (",", ":")} if raw else {"indent": 2}
    text = json.dumps(value, ensure_ascii=False, **layout)
    return text.encode("utf-8", "backslashreplace") + b"\n"


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < math.inf:
        raise ValueError
    return seconds


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m kiroworkers.ask",
        description=__doc__,
        epilog=_EXITS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("task", help="such as generate-story")
    parser.add_argument(
        "input", nargs="*", metavar="name=text", help="of the task's input; name:=json for others"
    )
    parser.add_argument("--input", dest="source", metavar="FILE", help="the input; - for stdin")
    parser.add_argument("--url", help=f"where the server listens [KIROWORKERS_URL, else {_URL}]")
    parser.add_argument("--token-file", metavar="FILE", help="holds the token to bear")
    parser.add_argument("--agent", help="who is to answer; the task's, or the first, without")
    parser.add_argument(
        "--priority", type=int, choices=range(10), metavar="0-9", help="9 is the most urgent"
    )
    parser.add_argument("--timeout", type=_seconds, metavar="S", help="longest wait, in s")
    parser.add_argument(
        "--patience",
        type=_seconds,
        default=0.0,
        metavar="S",
        help="try again for so many s while nobody can answer [0]",
    )
    parser.add_argument("--raw", action="store_true", help="print the answer on one line")
    parser.add_argument("-v", "--verbose", action="store_true", help="tell on stderr, in lines")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """
    Ask as the command line says, and exit.
    """
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - for as long as this runs
    parser = _parser()
    if sys.stdout is None:
        parser.error("there is no standard output")
    given = parser.parse_intermixed_args(arguments)
    url = given.url or os.environ.get("KIROWORKERS_URL") or _URL
    try:
        body = input_of(given.input, given.source)
        kiro = Kiro(url, _token(given))
    except (InvalidArguments, ValueError) as problem:
        parser.error(str(problem))
    react(_run, (_ask(kiro, given, body), given.raw))


async def _run(reactor: Any, asking: Any, raw: bool) -> None:
    """
    Print the answer that `asking` gives.

    Raises:
        SystemExit: with the status.
    """
    answer: Deferred[Answer[Any]] = Deferred.fromCoroutine(asking)
    stopped: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        stopped.append(number)
        # A handler runs anywhere between two instructions: only take note here.
        reactor.callFromThread(answer.cancel)

    def install() -> None:
        for each in (signal.SIGINT, signal.SIGTERM):
            # A shell has what it starts in the background ignore Ctrl-C.
            if signal.getsignal(each) != signal.SIG_IGN:
                signal.signal(each, stop)

    # The reactor installs handlers of its own at its start.
    reactor.callWhenRunning(install)
    try:
        found = await answer
    except CancelledError:
        raise SystemExit(128 + stopped[0]) from None
    except InvalidArguments as problem:
        _say(str(problem))
        raise SystemExit(_USAGE) from None
    except KiroError as problem:
        _say(_described(problem))
        raise SystemExit(_status(problem)) from None
    try:
        with os.fdopen(sys.stdout.fileno(), "wb", closefd=False) as output:
            output.write(_printed(found.value, raw))
    except OSError as problem:
        _say(f"the answer cannot be printed: {problem}")
        raise SystemExit(_REFUSED) from None


def _described(problem: KiroError) -> str:
    again = "" if problem.retry_after is None else f" (in {problem.retry_after:g} s)"
    return f"{problem} [{problem.code}]{again}"


def _status(problem: KiroError) -> int:
    match problem:
        case Unavailable():
            return _BUSY
        case TimedOut():
            return _LATE
    return _REFUSED


if __name__ == "__main__":
    main()
