"""
What to ask: tasks as data, and finding the answer in what an agent said.

A `Task` is a prompt, an input schema and an answer schema, kept as one TOML
file.  Nothing here knows how the question travels.
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
