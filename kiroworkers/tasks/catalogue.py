"""
Reading tasks from their TOML files, each checked before anyone may ask.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from string import Template

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError

from kiroworkers.errors import BadInput
from kiroworkers.schema import first_problem
from kiroworkers.tasks.task import Task

_PLACEHOLDERS = {"request", "schema", "example", "layout"}
_REQUIRED = ("name", "title", "description", "prompt", "input", "answer", "example")


class BadTask(ValueError):
    """
    A task file is wrong; the message names the file, the key and the reason.
    """


def builtin_tasks() -> Mapping[str, Task]:
    """
    The tasks that come with the package, by name.
    """
    sources = sorted(
        (each for each in files("kiroworkers.tasks").iterdir() if each.name.endswith(".toml")),
        key=lambda each: each.name,
    )
    return {task.name: task for task in map(load_task, sources)}


def load_task(source: Traversable) -> Task:
    """
    The task in the TOML file `source`.

    @raise BadTask: when the file cannot be a task.
    """
    try:
        data = tomllib.loads(source.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise BadTask(f"{source.name}: {problem}") from None
    for key in _REQUIRED:
        if key not in data:
            raise BadTask(f"{source.name}: {key}: is missing")
    for key in ("input", "answer"):
        try:
            Draft202012Validator.check_schema(data[key])
        except SchemaError as problem:
            raise BadTask(f"{source.name}: {key}: {problem.message}") from None
    task = Task(
        name=data["name"],
        title=data["title"],
        description=data["description"].strip(),
        prompt_template=data["prompt"].strip(),
        input_schema=data["input"],
        answer_schema=data["answer"],
        example_input=data["example"]["input"],
        example_answer=data["example"]["answer"],
        messages=data.get("messages", {}),
        choices=data.get("choices", {}),
        agent=data.get("agent"),
    )
    for key, reason in _faults(task):
        raise BadTask(f"{source.name}: {key}: {reason}")
    return task


def _faults(task: Task) -> Iterator[tuple[str, str]]:
    template = Template(task.prompt_template)
    if not template.is_valid() or not set(template.get_identifiers()) <= _PLACEHOLDERS:
        yield "prompt", "may use $request, $schema, $example and $layout, and $$ for a dollar sign"
    for number, line in enumerate(task.prompt_template.splitlines(), 1):
        if line.lstrip().startswith(("!", "/", "@")):
            yield "prompt", f"line {number} begins with {line.lstrip()[0]}, a command in a terminal"
    if "`" in task.prompt_template or task.prompt_template.endswith("\\"):
        yield "prompt", "may hold no backtick and not end in a backslash"
    if task.agent is not None and (not isinstance(task.agent, str) or not task.agent):
        yield "agent", "must be the name of an agent"
    try:
        task.accept(task.example_input)
    except BadInput as unfit:
        yield "example.input", str(unfit)
    problem = first_problem(Draft202012Validator(task.answer_schema), task.example_answer)
    if problem is not None:
        yield "example.answer", problem.sentence
