"""
Read the files that ``kiroworkers dialect`` is given, and print what is in them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TextIO

from attrs import evolve, frozen

from kiroworkers.clean_text import clean_lines
from kiroworkers.conversations import BadDialect, Dialect, Event, load_dialect, read_dialect
from kiroworkers.conversations.acp.recording import Frame, read_frames
from kiroworkers.conversations.acp.replay import events_in_frames
from kiroworkers.conversations.dialects.dialect import Screen, Window
from kiroworkers.conversations.request_mark import RequestMark, mark_from_json, read_mark
from kiroworkers.conversations.terminal.recording import (
    BadRecording,
    Chunk,
    Marker,
    read_events,
    recorded_command,
    recorded_size,
)
from kiroworkers.conversations.terminal.replay import events_in


@frozen
class Recording:
    """
    Hold a recording of a terminal, or of an agent that speaks a protocol.

    Attributes:
        chunks: What the program printed and what was typed.
        size: The rows and columns of the terminal; None if they are unknown.
        command: The command that ran on it; empty if it is unknown.
        frames: The messages of a protocol; None for a terminal.
        marks: The markers of the server, with their times.
    """

    chunks: Sequence[Chunk]
    size: Window | None = None
    command: str = ""
    frames: Sequence[Frame] | None = None
    marks: Sequence[tuple[float, RequestMark]] = ()

    def events(self, dialect: Dialect) -> Iterator[tuple[float, Event]]:
        """
        Yield the events that `dialect` finds in the recording, with their times.

        Raises:
            BadDialect: If it does not fit the kind of the recording.
            BadRecording: If the recording cannot be followed from its beginning.
        """
        if self.frames is not None:
            if dialect.acp is None:
                raise BadDialect(f"{dialect.name} speaks no protocol, but the recording is of one")
            return events_in_frames(dialect, self.frames)
        if dialect.window is None:
            raise BadDialect(
                f"{dialect.name} has no terminal, so it cannot have a recording of one"
            )
        if self.size is not None:
            dialect = evolve(dialect, screen=Screen(*self.size))
        return events_in(dialect, self.chunks)


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
    Return the recording in `file`.

    A name that ends with neither ``.cast`` nor ``.jsonl`` is that of raw output.

    Raises:
        BadRecording: If the file is not a recording.
        OSError: If it cannot be read.
    """
    path = Path(file)
    if path.suffix not in (".cast", ".jsonl"):
        return Recording([Chunk(0.0, "o", path.read_bytes())])
    try:
        with path.open(encoding="utf-8") as stream:
            lines = list(stream)
        if path.suffix == ".jsonl":
            frames = list(read_frames(lines))
            marked = ((frame.seconds, mark_from_json(frame.data)) for frame in frames)
            return Recording([], frames=frames, marks=_known(marked))
        events = list(read_events(lines))
    except (BadRecording, UnicodeDecodeError) as error:
        raise BadRecording(f"{path}: {error}") from None
    chunks = [event for event in events if isinstance(event, Chunk)]
    labelled = [event for event in events if isinstance(event, Marker)]
    marks = _known((marker.seconds, read_mark(marker.label)) for marker in labelled)
    return Recording(chunks, recorded_size(lines[0]), recorded_command(lines[0]), marks=marks)


def _known(
    marks: Iterable[tuple[float, RequestMark | None]],
) -> list[tuple[float, RequestMark]]:
    return [(seconds, mark) for seconds, mark in marks if mark is not None]


def print_clean(text: object, file: TextIO | None = None) -> None:
    """
    Print `text` with control characters escaped, because it may contain an agent's output.
    """
    print(clean_lines(str(text)), file=file)
