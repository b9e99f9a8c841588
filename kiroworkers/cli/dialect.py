"""
Tools for dialects: ``python -m kiroworkers.dialect check`` and ``record``.

`check` reads a dialect, and shows the events that it reads from a recording.
`record` runs a program and keeps what its terminal says and hears, so that a
session that misbehaves can be sent as a test.
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

from attrs import evolve

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
from kiroworkers.conversations.dialects.dialect import BracketedPastePrompt
from kiroworkers.conversations.terminal.recording import (
    BadRecording,
    Piece,
    Writer,
    read_recording,
    recorded_size,
)

#: Most output of a turn that is kept, as the server's default.
_MAX_OUTPUT = 8 * 1024**2

_LONGEST_SHOWN = 500


def events_in(dialect: Dialect, pieces: Iterable[Piece]) -> Iterator[tuple[float, Event]]:
    """
    What `dialect` reads from a recording, with times.  A line that was typed at
    the prompt counts as a question.
    """
    conversation = new_conversation(dialect, _MAX_OUTPUT)
    typed = b""
    silent_from: float | None = None
    for piece in chain(pieces, (None,)):
        # Silence between two pieces, and after the last.
        patience = conversation.quiet_timeout
        if silent_from is not None and patience is not None:
            until = silent_from + patience
            if piece is None or piece.seconds >= until:
                for event in conversation.on_quiet():
                    yield until, event
        if piece is None:
            return
        if piece.direction == "o":
            silent_from = piece.seconds
            for event in conversation.feed(piece.data):
                yield piece.seconds, event
            continue
        if (
            not typed
            and conversation.at_prompt
            and not isinstance(dialect.readiness, BracketedPastePrompt)
        ):
            # Its prompt goes with the first key, so that says what comes.
            clear = dialect.clear
            if clear is not None and clear.type.startswith(piece.data):
                conversation.clear()
            else:
                conversation.ask("something")
        typed += piece.data
        if not typed.endswith(dialect.keys.submit):
            continue
        line, typed = typed, b""
        if conversation.at_prompt:
            _replay(conversation, dialect, line)


def _where(dialect: Dialect) -> str:
    if dialect.window is None:
        return "with pipes"
    rows, columns = dialect.window
    return f"on {columns}x{rows}"


def _replay(conversation: Conversation, dialect: Dialect, typed: bytes) -> None:
    """
    Tell `conversation` that this line was typed at the prompt.
    """
    keys, clear, approval = dialect.keys, dialect.clear, dialect.approval
    if clear is not None and typed == clear.type:
        conversation.clear()
    elif approval is not None and typed in [menu.keys for menu in approval.deny]:
        conversation.deny()
    elif clear is not None and typed == clear.confirm:
        conversation.confirm_clear()
    else:
        text = typed.removesuffix(keys.submit)
        text = text.removeprefix(keys.paste_start).removesuffix(keys.paste_end)
        try:
            conversation.ask(text.decode("utf-8", "replace"))
        except (UnsafePrompt, LineTooLong):
            return  # a command of the agent's: its prompt strays


def check(file: str, recording: str | None) -> int:
    """
    Print what is known of the dialect `file` (a path, or a built-in's name), and
    the events in `recording`: one of ours, or raw bytes.
    """
    try:
        dialect = read_dialect(Path(file)) if file.endswith(".toml") else _builtin(file)
        print(f"{dialect.name}: {dialect.label}")
        command = shlex.join([dialect.program or "python", *dialect.command(None)])
        print(f"starts: {command}, {_where(dialect)}")
        if recording is not None and dialect.window is None:
            raise BadDialect(f"{dialect.name} has no terminal that could have been recorded")
        if recording is not None:
            path = Path(recording)
            if path.suffix == ".cast":
                dialect = _sized(dialect, path)
            for seconds, event in events_in(dialect, _pieces(path)):
                shown = str(event)
                if len(shown) > _LONGEST_SHOWN:
                    shown = f"{shown[:_LONGEST_SHOWN]}… ({len(shown)} characters)"
                print(f"{seconds:10.3f} s  {shown}")
    except (BadDialect, BadRecording, OSError) as problem:
        print(problem, file=sys.stderr)
        return 1
    return 0


def _builtin(name: str) -> Dialect:
    try:
        return load_dialect(name)
    except OSError:
        raise BadDialect(f"{name}: neither a built-in dialect nor a .toml file") from None


def _sized(dialect: Dialect, path: Path) -> Dialect:
    """
    `dialect`, on a terminal of the size that was recorded.
    """
    with path.open(encoding="utf-8", errors="replace") as lines:
        size = recorded_size(lines.readline())
    return dialect if size is None else evolve(dialect, window=size)


def _pieces(path: Path) -> Iterator[Piece]:
    if path.suffix == ".cast":
        try:
            with path.open(encoding="utf-8") as lines:
                yield from read_recording(lines)
        except (BadRecording, UnicodeDecodeError) as problem:
            raise BadRecording(f"{path}: {problem}") from None
    else:
        yield Piece(0.0, "o", path.read_bytes())


def record(command: Sequence[str], output: str, rows: int, columns: int) -> int:
    """
    Run `command` on a terminal of this size inside this one, and write what it
    says and hears to the file `output`; the command's exit status.
    """
    writer = Writer(rows, columns, shlex.join(command))
    began = time.monotonic()
    with open(output, "x", encoding="utf-8") as file:
        os.chmod(output, 0o600)  # it holds what was typed
        file.write(writer.header())

        def keep(descriptor: int, direction: str) -> bytes:
            data = os.read(descriptor, 65536)
            piece = Piece(time.monotonic() - began, "i" if direction == "i" else "o", data)
            file.write(writer.line(piece))
            file.flush()
            return data

        # The size is set from within, so that the program never sees another.
        sized = ["sh", "-c", f'stty rows {rows} columns {columns} && exec "$@"', "sh", *command]
        status = pty.spawn(sized, lambda each: keep(each, "o"), lambda each: keep(each, "i"))
        file.write(writer.last_lines(time.monotonic() - began))
    print(f"\r\nkept in {output}", file=sys.stderr)
    return os.waitstatus_to_exitcode(status)


def main(arguments: Sequence[str] | None = None) -> int:
    """
    The command line; the exit status.
    """
    parser = argparse.ArgumentParser(prog="python -m kiroworkers.dialect", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    checking = commands.add_parser("check", help="check a dialect, and read a recording by it")
    checking.add_argument("dialect", help="a .toml file, or the name of a built-in dialect")
    checking.add_argument("recording", nargs="?", help="a .cast file of `record`, or raw bytes")
    recording = commands.add_parser("record", help="run a program and record its terminal")
    recording.add_argument("--output", default="session.cast", help="new file (%(default)s)")
    recording.add_argument("--rows", type=int, default=50, help="%(default)s")
    recording.add_argument("--columns", type=int, default=1000, help="%(default)s")
    recording.add_argument("program", nargs="+", help="after --, the program and its arguments")
    chosen = parser.parse_args(arguments)
    if chosen.command == "check":
        return check(chosen.dialect, chosen.recording)
    try:
        return record(chosen.program, chosen.output, chosen.rows, chosen.columns)
    except OSError as problem:
        print(problem, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
