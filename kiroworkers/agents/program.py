"""
Ask an installed program for its version or its help.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from tempfile import TemporaryFile
from threading import Lock

from kiroworkers.conversations.dialects.dialect import version_in

#: How much of the output of a version or help command is read, in bytes.
_MAX_COMMAND_OUTPUT = 64 * 1024

#: How much of one of its lines is kept, in characters.
_MAX_VERSION_LENGTH = 200

#: A line that has only a version, and perhaps a remark in brackets:
#: ``kiro-cli 2.11.0``, ``llm, version 0.36``, ``2.1.39 (Claude Code)``, ``v0.61.0``.
_VERSION_LINE = re.compile(
    r"(?:(?P<name>[\w.@/-]*[a-z][\w.@/-]*)(?:,? version)?[ :]+)?"
    r"v?\d+(?:\.\d+)+[\w.+-]*(?: *\([^()]*\))?",
    re.IGNORECASE,
)

#: Seconds that a program may take to print its version or its help.  Some need several on an idle
#: machine.
_COMMAND_TIMEOUT = 30.0


def version_line(output: str, program: str) -> str:
    """
    Return the line of `output` that has the version of `program`.

    Notices, such as that of a newer version, may come before and after it.

    Args:
        output: What a program has printed when it was asked for its version.
        program: The name of its file.

    Returns:
        The line, without control characters.  If no line is certain, the last line with any
        version; without one, the first line; an empty string if there is no line.
    """
    lines = [" ".join(line.split()) for line in output.splitlines() if line.strip()]
    lines = ["".join(filter(str.isprintable, line))[:_MAX_VERSION_LENGTH] for line in lines]
    matches = [(line, _VERSION_LINE.fullmatch(line)) for line in lines]
    for line, match in matches:
        if match and match["name"] and match["name"].lower().startswith(program.lower()):
            return line
    for line, match in matches:
        if match and match["name"] is None:
            return line
    with_version = [line for line in lines if version_in(line)]
    return (with_version[-1:] or lines or [""])[0]


class RunningCommands:
    """
    Hold the commands that run in threads, so that another thread can end them.

    Attributes:
        stopped: Whether they were ended; commands that start later end at once.
    """

    def __init__(self) -> None:
        self.stopped = False
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._lock = Lock()

    def add(self, process: subprocess.Popen[bytes]) -> None:
        """
        Add a command that has just been started.
        """
        with self._lock:
            self._processes.add(process)
            if self.stopped:
                process.kill()

    def discard(self, process: subprocess.Popen[bytes]) -> None:
        """
        Remove a command that has ended.
        """
        with self._lock:
            self._processes.discard(process)

    def stop(self) -> None:
        """
        End all commands, also those that are just being started.
        """
        with self._lock:
            self.stopped = True
            for process in self._processes:
                process.kill()


def read_output(
    command: list[str],
    environment: Mapping[str, str],
    timeout: float = _COMMAND_TIMEOUT,
    running: RunningCommands | None = None,
) -> str:
    """
    Run `command` and return what it prints.  Blocks for up to `timeout` seconds.

    Args:
        command: The program and its arguments.
        environment: Its whole environment.
        timeout: How long it may take.
        running: Gets the process while it runs; another thread may end it.

    Returns:
        The first 64 KiB, or an empty string if the command cannot be started, prints nothing
        or takes too long.
    """
    with TemporaryFile() as output:
        try:
            process = subprocess.Popen(
                command,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                # Not a pipe: a child that the command leaves behind would keep it open.
                stdout=output,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError:
            return ""
        if running is not None:
            running.add(process)
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            return ""
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if running is not None:
                running.discard(process)
        output.seek(0)
        return output.read(_MAX_COMMAND_OUTPUT).decode("utf-8", "replace")
