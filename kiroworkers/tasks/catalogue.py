"""
Read tasks from TOML files, and check each before it is served.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from attrs import frozen
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from kiroworkers.errors import InvalidInput
from kiroworkers.json_schema import first_problem, kinds_of, panics_as_errors
from kiroworkers.tasks.defaults import InvalidDefault, with_defaults
from kiroworkers.tasks.task import Task, TaskLimits
from kiroworkers.tasks.template import BadTemplate

#: The largest task file (bytes) and the longest message about one (characters).
_MAX_FILE_SIZE = 1_000_000
_MAX_MESSAGE_LENGTH = 400

_NAME = re.compile(r"[a-z0-9-]{1,64}")
_WORD = re.compile(r"[!-~]+")

_TEXTS = ("name", "title", "description", "prompt")
_TABLES = ("input", "answer", "example")
_OPTIONAL = ("messages", "choices", "agent", "model", "limits")


class BadTask(ValueError):
    """
    Raised when a task file, or a default value for a task, is invalid.

    The message names the file, the key and the reason, on one line.
    """

    def __init__(self, source: object, reason: str) -> None:
        line = " ".join(f"{source}: {reason}".split())
        if len(line) > _MAX_MESSAGE_LENGTH:
            line = line[: _MAX_MESSAGE_LENGTH - 1] + "…"
        super().__init__(line)


@frozen
class ReadTasks:
    """
    Hold what was read for a `Catalogue`.

    Attributes:
        tasks: The tasks by name.
        replacing: Those of them that replace a built-in task.
    """

    tasks: Mapping[str, Task]
    replacing: tuple[Task, ...]


class Catalogue(Mapping[str, Task]):
    """
    Map the names of tasks to the tasks: the built-in ones and those in a folder.

    The catalogue is empty until `replace` is called; its users then always see the tasks
    of the last call.

    Args:
        folder: The folder of task files, or None for the built-in tasks only.
        check: Raises if the tasks cannot be served here.
        defaults: Default values of input fields, by the names of tasks and fields.
        defaults_source: The file that has `defaults`.
    """

    def __init__(
        self,
        folder: Path | None,
        check: Callable[[Mapping[str, Task]], None],
        defaults: Mapping[str, Mapping[str, Any]] | None = None,
        defaults_source: Path | None = None,
    ) -> None:
        self._folder = folder
        self._check = check
        self._defaults = defaults or {}
        self._defaults_source = defaults_source
        self._tasks: Mapping[str, Task] = {}

    def __getitem__(self, name: str) -> Task:
        return self._tasks[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tasks)

    def __len__(self) -> int:
        return len(self._tasks)

    def read(self) -> ReadTasks:
        """
        Read and check all files, and return the tasks in them.

        This takes long, and changes nothing here: it may be called in any thread.

        Raises:
            BadTask: A file or a default value is invalid.
        """
        builtin = builtin_tasks()
        own = {} if self._folder is None else tasks_in(self._folder)
        tasks = {**builtin, **own}
        for name, values in self._defaults.items():
            tasks[name] = self._with_defaults(tasks, name, values)
        self._check(tasks)
        return ReadTasks(tasks, tuple(task for name, task in own.items() if name in builtin))

    def _with_defaults(
        self, tasks: Mapping[str, Task], name: str, values: Mapping[str, Any]
    ) -> Task:
        table = f"[tasks.{name}]"
        if name not in tasks:
            near = get_close_matches(name, tasks, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise BadTask(
                self._defaults_source,
                f"{table}: there is no such task{hint}; the tasks are {', '.join(tasks)}",
            )
        try:
            return with_defaults(tasks[name], values)
        except InvalidDefault as problem:
            key = f" {problem.field}" if problem.field else ""
            raise BadTask(self._defaults_source, f"{table}{key}: {problem.reason}") from None

    def replace(self, read: ReadTasks) -> None:
        """
        Replace all tasks by those that were read, at once.
        """
        self._tasks = read.tasks


def builtin_tasks() -> Mapping[str, Task]:
    """
    Return the tasks that come with the package, by name.

    The tests have checked their schemas, so a server does not check them again.
    """
    entries = files("kiroworkers.tasks").iterdir()
    sources = sorted(
        (entry for entry in entries if entry.name.endswith(".toml")),
        key=lambda entry: entry.name,
    )
    tasks = (load_task(source, is_checked=True) for source in sources)
    return {task.name: task for task in tasks}


def tasks_in(folder: Path) -> Mapping[str, Task]:
    """
    Return the tasks in the ``*.toml`` files of `folder`, by name.

    Raises:
        BadTask: A file is invalid, or two tasks have the same name.
    """
    tasks: dict[str, Task] = {}
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix == ".toml")
    except OSError as problem:
        raise BadTask(folder, f"cannot be read: {problem.strerror}") from None
    for path in paths:
        task = load_task(path)
        if task.name in tasks:
            raise BadTask(path, f"name: {task.name} is already used by {tasks[task.name].source}")
        tasks[task.name] = task
    return tasks


def load_task(source: Traversable, *, is_checked: bool = False) -> Task:
    """
    Return the task in the TOML file `source`.

    Args:
        source: The file.
        is_checked: Whether its schemas are known to be valid.

    Raises:
        BadTask: The file does not describe a valid task.
    """
    data = _read(source)
    for key, reason in _format_errors(data):
        raise BadTask(source, f"{key}: {reason}")
    for key in () if is_checked else ("input", "answer"):
        for place, reason in _schema_errors(key, data[key]):
            raise BadTask(source, f"{place}: {reason}")
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
            model=data.get("model"),
            limits=TaskLimits(**data.get("limits", {})),
            source=str(source),
        )
    except BadTemplate as problem:
        raise BadTask(source, f"prompt: {problem}") from None
    for key, reason in _consistency_errors(task):
        raise BadTask(source, f"{key}: {reason}")
    return task


def name_problem(name: str) -> str | None:
    """
    Return why `name` cannot be the name of a task, or None if it can.
    """
    if _NAME.fullmatch(name):
        return None
    return "must be 1 to 64 of the characters a-z, 0-9 and -"


def _read(source: Traversable) -> dict[str, Any]:
    """
    Return the tables in `source`, after checking that JSON can hold all values.
    """
    try:
        with source.open("rb") as file:
            text = file.read(_MAX_FILE_SIZE + 1)
        if len(text) > _MAX_FILE_SIZE:
            raise BadTask(source, f"is larger than {_MAX_FILE_SIZE} bytes")
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
            raise BadTask(
                source, f"{key}: contains a date, nan or inf, which JSON cannot hold"
            ) from None
        except RecursionError:
            raise BadTask(source, f"{key}: is nested too deeply") from None
    return data


def _format_errors(data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """
    Yield the keys of `data` that a task cannot have, each with the reason.
    """
    for key in data:
        if key not in (*_TEXTS, *_TABLES, *_OPTIONAL):
            known = ", ".join((*_TEXTS, *_TABLES, *_OPTIONAL))
            yield key, f"is unknown; the known keys are {known}"
    for key in (*_TEXTS, *_TABLES):
        if key not in data:
            yield key, "is missing"
    for key in _TEXTS:
        if not isinstance(data[key], str) or not data[key].strip():
            yield key, "must be a non-empty string"
    problem = name_problem(data["name"])
    if problem is not None:
        yield "name", problem
    for key in (*_TABLES, "messages", "choices", "limits"):
        if not isinstance(data.get(key, {}), dict):
            yield key, "must be a table"
    for key in ("input", "answer"):
        if not isinstance(data["example"].get(key), dict):
            yield f"example.{key}", "must be a table"
    for key in sorted(set(data["example"]) - {"input", "answer"}):
        yield f"example.{key}", "is unknown; the known keys are input and answer"
    for table in ("messages", "choices"):
        for key, value in data.get(table, {}).items():
            if not isinstance(value, str) or not value.strip():
                yield f"{table}.{key}", "must be a non-empty string"
    if "agent" in data and (not isinstance(data["agent"], str) or not data["agent"]):
        yield "agent", "must be the name of an agent"
    if "model" in data and not (isinstance(data["model"], str) and _WORD.fullmatch(data["model"])):
        yield "model", "must be the name of a model, without spaces"
    yield from _limit_errors(data.get("limits", {}))


def _limit_errors(limits: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    kinds = {"timeout": (int, float), "prompt": (int,)}
    for key, value in limits.items():
        if key not in kinds:
            yield f"limits.{key}", f"is unknown; the known keys are {', '.join(kinds)}"
        elif type(value) not in kinds[key] or value <= 0:
            unit = "number of seconds" if key == "timeout" else "whole number of characters"
            yield f"limits.{key}", f"must be a {unit} above 0"


def _schema_errors(key: str, schema: dict[str, Any]) -> Iterator[tuple[str, str]]:
    try:
        # With formats, because a pattern must be a valid regular expression.
        with panics_as_errors():
            Draft202012Validator.check_schema(schema, Draft202012Validator.FORMAT_CHECKER)
    except SchemaError as problem:
        where = ".".join(map(str, (key, *problem.absolute_path)))
        yield where, problem.message
    except RecursionError:
        yield key, "is nested too deeply"
    resolver = Registry[Any]().resolver_with_root(DRAFT202012.create_resource(schema))
    for reference in _references(schema):
        try:
            # Nothing is fetched: the registry knows this schema only.
            resolver.lookup(reference)
        except Unresolvable:
            yield key, f"the reference {reference} does not resolve within this schema"
    if schema.get("type") != "object":
        yield f"{key}.type", 'must be "object"'


def _references(schema: Any) -> Iterator[str]:
    match schema:
        case dict():
            for name, subschema in schema.items():
                if name in ("$ref", "$dynamicRef") and isinstance(subschema, str):
                    yield subschema
                yield from _references(subschema)
        case list():
            for subschema in schema:
                yield from _references(subschema)


def _consistency_errors(task: Task) -> Iterator[tuple[str, str]]:
    """
    Yield the keys of `task` that contradict others, each with the reason.
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
        yield key, "a reference in the schema does not resolve"
