"""
Write one line to the log for each request, and for each job.

A line is in the combined format of Apache and nginx, followed by what that format has no
place for, as ``key=value``::

    "192.0.2.7" - backend [29/Nov/2026:12:30:00 +0000] "POST /kiro/generate-story HTTP/1.1" \
200 512 "-" "curl/8.5.0" task=generate-story agent=kiro worker=worker1 attempts=1 repairs=0 \
wait=0.000 turn=3.214 total=3.219
"""

from __future__ import annotations

from twisted.logger import Logger
from twisted.web.http import datetimeToLogString

from kiroworkers.request_record import RequestRecord

#: The status in the log of a request whose client hung up before its response began, as in
#: nginx's log.
CLIENT_CLOSED_REQUEST = 499

_log = Logger("kiroworkers.access_log")


def write_record(record: RequestRecord, now: float) -> None:
    """
    Write the line of a request that has ended.

    The event also has the `record`, for observers that want its facts.

    Args:
        record: The record of the request.
        now: The current time in seconds since the epoch.
    """
    record.ended = now
    _log.info("{line}", line=combined_line(record), record=record)


def combined_line(record: RequestRecord) -> str:
    """
    Return the line for a request that has ended.  It consists of printable ASCII.
    """
    parts = [
        f'"{_escaped(record.host)}"',
        "-",
        _word(record.user or "-"),
        datetimeToLogString(record.ended),
        f'"{_request_line(record)}"',
        str(record.status),
        str(record.sent or "-"),
        f'"{_escaped(record.referrer)}"',
        f'"{_escaped(record.user_agent)}"',
    ]
    facts: dict[str, str | float | None] = {
        "task": record.task,
        "agent": record.agent,
        "worker": record.worker,
        "attempts": record.attempts,
        "repairs": None if record.attempts is None else record.repairs,
        "wait": record.wait,
        "turn": record.turn,
        "credits": record.credits,
        "tools_denied": record.tools_denied,
        "tools_unasked": record.tools_unasked,
        "total": record.total,
        "code": record.code,
        "job": record.job,
        "replayed": "yes" if record.replayed else None,
        "aborted": "yes" if record.aborted else None,
    }
    parts += [f"{name}={_value(value)}" for name, value in facts.items() if value is not None]
    return " ".join(parts)


def _request_line(record: RequestRecord) -> str:
    if record.method is None:
        return "-"
    return _escaped(f"{record.method} {record.path} {record.protocol}")


def _value(value: str | float) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    return _word(value) if isinstance(value, str) else str(value)


def _word(text: str) -> str:
    """
    Return `text` in quotes if it would not be read as one word without.
    """
    escaped = _escaped(text)
    return f'"{escaped}"' if " " in escaped or "'" in escaped else escaped


def _escaped(text: str | None) -> str:
    return (text or "-").replace('"', "'").encode("unicode_escape").decode("ascii")
