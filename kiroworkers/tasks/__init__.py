"""
Describe tasks as data, and find their answers in an agent's output.

A `Task` is a prompt, an input schema and an answer schema, kept in one TOML file.
This package does no I/O besides reading those files; how a prompt reaches an agent
is not its concern.
"""

from kiroworkers.tasks.answer import ParsedAnswer, find_answer
from kiroworkers.tasks.catalogue import BadTask, Catalogue, builtin_tasks, load_task
from kiroworkers.tasks.task import Task

__all__ = [
    "BadTask",
    "Catalogue",
    "ParsedAnswer",
    "Task",
    "builtin_tasks",
    "find_answer",
    "load_task",
]
