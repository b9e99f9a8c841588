"""
Define the options of requests, and turn them into headers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypedDict

#: What the value of a header may consist of.
_HEADER_VALUE = re.compile(r"[!-~]+(?: +[!-~]+)*")


class Options(TypedDict, total=False):
    """
    Define the options that every request to a task takes.

    Attributes:
        timeout: Seconds after which the request is abandoned, all waits and retries included.
            Without it, the client's own `timeout` applies; None means no limit.
        priority: From 0 to 9; 9 is the most urgent.
        agent: The name of the agent that is to answer.
        model: The agent's model that is to answer.
        idempotency_key: Requests with the same key run once, and get the same answer.
    """

    timeout: float | None
    priority: int | None
    agent: str | None
    model: str | None
    idempotency_key: str | None


class JobOptions(TypedDict, total=False):
    """
    Define the options of jobs.

    Attributes:
        timeout: The deadline of the job's turn, in seconds after the job was given to an agent.
            Without it, the server's own applies.
        priority: As in `Options`.
        agent: As in `Options`.
        model: As in `Options`.
        idempotency_key: As in `Options`.
        callback: The URL to which the server posts the job when it has ended.
    """

    timeout: float | None
    priority: int | None
    agent: str | None
    model: str | None
    idempotency_key: str | None
    callback: str | None


_HEADERS = {
    "priority": "X-Priority",
    "agent": "X-Agent",
    "model": "X-Model",
    "idempotency_key": "Idempotency-Key",
    "callback": "X-Callback",
}


def headers_from(options: Mapping[str, object]) -> dict[str, str]:
    """
    Return the headers for `options`, of which those that are None count as absent.

    ``timeout`` is left out, because its header changes from one attempt to the next.

    Raises:
        TypeError: If there is no such option.
        ValueError: If a header cannot have the value.
    """
    headers = {}
    for option, value in options.items():
        if option == "timeout":
            continue
        if option not in _HEADERS:
            raise TypeError(f"there is no option {option!r}")
        if value is not None:
            headers[_HEADERS[option]] = header_value(option, str(value))
    return headers


def header_value(name: str, value: str) -> str:
    """
    Return `value` if a header can have it.

    Args:
        name: What the value is, for the error.
        value: The value.

    Raises:
        ValueError: If a header cannot have it.
    """
    if not _HEADER_VALUE.fullmatch(value):
        raise ValueError(f"{name} must consist of printable ASCII characters")
    return value


def timeout_from(options: Mapping[str, object], default: float | None) -> float | None:
    """
    Return the option ``timeout``, or else `default`.

    Raises:
        ValueError: If it is not a positive number.
    """
    timeout = options.get("timeout", default)
    if timeout is None:
        return None
    if not isinstance(timeout, (int, float)) or not 0 < timeout < float("inf"):
        raise ValueError("timeout must be a positive number of seconds, or None")
    return float(timeout)
