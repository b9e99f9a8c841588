"""
Log where twistd would, through a `LogWriter`.

The text of the log is twistd's own.  Only the thread that writes it differs, and control
characters are escaped, so no line can control the terminal of its reader.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import syslog
import time
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

from twisted.logger import (
    ILogObserver,
    LegacyLogObserverWrapper,
    LogEvent,
    LogLevel,
    formatEvent,
    formatEventAsClassicLogText,
)
from twisted.python.logfile import LogFile
from twisted.python.syslog import SyslogObserver
from zope.interface import implementer

from kiroworkers.clean_text import clean_lines, clean_text
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
class _TextObserver:
    """
    Format events as twistd does, and submit them to a writer.
    """

    def __init__(self, writer: LogWriter, output: _Output, encoding: str) -> None:
        self._writer = writer
        self._output = output
        self._encoding = encoding
        writer.dropped_notice = self._dropped_notice

    def __call__(self, event: LogEvent) -> None:
        """
        Submit the line of `event`.
        """
        data = self._format(event)
        if data:
            self._writer.submit(partial(self._output.write, data), len(data))

    def _format(self, event: LogEvent) -> bytes:
        text = formatEventAsClassicLogText(_on_one_line(event)) or ""
        return clean_lines(text).encode(self._encoding, "backslashreplace")

    def _dropped_notice(self, lines: int) -> Write:
        event = {
            "log_format": "{text}",
            "log_level": LogLevel.warn,
            "log_namespace": "kiroworkers.log",
            "log_time": time.time(),
            "text": dropped_text(lines),
        }
        return partial(self._output.write, self._format(event))


def log_observer(
    writer: LogWriter, log_file: str, syslog_prefix: str | None, *, foreground: bool
) -> ILogObserver:
    """
    Return an observer that logs to the output that twistd would use, through `writer`.

    Args:
        writer: Writes the lines.
        log_file: twistd's --logfile; empty if it was not given.
        syslog_prefix: The prefix of twistd's --syslog; None without it.
        foreground: Whether the server runs in the foreground.

    Raises:
        OSError: The log file cannot be opened.
        ValueError: A server in the background is to log to standard output.
    """
    if syslog_prefix is not None:
        return _syslog_observer(writer, syslog_prefix)
    if log_file == "-" and not foreground:
        raise ValueError("a server in the background cannot log to standard output")
    if log_file == "-" or (foreground and not log_file):
        return _TextObserver(writer, _Descriptor(sys.stdout.fileno()), sys.stdout.encoding)
    file = _RotatedFile(log_file or "twistd.log")
    if not signal.getsignal(signal.SIGUSR1):
        signal.signal(signal.SIGUSR1, lambda number, frame: writer.submit(file.rotate, 0))
    return _TextObserver(writer, file, "utf-8")


def _syslog_observer(writer: LogWriter, prefix: str) -> ILogObserver:
    observer = SyslogObserver(prefix)

    def line_writer(priority: int, line: str) -> Write:
        return partial(syslog.syslog, priority, clean_lines(line))

    observer.syslog = lambda priority, line: writer.submit(line_writer(priority, line), len(line))
    writer.dropped_notice = lambda lines: line_writer(syslog.LOG_WARNING, dropped_text(lines))
    # The wrapper's annotation asks for the interface that it provides.
    emit: Any = observer.emit
    return _OneLineObserver(LegacyLogObserverWrapper(emit))


@implementer(ILogObserver)
class _OneLineObserver:
    """
    Pass events on to another observer, with their messages on one line.
    """

    def __init__(self, observer: ILogObserver) -> None:
        self._observer = observer

    def __call__(self, event: LogEvent) -> None:
        """
        Pass on `event`.
        """
        self._observer(_on_one_line(event))


def _on_one_line(event: LogEvent) -> LogEvent:
    """
    Return `event` with a message that has no line breaks, except for those of a traceback.

    A line break in a client's or an agent's text could pass for the beginning of another
    event.
    """
    message = formatEvent(event)
    clean = clean_lines if "traceback" in event else clean_text
    return {**event, "log_format": "{log_message}", "log_message": clean(message)}


def dropped_text(lines: int) -> str:
    """
    Return the notice that `lines` lines are missing from the log.
    """
    return f"{lines:,} line(s) of the log were dropped here, because it could not be written"
