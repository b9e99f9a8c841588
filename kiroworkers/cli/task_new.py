"""
Write a first task file.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

from kiroworkers.clean_text import clean_lines
from kiroworkers.tasks import builtin_tasks, name_problem, new_task

_NEXT = """\
{file} is a first version of the task {name}. Edit it, and then:

check it, and show its prompt:
  {program} task check {file}
serve it with the offline agent, which costs nothing:
  {program} serve --agent offline --tasks {folder}
try it from another terminal:
  {program} task check {file} --ask http://127.0.0.1:8080"""


class CannotCreate(Exception):
    """
    Raised when a task file cannot be created; the message says why.
    """


def new(name: str, folder: str) -> None:
    """
    Write a task file, and print the commands to go on with.

    Args:
        name: The name of the task.
        folder: The folder for the file; it is created if it does not exist.

    Raises:
        CannotCreate: If the name is invalid, or the file exists or cannot be written.
    """
    problem = name_problem(name)
    if problem is not None:
        raise CannotCreate(f"the name {name!r} {problem}")
    file = Path(folder, f"{name}.toml")
    if os.path.lexists(file):
        raise CannotCreate(f"{file} exists already; it was left as it is")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("x", encoding="utf-8") as output:
            output.write(new_task(name))
    except OSError as error:
        raise CannotCreate(f"{file} cannot be created: {error.strerror}") from None
    next_steps = _NEXT.format(
        name=name,
        file=shlex.quote(str(file)),
        folder=shlex.quote(str(file.parent)),
        program=program(sys.argv[0]),
    )
    print(clean_lines(next_steps))
    if name in builtin_tasks():
        print(f"\n{name} is also a built-in task: with --tasks, yours replaces it.")


def program(path: str) -> str:
    """
    Return the command by which a user started the program at `path`.
    """
    if Path(path).name == "kiroworkers":
        is_on_path = shutil.which("kiroworkers") == path
        return "kiroworkers" if is_on_path else shlex.quote(path)
    return f"{shlex.quote(sys.executable)} -m kiroworkers"
