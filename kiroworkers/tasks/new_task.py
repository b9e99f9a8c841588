"""
Write the first version of a task file.
"""

from __future__ import annotations

from importlib.resources import files


def new_task(name: str) -> str:
    """
    Return the text of a task file for `name`, with comments for its author.
    """
    text = files("kiroworkers.tasks").joinpath("new-task.txt").read_text(encoding="utf-8")
    title = name.replace("-", " ").strip().capitalize() or name
    return text.replace("NAME", name).replace("TITLE", title)
