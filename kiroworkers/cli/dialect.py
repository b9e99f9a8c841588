"""
Check and record how agents use the terminal: ``kiroworkers dialect check`` and ``record``.

`check` checks a dialect file, and shows the events that the dialect finds in a recording.
`record` runs a program and records its terminal, so that a session that was misread can be
reported and tested.
"""

from __future__ import annotations

import argparse
import os
import pty
import shlex
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TextIO

from attrs import evolve

from kiroworkers.clean_text import clean_lines
from kiroworkers.conversations import (
    BadDialect,
    Conversation,
    Dialect,
    Event,
    LineTooLong,
    UnsafePrompt,
    load_dialect,
    new_conversation,
    read_dialect,
)
from kiroworkers.conversations.dialects.dialect import BracketedPastePrompt, Screen
from kiroworkers.conversations.terminal.recording import (
    BadRecording,
    Chunk,
    RecordingWriter,
    read_recording,
    recorded_size,
)

#: The maximum output of a turn, in bytes: the server's default of --max-output.
_MAX_OUTPUT = 8 * 1024**2

#: The maximum number of characters of an event that are shown.
_MAX_SHOWN = 500


def events_in(dialect: Dialect, chunks: Iterable[Chunk]) -> Iterator[tuple[float, Event]]:
    """
    Yield the events that `dialect` finds in a recording, each with its time in seconds.

    A line that was typed at the prompt counts as a request.

    Args:
        dialect: The dialect of the program that was recorded.
        chunks: The recording: what the program printed and what was typed.
    """
    conversation = new_conversation(dialect, _MAX_OUTPUT)
    typed = b""
    silent_from: float | None = None
    for chunk in chain(chunks, (None,)):
        # Silence between two chunks, or after the last.
        while silent_from is not None and (quiet_timeout := conversation.quiet_timeout) is not None:
            silent_from += quiet_timeout
            if chunk is not None and chunk.seconds < silent_from:
                break
            for event in conversation.on_quiet():
                yield silent_from, event
        if chunk is None:
            return
        if chunk.direction == "o":
            silent_from = chunk.seconds
            for event in conversation.feed(chunk.data):
                yield chunk.seconds, event
            continue
        if (
            not typed
            and conversation.at_prompt
            and not isinstance(dialect.readiness, BracketedPastePrompt)
        ):
            # The prompt vanishes at the first key, which therefore has to tell whether
            # a clear or a request follows.
            clear = dialect.clear
            if clear is not None and clear.type.startswith(chunk.data):
                conversation.clear()
            else:
                conversation.ask("something")
        typed += chunk.data
        if not typed.endswith(dialect.keys.submit):
            continue
        line, typed = typed, b""
        if conversation.at_prompt:
            _replay(conversation, dialect, line)


def _describe_terminal(dialect: Dialect) -> str:
    if dialect.window is None:
        return "with pipes"
    rows, columns = dialect.window
    return f"on {columns}x{rows}"


def _replay(conversation: Conversation, dialect: Dialect, typed: bytes) -> None:
    """
    Call the method of `conversation` that makes the server type `typed`.
    """
    keys, clear, approval = dialect.keys, dialect.clear, dialect.approval
    if clear is not None and typed == clear.type:
        conversation.clear()
    elif approval is not None and typed in [menu.keys for menu in approval.deny_menus]:
        conversation.deny()
    elif clear is not None and typed == clear.confirm:
        conversation.confirm_clear()
    else:
        text = typed.removesuffix(keys.submit)
        text = text.removeprefix(keys.paste_start).removesuffix(keys.paste_end)
        try:
            conversation.ask(text.decode("utf-8", "replace"))
        except (UnsafePrompt, LineTooLong):
            return  # a command of the agent's own, which a conversation does not know


def check(file: str, recording: str | None) -> int:
    """
    Describe a dialect, and print the events that it finds in a recording.

    Args:
        file: The path of a dialect file, or the name of a built-in dialect.
        recording: The path of a recording made by `record`, or of a file with raw output;
            None for none.

    Returns:
        The exit status.
    """
    try:
        dialect = read_dialect(Path(file)) if file.endswith(".toml") else _load_builtin(file)
        _print(f"{dialect.name}: {dialect.label}")
        command = shlex.join([dialect.start.program or "python", *dialect.command(None)])
        _print(f"starts: {command}, {_describe_terminal(dialect)}")
        if recording is not None and dialect.window is None:
            raise BadDialect(f"{dialect.name} has no terminal, so it cannot have a recording")
        if recording is not None:
            path = Path(recording)
            if path.suffix == ".cast":
                dialect = _with_recorded_size(dialect, path)
            for seconds, event in events_in(dialect, _chunks(path)):
                text = str(event)
                if len(text) > _MAX_SHOWN:
                    text = f"{text[:_MAX_SHOWN]}… ({len(text)} characters)"
                _print(f"{seconds:10.3f} s  {text}")
    except (BadDialect, BadRecording, OSError) as error:
        _print(error, file=sys.stderr)
        return 1
    return 0


