"""
Check a task file, and try it: ``kiroworkers task check FILE``.

It prints what is wrong with the file, or the prompt that the task makes from its example.
With ``--ask URL`` it sends the request to a running server that has the task, and prints
the answer; this is a turn of a real agent, and costs as much as one.  It exits with 0 on
success, with 1 on any failure, and with 2 if the command line is invalid.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from kiroworkers.clean_text import clean_json, clean_lines
from kiroworkers.cli.check import CheckFailed, Client, base_url
from kiroworkers.cli.token_file import TOKEN_VARIABLE, InvalidTokenFile, read_token
from kiroworkers.errors import InvalidInput
from kiroworkers.json_schema import first_problem
from kiroworkers.tasks import BadTask, Task, load_task


def check(task: Task, request: Mapping[str, Any], report: Callable[[str], object]) -> None:
    """
    Report what `task` is, and its prompt for `request`.

    Args:
        task: The task.
        request: The input of a request to it.
        report: Called with each part of the report.
    """
    report(f"{task.name}: {task.title}")
    if task.agent is not None:
        report(f"answered by {task.agent}, unless the client names an agent")
    if task.model is not None:
        report(f"with the model {task.model}, unless the client names a model")
    report(f"\n{task.prompt(request)}\n")


def ask(client: Client, task: Task, request: Mapping[str, Any]) -> None:
    """
    Send `request` to the server of `client` and print the answer.

    Raises:
        CheckFailed: If there is no answer, or one that does not fit `task`.
    """
    reply = client.ask(task, request)
    if reply.code != 200:
        raise CheckFailed(f"{task.name} answered {reply.code}: {json.dumps(reply.body)}")
    print(clean_json(json.dumps(reply.body, indent=2, ensure_ascii=False)))
    schema = task.answer_schema_for(request)
    mismatch = first_problem(Draft202012Validator(schema), reply.body)
    if mismatch is not None:
        raise CheckFailed(f"the server's {task.name} differs from this file: {mismatch.sentence}")
    worker = (
        f"{reply.headers.get('X-Kiroworkers-Agent')}, {reply.headers.get('X-Kiroworkers-Worker')}"
    )
    _print_error(f"answered by {worker} in {reply.seconds * 1000:.0f} ms")
    if reply.headers.get("X-Kiroworkers-Normalised"):
        _print_error(f"normalised: {reply.headers['X-Kiroworkers-Normalised']}")


def _print_error(line: object) -> None:
    print(clean_lines(str(line)), file=sys.stderr)


def _print(text: str) -> None:
    print(clean_lines(text))


def _read_request(source: str | None, task: Task) -> dict[str, Any]:
    """
    Return the request in a file, on standard input (``-``), or in the example of `task`.
    """
    if source is None:
        return task.accept(task.example_input)
    text = sys.stdin.read() if source == "-" else Path(source).read_text(encoding="utf-8")
    try:
        body = json.loads(text)
    except ValueError as error:
        raise CheckFailed(f"the input is not JSON: {error}") from None
    return task.accept(body)


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run the command line and return the exit status.

    Args:
        arguments: The arguments; by default those of this process.
    """
    parser = argparse.ArgumentParser("kiroworkers task", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("check", help="check a task file, show its prompt, and try it")
    command.add_argument("file", help="task file (.toml)")
    command.add_argument(
        "--input",
        metavar="FILE",
        help="file with a JSON object to use instead of the example; - for standard input",
    )
    command.add_argument("--ask", metavar="URL", help="address of a server to try the task on")
    command.add_argument(
        "--agent", help="agent that answers [default: the task's, or the server's first]"
    )
    command.add_argument(
        "--token-file",
        help=f"file with the token to send to the server [default: {TOKEN_VARIABLE}]",
    )
    command.add_argument(
        "--timeout",
        type=float,
        default=150.0,
        help="longest wait for an answer (seconds) [default: 150]",
    )
    options = parser.parse_args(arguments)
    base = None if options.ask is None else base_url(options.ask)
    if options.ask is not None and base is None:
        parser.error(f"{options.ask} is not an address such as http://127.0.0.1:8080")
    try:
        task = load_task(Path(options.file))
        request = _read_request(options.input, task)
        # If there will be an answer, standard output is for the answer alone.
        check(task, request, _print if base is None else _print_error)
        if base is not None:
            token = read_token(options.token_file)
            ask(Client(base, options.timeout, options.agent, token), task, request)
    except (BadTask, InvalidInput, CheckFailed, InvalidTokenFile, OSError, UnicodeError) as error:
        _print_error(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
