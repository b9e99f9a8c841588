"""
Read the files that ``kiroworkers dialect`` is given, and print what is in them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from attrs import frozen

from kiroworkers.clean_text import clean_lines
from kiroworkers.conversations import BadDialect, Dialect, load_dialect, read_dialect
from kiroworkers.conversations.dialects.dialect import Window
from kiroworkers.conversations.terminal.recording import (
    BadRecording,
    Chunk,
    read_recording,
    recorded_command,
    recorded_size,
)


@frozen
class Recording:
    """
    Hold a recording of a terminal.

    Attributes:
        chunks: What the program printed and what was typed.
        size: The rows and columns of the terminal; None if they are unknown.
        command: The command that ran on it; empty if it is unknown.
    """

    chunks: Sequence[Chunk]
    size: Window | None = None
    command: str = ""


def load(file: str) -> Dialect:
    """
    Return the dialect in `file`, which may also be the name of a built-in dialect.

    Raises:
        BadDialect: If there is no such dialect, or if it is invalid.
    """
    if file.endswith(".toml"):
        return read_dialect(Path(file))
    try:
        return load_dialect(file)
    except OSError:
        raise BadDialect(f"{file} is neither a built-in dialect nor a .toml file") from None


def load_recording(file: str) -> Recording:
    """
    Return the recording in `file`; unless its name ends with ``.cast``, it is raw output.

    Raises:
        BadRecording: If the file is not a recording.
        OSError: If it cannot be read.
    """
    path = Path(file)
    if path.suffix != ".cast":
        return Recording([Chunk(0.0, "o", path.read_bytes())])
    try:
        with path.open(encoding="utf-8") as stream:
            lines = list(stream)
        chunks = list(read_recording(lines))
    except (BadRecording, UnicodeDecodeError) as error:
        raise BadRecording(f"{path}: {error}") from None
    return Recording(chunks, recorded_size(lines[0]), recorded_command(lines[0]))


def print_clean(text: object, file: TextIO | None = None) -> None:
    """
    Print `text` with control characters escaped, because it may contain an agent's output.
    """
    print(clean_lines(str(text)), file=file)
