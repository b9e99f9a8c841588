"""
Write one line to the log for each request, and for each job.

A line is in the combined format of Apache and nginx, followed by what that format has no
place for, as ``key=value``::

    "192.0.2.7" - backend [29/Nov/2026:12:30:00 +0000] "POST /kiro/generate-story HTTP/1.1" \
200 512 "-" "curl/8.5.0" id=0191f3b1c2d4 task=generate-story agent=kiro worker=worker1 \
attempts=1 repairs=0 wait=0.000 first=0.912 turn=3.214 total=3.219 outcome=answered

In a log of JSON, the event has the same facts as fields, with the names that the HTTP API uses.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TypeAlias

from attrs import frozen
from twisted.logger import Logger
from twisted.web.http import datetimeToLogString

from kiroworkers.request_record import RequestRecord

#: The value of a fact.
Fact: TypeAlias = str | int | float | bool

#: Text that needs neither escapes nor, as a word, quotes.
_HARMLESS = re.compile(r"[ !#-\[\]-~]+")
_HARMLESS_WORD = re.compile(r"[!#-&(-\[\]-~]+")

#: The bytes of a line besides the texts that clients send.
_LINE_SIZE = 256

_log = Logger("kiroworkers.access_log")

#: The facts after the combined format: the name in a line of text, the name in JSON, and the
#: attribute of the record.
_FACTS = (
    ("id", "requestId", "id"),
    ("task", "task", "task"),
    ("agent", "agent", "agent"),
    ("worker", "worker", "worker"),
    ("attempts", "attempts", "attempts"),
    ("repairs", "repairs", "repairs"),
    ("wait", "wait", "wait"),
    ("first", "firstOutput", "first_output"),
    ("turn", "turn", "turn"),
    ("credits", "credits", "credits"),
    ("tools_denied", "toolsDenied", "tools_denied"),
    ("tools_unasked", "toolsUnasked", "tools_unasked"),
    ("total", "total", "total"),
    ("code", "code", "code"),
    ("job", "job", "job"),
    ("replayed", "replayed", "replayed"),
    ("aborted", "aborted", "aborted"),
)

#: The facts that JSON has as fields and a line of text has in the combined format.
_COMBINED_FACTS = (
    ("address", "host"),
    ("user", "user"),
    ("method", "method"),
    ("path", "path"),
    ("protocol", "protocol"),
    ("status", "status"),
    ("bytes", "sent"),
    ("referrer", "referrer"),
    ("userAgent", "user_agent"),
)


def write_record(record: RequestRecord, ended: float) -> None:
    """
    Write the line of a request that has ended.

    The event has the `record` instead of its facts, because its format decides how to name them.

    Args:
        record: The record of the request.
        ended: When it has ended, in seconds since the epoch.
    """
    record.ended = ended
    _log.info("{line}", line=_Line(record), record=record)


def line_size(record: RequestRecord) -> int:
    """
    Return about how many bytes the line of a request will have.
    """
    texts = (record.path, record.referrer, record.user_agent)
    return _LINE_SIZE + sum(len(text) for text in texts if text is not None)


def combined_line(record: RequestRecord) -> str:
    """
    Return the line for a request that has ended.  It consists of printable ASCII.
    """
    parts = [
        f'"{_escaped(record.host)}"',
        "-",
        _word(record.user or "-"),
        _time(int(record.ended or 0)),
        f'"{_request_line(record)}"',
        str(record.status),
        str(record.sent or "-"),
        f'"{_escaped(record.referrer)}"',
        f'"{_escaped(record.user_agent)}"',
    ]
    for name, _, attribute in _FACTS:
        value = getattr(record, attribute)
        if _is_known(record, attribute, value):
            parts.append(f"{name}={_value(value)}")
    if record.task is not None:
        parts.append(f"outcome={record.outcome}")
    return " ".join(parts)


def request_fields(record: RequestRecord) -> dict[str, Fact]:
    """
    Return the facts about a request that has ended, by their names in JSON.
    """
    fields: dict[str, Fact] = {}
    for name, attribute in _COMBINED_FACTS:
        value = getattr(record, attribute)
        if value is not None:
            fields[name] = value
    for _, name, attribute in _FACTS:
        value = getattr(record, attribute)
        if _is_known(record, attribute, value):
            fields[name] = round(value, 3) if isinstance(value, float) else value
    if record.task is not None:
        fields["outcome"] = record.outcome
    return fields


def request_summary(record: RequestRecord) -> str:
    """
    Return one line about a request that has ended, for people who read JSON.
    """
    outcome = "" if record.task is None else f" {record.outcome}"
    return f"{record.method or '-'} {record.path or '-'}: {record.status}{outcome}"


@frozen
class _Line:
    """
    Hold a line that is made when it is printed: a log of JSON does not need it.
    """

    record: RequestRecord

    def __str__(self) -> str:
        return combined_line(self.record)


def _is_known(record: RequestRecord, attribute: str, value: Fact | None) -> bool:
    """
    Return whether a fact of `record` is known, and applies.
    """
    if value is None or value is False or value == "":
        return False
    return attribute != "repairs" or record.attempts is not None


def _request_line(record: RequestRecord) -> str:
    if record.method is None:
        return "-"
    return _escaped(f"{record.method} {record.path} {record.protocol}")


@lru_cache(maxsize=1)
def _time(ended: int) -> str:
    """
    Return a time in the combined format; many requests end in the same second.
    """
    text: str = datetimeToLogString(ended)
    return text


def _value(value: Fact) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3f}"
    return _word(value) if isinstance(value, str) else str(value)


def _word(text: str) -> str:
    """
    Return `text` in quotes if it would not be read as one word without.
    """
    if _HARMLESS_WORD.fullmatch(text):
        return text
    escaped = _escaped(text)
    return f'"{escaped}"' if " " in escaped or "'" in escaped else escaped


def _escaped(text: str | None) -> str:
    if not text:
        return "-"
    if _HARMLESS.fullmatch(text):
        return text
    return text.replace('"', "'").encode("unicode_escape").decode("ascii")
