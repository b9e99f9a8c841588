"""
Check a task file, and try it: ``python -m kiroworkers.task check FILE``.

Says what is wrong with the file, or shows the prompt that the task makes of its
example.  With ``--ask URL`` a running server that has the task is asked, and its
answer printed; that is a turn of a real agent, and is paid for like one.  Exits
with 0 when all is well, with 1 when anything is not, with 2 when the command line
makes no sense.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from kiroworkers.cli.check import CheckFailed, Client, base_of
from kiroworkers.errors import InvalidInput
from kiroworkers.json_schema import first_problem
from kiroworkers.settings import inherited_environment
from kiroworkers.tasks import BadTask, Task, load_task

#: The variable that holds a token, where no file does.
TOKEN = "KIROWORKERS_TOKEN"


def check(task: Task, request: Mapping[str, Any], say: Callable[[str], object]) -> None:
    """
    Say what is known of `task`, and its prompt for `request`.
    """
    say(f"{task.name}: {task.title}")
    if task.agent is not None:
        say(f"asks {task.agent}, where the client names nobody")
    say(f"\n{task.prompt(request)}\n")


def ask(client: Client, task: Task, request: Mapping[str, Any]) -> None:
    """
    Print what the server of `client` answers to `request`.

    Raises:
        Unwell: when that is no answer to `task`.
    """
    reply = client.ask(task, request)
    told = reply.headers
    if reply.code != 200:
        raise CheckFailed(f"{task.name} answered {reply.code}: {json.dumps(reply.body)}")
    print(json.dumps(reply.body, indent=2, ensure_ascii=False))
    schema = task.answer_schema_for(request)
    problem = first_problem(Draft202012Validator(schema), reply.body)
    if problem is not None:
        raise CheckFailed(f"the server has another {task.name}: by this file, {problem.sentence}")
    who = f"{told.get('X-Kiroworkers-Agent')}, {told.get('X-Kiroworkers-Worker')}"
    _aside(f"answered by {who} in {reply.seconds * 1000:.0f} ms")
    if told.get("X-Kiroworkers-Normalised"):
        _aside(f"normalised: {told['X-Kiroworkers-Normalised']}")


def _aside(line: object) -> None:
    print(line, file=sys.stderr)


def _request_in(source: str | None, task: Task) -> dict[str, Any]:
    """
    The request in the file `source`, in what is typed (``-``), or in the example.
    """
    if source is None:
        return task.accept(task.example_input)
    text = sys.stdin.read() if source == "-" else Path(source).read_text(encoding="utf-8")
    try:
        body = json.loads(text)
    except ValueError as problem:
        raise CheckFailed(f"the input is no JSON: {problem}") from None
    return task.accept(body)


def _token_in(file: str | None) -> str | None:
    if file is None:
        return inherited_environment().get(TOKEN)
    token = Path(file).read_text(encoding="utf-8").strip()
    if not token.isascii() or len(token.split()) != 1:
        raise CheckFailed(f"{file}: holds not just a token")
    return token


def main(arguments: Sequence[str] | None = None) -> int:
    """
    The command line; the exit status.
    """
    parser = argparse.ArgumentParser("python -m kiroworkers.task", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    checking = commands.add_parser("check", help="check a task file, show its prompt, try it")
    checking.add_argument("file", help="a task, as a .toml file")
    checking.add_argument(
        "--input", metavar="FILE", help="JSON instead of the task's example; - reads what is typed"
    )
    checking.add_argument("--ask", metavar="URL", help="a server to try it on")
    checking.add_argument("--agent", help="who is to answer; the task's or the server's without")
    checking.add_argument(
        "--token-file", help=f"a file that holds a token for the server; {TOKEN} without"
    )
    checking.add_argument(
        "--timeout", type=float, default=150.0, help="longest wait for an answer, in s [150]"
    )
    given = parser.parse_args(arguments)
    base = None if given.ask is None else base_of(given.ask)
    if given.ask is not None and base is None:
        parser.error(f"{given.ask} is no address such as http://127.0.0.1:8080")
    try:
        task = load_task(Path(given.file))
        request = _request_in(given.input, task)
        # With an answer, that alone is for whoever reads the output.
        check(task, request, print if base is None else _aside)
        if base is not None:
            token = _token_in(given.token_file)
            ask(Client(base, given.timeout, given.agent, token), task, request)
    except (BadTask, InvalidInput, CheckFailed, OSError, UnicodeDecodeError) as problem:
        _aside(problem)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
