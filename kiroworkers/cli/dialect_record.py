"""
Run a program within this terminal, and record what it prints and what is typed.
"""

from __future__ import annotations

import os
import pty
import shlex
import sys
import time
from collections.abc import Sequence

from kiroworkers.conversations.terminal.recording import Chunk, RecordingWriter


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
