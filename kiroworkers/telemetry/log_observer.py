"""
Log where twistd would, through a `LogWriter`, as text or as JSON.

The text is twistd's own, except that nothing in it can control the terminal of its reader.
If standard output is the journal of systemd, lines have priorities instead of times.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import syslog
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from types import MappingProxyType
from typing import Any, Protocol

from twisted.logger import ILogObserver, LogEvent, LogLevel
from twisted.python.logfile import LogFile
from twisted.python.syslog import DEFAULT_FACILITY, DEFAULT_OPTIONS
from zope.interface import implementer

from kiroworkers.request_record import RequestRecord
from kiroworkers.telemetry.access_log import line_size
from kiroworkers.telemetry.log_format import (
    PRIORITIES,
    Format,
    journal_json_line,
    journal_lines,
    json_line,
    level_of,
    levels_from,
    syslog_lines,
    text_lines,
)
from kiroworkers.telemetry.log_writer import LogWriter, Write


class _Output(Protocol):
    """
    Represent a destination of the log.
    """

    def write(self, data: bytes) -> None:
        """
        Write `data`, or raise `OSError`.
        """


class _Descriptor:
    """
    Write to a file descriptor, such as that of standard output.

    A buffered file has a lock, which a thread that hangs in a write would hold when the
    interpreter wants to flush the file at exit.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, data: bytes) -> None:
        """
        Write `data`, and wait if the descriptor does not block and is not ready.
        """
        while data:
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:
                poll = select.poll()
                poll.register(self._descriptor, select.POLLOUT)
                poll.poll()


class _RotatedFile:
    """
    Write to a log file as twistd does: it is rotated at a megabyte, and on request.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._file: Any = LogFile.fromFullPath(path)

    def write(self, data: bytes) -> None:
        """
        Write `data`, to a new file if the old one has reached its size.
        """
        if self._file.closed:
            # A rotation could not create the new file.
            self._file = LogFile.fromFullPath(self._path)
        self._file.write(data)

    def rotate(self) -> None:
        """
        Begin a new file, and keep the old one under another name.
        """
        with suppress(OSError):
            self._file.rotate()


@implementer(ILogObserver)
class _Observer:
    """
    Format the events of some levels, and submit their lines to a writer.

    Args:
        writer: Writes the lines.
        levels: The levels that are logged.
        format: Formats an event.
    """

    def __init__(self, writer: LogWriter, levels: frozenset[str], format: Format) -> None:
        self._writer = writer
        self._levels = levels
        self._format = format
        writer.dropped_notice = self._dropped_notice

    def __call__(self, event: LogEvent) -> None:
        """
        Submit the lines of `event`, if its level is logged.

        Its facts may change, so they are formatted now, except for a request that has ended: most
        lines are about those, and the thread formats many of them in less time.
        """
        if level_of(event) in self._levels:
            record = event.get("record")
            if isinstance(record, RequestRecord):
                self._writer.submit(partial(self._write_event, event), line_size(record))
                return
            text = self._format(event)
            if text:
                write, size = self._write_of(event, text)
                self._writer.submit(write, size)

    def _write_event(self, event: LogEvent) -> None:
        self._write_of(event, self._format(event))[0]()

    def _dropped_notice(self, lines: int) -> Write:
        event: LogEvent = {
            "log_format": "{text}",
            "log_level": LogLevel.warn,
            "log_namespace": "kiroworkers.log",
            "log_time": time.time(),
            "text": dropped_text(lines),
            "dropped": lines,
        }
        return self._write_of(event, self._format(event))[0]

    def _write_of(self, event: LogEvent, text: str) -> tuple[Write, int]:
        """
        Return the function that writes `text`, and its size in bytes.
        """
        raise NotImplementedError


class _OutputObserver(_Observer):
    """
    Write to a file, a terminal or a pipe.
    """

    def __init__(
        self,
        writer: LogWriter,
        levels: frozenset[str],
        format: Format,
        output: _Output,
        encoding: str,
    ) -> None:
        super().__init__(writer, levels, format)
        self._output = output
        self._encoding = encoding

    def _write_of(self, event: LogEvent, text: str) -> tuple[Write, int]:
        data = text.encode(self._encoding, "backslashreplace")
        return partial(self._output.write, data), len(data)


class _SyslogObserver(_Observer):
    """
    Write to syslog, each line with the priority of its event.
    """

    def _write_of(self, event: LogEvent, text: str) -> tuple[Write, int]:
        return partial(_send, PRIORITIES[level_of(event)], text.splitlines()), len(text)


def _send(priority: int, lines: list[str]) -> None:
    for line in lines:
        syslog.syslog(priority, line)


def log_observer(
    writer: LogWriter,
    log_file: str,
    syslog_prefix: str | None,
    *,
    foreground: bool,
    format: str = "text",
    level: str = "info",
    environment: Mapping[str, str] = MappingProxyType({}),
) -> ILogObserver:
    """
    Return an observer that logs to the output that twistd would use, through `writer`.

    Args:
        writer: Writes the lines.
        log_file: twistd's --logfile; empty if it was not given.
        syslog_prefix: The prefix of twistd's --syslog; None without it.
        foreground: Whether the server runs in the foreground.
        format: The format of the lines: ``text`` or ``json``.
        level: The name of the least severe level that is logged.
        environment: The environment of the server, which tells whether standard output is the
            journal.

    Raises:
        OSError: The log file cannot be opened.
        ValueError: A server in the background is to log to standard output.
    """
    with_json = format == "json"
    levels = levels_from(level)
    if syslog_prefix is not None:
        syslog.openlog(syslog_prefix, DEFAULT_OPTIONS, DEFAULT_FACILITY)
        return _SyslogObserver(writer, levels, json_line if with_json else syslog_lines)
    if log_file == "-" and not foreground:
        raise ValueError("a server in the background cannot log to standard output")
    if log_file == "-" or (foreground and not log_file):
        descriptor = sys.stdout.fileno()
        if is_journal(descriptor, environment):
            write: Format = journal_json_line if with_json else journal_lines
        else:
            write = json_line if with_json else text_lines
        # RFC 8259: JSON is in UTF-8, whatever the locale.
        encoding = "utf-8" if with_json else sys.stdout.encoding
        return _OutputObserver(writer, levels, write, _Descriptor(descriptor), encoding)
    file = _RotatedFile(log_file or "twistd.log")
    if not signal.getsignal(signal.SIGUSR1):
        signal.signal(signal.SIGUSR1, lambda number, frame: writer.submit(file.rotate, 0))
    return _OutputObserver(writer, levels, json_line if with_json else text_lines, file, "utf-8")


def is_journal(descriptor: int, environment: Mapping[str, str]) -> bool:
    """
    Return whether `descriptor` leads to the journal, as systemd.exec(5) describes.

    The variable JOURNAL_STREAM alone does not tell: programs inherit it with other outputs.
    """
    device, _, inode = environment.get("JOURNAL_STREAM", "").partition(":")
    with suppress(OSError, ValueError):
        state = os.fstat(descriptor)
        return (int(device), int(inode)) == (state.st_dev, state.st_ino)
    return False


def dropped_text(lines: int) -> str:
    """
    Return the notice that `lines` lines are missing from the log.
    """
    return f"{lines:,} line(s) of the log were dropped here, because it could not be written"
