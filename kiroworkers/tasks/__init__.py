"""
Describe tasks as data, and find their answers in an agent's output.

A `Task` is a prompt, an input schema and an answer schema, kept in one TOML file.
This package does no I/O besides reading those files; how a prompt reaches an agent
is not its concern.
"""

from kiroworkers.tasks.answer import AnswerSearch, ParsedAnswer, find_answer
from kiroworkers.tasks.catalogue import (
    BadTask,
    Catalogue,
    ReadTasks,
    builtin_tasks,
    load_task,
    name_problem,
)
from kiroworkers.tasks.known_fields import UnknownField
from kiroworkers.tasks.new_task import new_task
from kiroworkers.tasks.task import Task

__all__ = [
    "AnswerSearch",
    "BadTask",
    "Catalogue",
    "ParsedAnswer",
    "ReadTasks",
    "Task",
    "UnknownField",
    "builtin_tasks",
    "find_answer",
    "load_task",
    "name_problem",
    "new_task",
]
