"""
Write a task file, check it, and try it: ``kiroworkers task``.
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
from kiroworkers.cli.task_new import CannotCreate, new
from kiroworkers.cli.token_file import TOKEN_VARIABLE, InvalidTokenFile, read_token
from kiroworkers.errors import InvalidInput
from kiroworkers.json_schema import first_problem
from kiroworkers.tasks import BadTask, Task, load_task

_EXIT_STATUS = "Exit status: 0 for success, 1 for a failure, 2 for an invalid command line."


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
    if reply.headers.get("X-Kiroworkers-Sample"):
        _print_error("this is only a sample that fits the schema: the agent has no model")


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
    try:
        text = sys.stdin.read() if source == "-" else Path(source).read_text(encoding="utf-8")
        body = json.loads(text)
    except OSError as error:
        raise CheckFailed(f"the input {source} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise CheckFailed(f"the input is not JSON: {error}") from None
    return task.accept(body)


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run the command line and return the exit status.

    Args:
        arguments: The arguments; by default those of this process.
    """
    parser = argparse.ArgumentParser(
        "kiroworkers task",
        description="Write a task file, check it, and try it.",
        epilog=_EXIT_STATUS,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser(
        "new",
        help="write a first version of a task file",
        description="Write a first version of a task file, with comments, and print the commands "
        "to go on with. An existing file is never changed.",
        epilog=_EXIT_STATUS,
    )
    command.add_argument("name", help="name of the task: 1 to 64 of the characters a-z, 0-9 and -")
    command.add_argument(
        "--output",
        metavar="FOLDER",
        default="tasks",
        help="folder for the file, NAME.toml; created if it does not exist [default: tasks]",
    )
    command = commands.add_parser(
        "check",
        help="check a task file, show its prompt, and try it",
        description="Print what is wrong with a task file, or the prompt that the task makes from "
        "its example. With --ask, send the request to a running server that has the task, and "
        "print the answer: a real agent takes a turn for it, which costs as much as any other.",
        epilog=_EXIT_STATUS,
    )
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
    if options.command == "new":
        try:
            new(options.name, options.output)
        except CannotCreate as error:
            _print_error(error)
            return 1
        return 0
    base = None if options.ask is None else base_url(options.ask)
    if options.ask is not None and base is None:
        parser.error(f"{options.ask} is not an address such as http://127.0.0.1:8080")
    try:
        task = load_task(Path(options.file))
        request = _read_request(options.input, task)
        for unknown in task.unknown_fields(request):
            _print_error(f"ignored: {unknown.sentence}")
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
