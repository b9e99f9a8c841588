"""
Reading tasks from their TOML files, each checked before anyone may ask.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from kiroworkers.errors import InvalidInput
from kiroworkers.json_schema import first_problem, kinds_of
from kiroworkers.tasks.task import Task, TaskLimits
from kiroworkers.tasks.template import BadTemplate

#: Bytes of a task file, and characters of a message about one.
_LARGEST = 1_000_000
_LONGEST_MESSAGE = 400

_NAME = re.compile(r"[a-z0-9-]{1,64}")

_TEXTS = ("name", "title", "description", "prompt")
_TABLES = ("input", "answer", "example")
_OPTIONAL = ("messages", "choices", "agent", "limits")


class BadTask(ValueError):
    """
    A task file is wrong; the message names the file, the key and the reason, in
    one line.
    """

    def __init__(self, source: object, reason: str) -> None:
        line = " ".join(f"{source}: {reason}".split())
        if len(line) > _LONGEST_MESSAGE:
            line = line[: _LONGEST_MESSAGE - 1] + "…"
        super().__init__(line)


class Catalogue(Mapping[str, Task]):
    """
    The tasks that can be asked, by name: the built-in ones, and those in
    `folder`.  Empty until it is read; whoever has one sees what was read last.

    Args:
        check: says whether the tasks can be served here, by raising if not.
    """

    def __init__(self, folder: Path | None, check: Callable[[Mapping[str, Task]], None]) -> None:
        self._folder = folder
        self._check = check
        self._tasks: Mapping[str, Task] = {}

    def __getitem__(self, name: str) -> Task:
        return self._tasks[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tasks)

    def __len__(self) -> int:
        return len(self._tasks)

    def read(self) -> list[Task]:
        """
        Read all files, or change nothing when one of them is wrong; the tasks that
        replace built-in ones.

        Raises:
            BadTask: when one is.
        """
        builtin = builtin_tasks()
        own = {} if self._folder is None else tasks_in(self._folder)
        tasks = {**builtin, **own}
        self._check(tasks)
        self._tasks = tasks
        return [task for name, task in own.items() if name in builtin]


def builtin_tasks() -> Mapping[str, Task]:
    """
    The tasks that come with the package, by name.
    """
    sources = sorted(
        (each for each in files("kiroworkers.tasks").iterdir() if each.name.endswith(".toml")),
        key=lambda each: each.name,
    )
    return {task.name: task for task in map(load_task, sources)}


def tasks_in(folder: Path) -> Mapping[str, Task]:
    """
    The tasks in the files ``*.toml`` of `folder`, by name.

    Raises:
        BadTask: when one is wrong, or has another's name.
    """
    found: dict[str, Task] = {}
    try:
        paths = sorted(each for each in folder.iterdir() if each.suffix == ".toml")
    except OSError as problem:
        raise BadTask(folder, f"cannot be read: {problem.strerror}") from None
    for path in paths:
        task = load_task(path)
        if task.name in found:
            raise BadTask(path, f"name: {task.name} is that of {found[task.name].source}, too")
        found[task.name] = task
    return found


def load_task(source: Traversable) -> Task:
    """
    The task in the TOML file `source`.

    Raises:
        BadTask: when the file cannot be a task.
    """
    data = _read(source)
    for key, reason in _misformed(data):
        raise BadTask(source, f"{key}: {reason}")
    try:
        task = Task(
            name=data["name"],
            title=data["title"].strip(),
            description=data["description"].strip(),
            prompt_template=data["prompt"].strip(),
            input_schema=data["input"],
            answer_schema=data["answer"],
            example_input=data["example"]["input"],
            example_answer=data["example"]["answer"],
            messages=data.get("messages", {}),
            choices=data.get("choices", {}),
            agent=data.get("agent"),
            limits=TaskLimits(**data.get("limits", {})),
            source=str(source),
        )
    except BadTemplate as problem:
        raise BadTask(source, f"prompt: {problem}") from None
    for key, reason in _faults(task):
        raise BadTask(source, f"{key}: {reason}")
    return task


def _read(source: Traversable) -> dict[str, Any]:
    """
    The tables in `source`, which hold nothing that JSON does not.
    """
    try:
        with source.open("rb") as file:
            text = file.read(_LARGEST + 1)
        if len(text) > _LARGEST:
            raise BadTask(source, f"is larger than {_LARGEST} bytes")
        data = tomllib.loads(text.decode())
    except OSError as problem:
        raise BadTask(source, f"cannot be read: {problem.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise BadTask(source, str(problem)) from None
    except RecursionError:
        raise BadTask(source, "is nested too deeply") from None
    for key, value in data.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError):
            raise BadTask(source, f"{key}: holds a date, nan or inf, which JSON has not") from None
        except RecursionError:
            raise BadTask(source, f"{key}: is nested too deeply") from None
    return data


def _misformed(data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """
    What keeps `data` from being a task at all.
    """
    for key in data:
        if key not in (*_TEXTS, *_TABLES, *_OPTIONAL):
            yield key, f"is not known; there are {', '.join((*_TEXTS, *_TABLES, *_OPTIONAL))}"
    for key in (*_TEXTS, *_TABLES):
        if key not in data:
            yield key, "is missing"
    for key in _TEXTS:
        if not isinstance(data[key], str) or not data[key].strip():
            yield key, "must be a text"
    if not _NAME.fullmatch(data["name"]):
        yield "name", "must be at most 64 of the characters a-z, 0-9 and -"
    for key in (*_TABLES, "messages", "choices", "limits"):
        if not isinstance(data.get(key, {}), dict):
            yield key, "must be a table"
    for key in ("input", "answer"):
        if not isinstance(data["example"].get(key), dict):
            yield f"example.{key}", "must be a table"
    for key in sorted(set(data["example"]) - {"input", "answer"}):
        yield f"example.{key}", "is not known; there are input and answer"
    for table in ("messages", "choices"):
        for key, value in data.get(table, {}).items():
            if not isinstance(value, str) or not value.strip():
                yield f"{table}.{key}", "must be a text"
    if "agent" in data and (not isinstance(data["agent"], str) or not data["agent"]):
        yield "agent", "must be the name of an agent"
    yield from _wrong_limits(data.get("limits", {}))
    for key in ("input", "answer"):
        yield from _wrong_schema(key, data[key])


def _wrong_limits(limits: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    kinds = {"timeout": (int, float), "prompt": (int,)}
    for key, value in limits.items():
        if key not in kinds:
            yield f"limits.{key}", f"is not known; there are {', '.join(kinds)}"
        elif type(value) not in kinds[key] or value <= 0:
            what = "number of seconds" if key == "timeout" else "whole number of characters"
            yield f"limits.{key}", f"must be a {what} above 0"


def _wrong_schema(key: str, schema: dict[str, Any]) -> Iterator[tuple[str, str]]:
    try:
        # With formats, because a pattern is to be a regular expression.
        Draft202012Validator.check_schema(schema, Draft202012Validator.FORMAT_CHECKER)
    except SchemaError as problem:
        where = ".".join(map(str, (key, *problem.absolute_path)))
        yield where, problem.message
    resolver = Registry[Any]().resolver_with_root(DRAFT202012.create_resource(schema))
    for reference in _references(schema):
        try:
            # Never fetched: the registry knows this schema alone.
            resolver.lookup(reference)
        except Unresolvable:
            yield key, f"the reference {reference} leads nowhere in this schema"
    if schema.get("type") != "object":
        yield f"{key}.type", 'must be "object"'


def _references(schema: Any) -> Iterator[str]:
    match schema:
        case dict():
            for name, each in schema.items():
                if name in ("$ref", "$dynamicRef") and isinstance(each, str):
                    yield each
                yield from _references(each)
        case list():
            for each in schema:
                yield from _references(each)


def _faults(task: Task) -> Iterator[tuple[str, str]]:
    """
    What does not go together in `task`.
    """
    for wanted, offered in task.choices.items():
        chosen = task.answer_schema.get("properties", {}).get(wanted)
        if not isinstance(chosen, dict) or not isinstance(chosen.get("items"), dict):
            yield f"choices.{wanted}", f"answer.properties.{wanted} must be a list with items"
        given = task.input_schema.get("properties", {}).get(offered)
        if not isinstance(given, dict) or kinds_of(given) != {"array"}:
            yield f"choices.{wanted}", f"input.properties.{offered} must be of type array"
    key = "example.input"
    try:
        request = task.accept(task.example_input)
        key = "example.answer"
        schema = task.answer_schema_for(request)
        problem = first_problem(Draft202012Validator(schema), task.example_answer)
        if problem is not None:
            yield key, problem.sentence
        key = "prompt"
        task.prompt(request)
    except (InvalidInput, BadTemplate) as unfit:
        yield key, str(unfit)
    except Unresolvable:
        yield key, "a reference of the schema leads nowhere"
