"""
Check a dialect file, and show the events that the dialect finds in a recording.
"""

from __future__ import annotations

import shlex

from kiroworkers.cli.dialect_files import load, load_recording, print_clean
from kiroworkers.conversations import Dialect
from kiroworkers.conversations.request_mark import ASKED
from kiroworkers.conversations.terminal.recording import BadRecording

#: The maximum number of characters of an event that are shown.
_MAX_SHOWN = 500

_UNUSED = (
    "[tools] used has no effect: a tool counts only if what follows proves that it was used and "
    "not only mentioned; that takes [prompt] with answer.prefix or tools.done, or [line] with "
    "answer.prefix"
)


def check(file: str, recording_file: str | None) -> None:
    """
    Describe a dialect, and print the events that it finds in a recording.

    Args:
        file: The path of a dialect file, or the name of a built-in dialect.
        recording_file: The path of a recording made by `record` or by a server, or of a file with
            raw output; None for none.

    Raises:
        BadDialect: If there is no such dialect, or if it is invalid.
        BadRecording: If the recording cannot be understood.
        OSError: If a file cannot be read.
    """
    dialect = load(file)
    print_clean(f"{dialect.name}: {dialect.label}")
    command = shlex.join([dialect.start.program or "python", *dialect.command(None)])
    print_clean(f"starts: {command}, {_describe_terminal(dialect)}")
    if dialect.tools.used is not None and not _notices_tools(dialect):
        print_clean(_UNUSED)
    if recording_file is None:
        return
    recording = load_recording(recording_file)
    # A marker stands before the events of its moment, unless it says how they ended.
    lines = [
        (seconds, 0 if mark.kind == ASKED else 2, f"-- {mark.label()}")
        for seconds, mark in recording.marks
    ]
    try:
        lines += [(seconds, 1, str(event)) for seconds, event in recording.events(dialect)]
    except BadRecording as problem:
        print_clean(f"the events cannot be found: {problem}")
    for seconds, _, text in sorted(lines, key=lambda line: line[:2]):
        shown = text
        if len(text) > _MAX_SHOWN:
            shown = f"{text[:_MAX_SHOWN]}… ({len(text)} characters)"
        print_clean(f"{seconds:10.3f} s  {shown}")


def _describe_terminal(dialect: Dialect) -> str:
    if dialect.window is None:
        return "with pipes"
    rows, columns = dialect.window
    return f"on {columns}x{rows}"


def _notices_tools(dialect: Dialect) -> bool:
    """
    Return whether tools that the agent announces are noticed.
    """
    if dialect.answer.prefix is not None:
        return dialect.prompt is not None or dialect.line is not None
    return dialect.prompt is not None and dialect.tools.done is not None