def _print(text: object, file: TextIO | None = None) -> None:
    """
    Print `text`, which may hold an agent's words.
    """
    print(clean_lines(str(text)), file=file)


def _load_builtin(name: str) -> Dialect:
    try:
        return load_dialect(name)
    except OSError:
        raise BadDialect(f"{name} is neither a built-in dialect nor a .toml file") from None


def _with_recorded_size(dialect: Dialect, path: Path) -> Dialect:
    """
    Return `dialect` with the size of the terminal that was recorded.
    """
    with path.open(encoding="utf-8", errors="replace") as lines:
        size = recorded_size(lines.readline())
    return dialect if size is None else evolve(dialect, screen=Screen(*size))


def _chunks(path: Path) -> Iterator[Chunk]:
    if path.suffix == ".cast":
        try:
            with path.open(encoding="utf-8") as lines:
                yield from read_recording(lines)
        except (BadRecording, UnicodeDecodeError) as error:
            raise BadRecording(f"{path}: {error}") from None
    else:
        yield Chunk(0.0, "o", path.read_bytes())


def record(command: Sequence[str], output: str, rows: int, columns: int) -> int:
    """
    Run a program within this terminal, and record what it prints and what is typed.

    Args:
        command: The program and its arguments.
        output: The path of the recording, which must not exist yet.
        rows: The height of the terminal that the program sees.
        columns: The width of that terminal.

    Returns:
        The exit status of the program.

    Raises:
        OSError: If the recording cannot be written.
    """
    writer = RecordingWriter(rows, columns, shlex.join(command))
    started_at = time.monotonic()
    with open(output, "x", encoding="utf-8") as file:
        os.chmod(output, 0o600)  # a password may have been typed
        file.write(writer.header())

        def read_and_record(descriptor: int, direction: str) -> bytes:
            data = os.read(descriptor, 65536)
            chunk = Chunk(time.monotonic() - started_at, "i" if direction == "i" else "o", data)
            file.write(writer.line(chunk))
            file.flush()
            return data

        # Set the size from within, so that the program never sees another one.
        sized_command = [
            "sh",
            "-c",
            f'stty rows {rows} columns {columns} && exec "$@"',
            "sh",
            *command,
        ]
        status = pty.spawn(
            sized_command,
            lambda descriptor: read_and_record(descriptor, "o"),
            lambda descriptor: read_and_record(descriptor, "i"),
        )
        file.write(writer.closing_lines(time.monotonic() - started_at))
    print(f"\r\nrecorded in {output}", file=sys.stderr)
    return os.waitstatus_to_exitcode(status)


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run the command line and return the exit status.

    Args:
        arguments: The arguments; by default those of this process.
    """
    parser = argparse.ArgumentParser(prog="kiroworkers dialect", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    checking = commands.add_parser(
        "check", help="check a dialect, and show the events that it finds in a recording"
    )
    checking.add_argument("dialect", help="dialect file (.toml), or name of a built-in dialect")
    checking.add_argument(
        "recording", nargs="?", help="recording (.cast) made by `record`, or a file of raw output"
    )
    recording = commands.add_parser("record", help="run a program and record its terminal")
    recording.add_argument(
        "--output", default="session.cast", help="new file for the recording [default: %(default)s]"
    )
    recording.add_argument(
        "--rows", type=int, default=50, help="height of the terminal [default: %(default)s]"
    )
    recording.add_argument(
        "--columns", type=int, default=1000, help="width of the terminal [default: %(default)s]"
    )
    recording.add_argument("program", nargs="+", help="the program and its arguments, after --")
    options = parser.parse_args(arguments)
    if options.command == "check":
        return check(options.dialect, options.recording)
    try:
        return record(options.program, options.output, options.rows, options.columns)
    except OSError as error:
        _print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
