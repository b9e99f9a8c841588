r"""
Format log events: as lines of text for people, or as one JSON object each for programs.

Nothing in a line can control a terminal or pass for another line: control characters and line
breaks are escaped, except for the line breaks of a traceback in text, which are indented.

    >>> from twisted.logger import LogLevel
    >>> event = {"log_level": LogLevel.warn, "log_namespace": "kiroworkers.pool.worker",
    ...     "log_time": 0.25, "log_format": "{worker}: {reason}", "worker": "worker1",
    ...     "reason": "ended\n"}
    >>> journal_lines(event)
    '<4>[kiroworkers.pool.worker#warn] worker1: ended\\n\n'
    >>> json.loads(json_line(event))["message"]
    'worker1: ended\n'
"""

from __future__ import annotations

import json
import math
import syslog
import time
from collections.abc import Callable, Container, Iterator
from enum import Enum
from pathlib import PurePath
from traceback import format_tb
from typing import Any, TypeAlias

from twisted.logger import LogEvent, formatEvent, formatTime
from twisted.python.failure import Failure
from twisted.python.reflect import qual

from kiroworkers.clean_text import clean_json, clean_lines, clean_text
from kiroworkers.request_record import RequestRecord
from kiroworkers.telemetry.access_log import request_fields, request_summary

#: Returns what is written for an event; empty for nothing.
Format: TypeAlias = Callable[[LogEvent], str]

#: The longest message in characters.  A line of text, even if most of its characters are
#: escaped, is then hardly ever longer than what journald takes as one (LineMax=, 48 KiB).
_MAX_MESSAGE = 8 * 1024

#: The longest traceback or other text of several lines, in characters.  The end of a traceback
#: tells most, so the beginning is cut.
_MAX_BLOCK = 32 * 1024

#: The longest JSON object in bytes, and the limits in characters for each of its strings, which
#: are tried in turn until it is short enough.
_MAX_JSON = 32 * 1024
_MAX_STRINGS = (_MAX_MESSAGE, 2048, 512, 64)

#: The largest number of an event's own fields that a JSON object has.
_MAX_FIELDS = 48

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode

#: The beginning of the namespaces whose events' own fields are in JSON: nobody knows whether
#: those of other libraries are secret.
_OWN_NAMESPACE = "kiroworkers."

#: The priorities of syslog and of journald by level; the least severe level is the first.
PRIORITIES = {
    "debug": syslog.LOG_DEBUG,
    "info": syslog.LOG_INFO,
    "warn": syslog.LOG_WARNING,
    "error": syslog.LOG_ERR,
    "critical": syslog.LOG_CRIT,
}


def level_of(event: LogEvent) -> str:
    """
    Return the name of the level of `event`.
    """
    level = event.get("log_level")
    return "info" if level is None else level.name


def levels_from(level: str) -> frozenset[str]:
    """
    Return the level `level` and those that are more severe.
    """
    names = [*PRIORITIES]
    return frozenset(names[names.index(level) :])


def text_lines(event: LogEvent) -> str:
    """
    Return `event` as twistd prints it: a line with its time, and those of its traceback.
    """
    text = _text(event)
    return f"{_local_time(event.get('log_time'))} {text}" if text else ""


def journal_lines(event: LogEvent) -> str:
    """
    Return `event` for journald, which notes the time itself and reads the priority of each line.
    """
    prefix = f"<{PRIORITIES[level_of(event)]}>"
    return "".join(f"{prefix}{line}\n" for line in _text(event).split("\n") if line)


def syslog_lines(event: LogEvent) -> str:
    """
    Return `event` for syslog, which notes the time itself.
    """
    return _text(event)


def json_line(event: LogEvent) -> str:
    """
    Return `event` as a line with one JSON object.
    """
    record = event.get("record")
    blocks = _blocks(event)
    message = request_summary(record) if isinstance(record, RequestRecord) else _message(event)
    if not (message or blocks):
        return ""
    facts: dict[str, Any] = {
        "time": _utc_time(event.get("log_time")),
        "level": level_of(event),
        "namespace": str(event.get("log_namespace", "")),
        "message": message,
    }
    for name, value in _fields(event):
        facts.setdefault(name, value)
    facts.update(blocks)
    for limit in _MAX_STRINGS:
        line = _dump(facts, limit, blocks)
        if len(line) < _MAX_JSON // 4 or len(line.encode("utf-8", "replace")) < _MAX_JSON:
            break
    return f"{line}\n"


def journal_json_line(event: LogEvent) -> str:
    """
    Return `event` as a line with one JSON object, whose priority journald reads and removes.
    """
    line = json_line(event)
    return f"<{PRIORITIES[level_of(event)]}>{line}" if line else ""


def bounded(text: str, limit: int) -> str:
    """
    Return the beginning of `text`, with the number of characters that are left out.
    """
    left_out = len(text) - limit
    return text if left_out <= 0 else f"{text[:limit]}… ({left_out:,} more characters)"


def bounded_end(text: str, limit: int) -> str:
    """
    Return the end of `text`, with the number of characters that are left out.
    """
    left_out = len(text) - limit
    return text if left_out <= 0 else f"({left_out:,} more characters) …{text[-limit:]}"


def _text(event: LogEvent) -> str:
    """
    Return the lines of `event` without its time; empty if it says nothing.
    """
    message = clean_text(_message(event))
    for block in _blocks(event).values():
        indented = clean_lines(block).replace("\n", "\n\t")
        message = f"{message}\n\t{indented}"
    if not message:
        return ""
    system = event.get("log_system")
    if system is None:
        system = f"{event.get('log_namespace', '-')}#{level_of(event)}"
    return f"[{clean_text(str(system))}] {message}\n"


def _message(event: LogEvent) -> str:
    """
    Return the message of `event`, without its traceback.
    """
    if "traceback" in event:
        event = {**event, "traceback": ""}
    format = event.get("log_format")
    try:
        if isinstance(format, str) and "()" not in format and "log_flattened" not in event:
            # `formatEvent` does the same in ten times the time.
            message = format.format_map(event)
        else:
            message = formatEvent(event)
    except Exception as error:
        # `formatEvent` would print the event's fields, whatever they hold.
        message = f"cannot format this event ({type(error).__name__}): {format}"
    return bounded(message.rstrip("\n") if "traceback" in event else message, _MAX_MESSAGE)


def _blocks(event: LogEvent) -> dict[str, str]:
    """
    Return the texts of several lines that follow the message of `event`, by name.

    They are the fields that its ``log_blocks`` name, and its traceback.  An event that has
    ``log_without_message`` shows where its failure is and of which type, but not its message.
    """
    blocks: dict[str, str] = {name: event[name] for name in event.get("log_blocks", ())}
    traceback = str(event.get("traceback", ""))
    failure = event.get("log_failure")
    if isinstance(failure, Failure):
        traceback += _failure_text(failure, with_message="log_without_message" not in event)
    if traceback:
        blocks["traceback"] = traceback
    return {name: bounded_end(text.rstrip("\n"), _MAX_BLOCK) for name, text in blocks.items()}


def _failure_text(failure: Failure, *, with_message: bool) -> str:
    """
    Return the traceback of `failure`, and its message unless that may quote a client.
    """
    try:
        if with_message:
            return str(failure.getTraceback())
        places = "".join(format_tb(failure.getTracebackObject()))
        return f"{places}{qual(type(failure.value))}"
    except Exception as error:
        return f"there is no traceback: {type(error).__name__}"


def _fields(event: LogEvent) -> Iterator[tuple[str, Any]]:
    """
    Yield the names and the values of the event's own facts.

    Objects are left out: how they print may tell what no log should have.
    """
    record = event.get("record")
    if isinstance(record, RequestRecord):
        yield from request_fields(record).items()
        return
    namespace = str(event.get("log_namespace", ""))
    if not namespace.startswith(_OWN_NAMESPACE):
        return
    left = _MAX_FIELDS
    for name, value in event.items():
        if name.startswith("log_") or name in ("traceback", "text"):
            continue
        if isinstance(value, Enum):
            value = value.value
        elif isinstance(value, PurePath):
            value = str(value)
        if value != "" and isinstance(value, (str, int, float)):
            left -= 1
            if left < 0:
                return
            yield name, value


def _dump(facts: dict[str, Any], limit: int, blocks: Container[str]) -> str:
    """
    Return `facts` as JSON, in which no string has many more than `limit` characters.

    Those named by `blocks` keep their ends.
    """
    short = {
        name: (bounded_end if name in blocks else bounded)(value, limit)
        if isinstance(value, str)
        else value
        for name, value in facts.items()
    }
    try:
        text = _encode(short)
    except ValueError:
        text = _encode({name: _finite(value) for name, value in short.items()})
    return clean_json(text)


def _finite(value: Any) -> Any:
    """
    Return `value`, or its name if it is a number that JSON does not have.
    """
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


class _Seconds:
    """
    Keep the text of the last second, because many events happen in the same one.
    """

    def __init__(self, format: Callable[[float], str]) -> None:
        self._format = format
        # Replaced as one, because several threads format events.
        self._last: tuple[int | None, str] = None, ""

    def text(self, second: int) -> str:
        """
        Return the text of `second`.
        """
        known, text = self._last
        if second != known:
            text = self._format(second)
            self._last = second, text
        return text


_local_seconds = _Seconds(formatTime)
_utc_seconds = _Seconds(lambda when: time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(when)))


def _local_time(when: float | None) -> str:
    return "-" if when is None else _local_seconds.text(int(when))


def _utc_time(when: float | None) -> str | None:
    """
    Return a time in the format of RFC 3339, with milliseconds.
    """
    if when is None:
        return None
    second = int(when // 1)
    return f"{_utc_seconds.text(second)}.{int((when - second) * 1000):03d}Z"
