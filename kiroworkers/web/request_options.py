"""
What a request says in its headers of how it wants to be treated.
"""

from __future__ import annotations

import math
import re

from twisted.web.iweb import IRequest

from kiroworkers.errors import InvalidInput
from kiroworkers.pool.dispatcher import RequestOptions
from kiroworkers.pool.fair_queue import LEAST_URGENT, MOST_URGENT, USUAL

_WAIT = re.compile(r"(?:^|[,;])\s*wait\s*=\s*\"?(\d{1,9})\"?\s*(?=$|[,;])", re.I)

_ASYNC = re.compile(r"(?:^|,)\s*respond-async\s*(?=$|[,;])", re.I)


def request_options(
    request: IRequest, client: str, label: str, at_most: float | None = None
) -> RequestOptions:
    """
    The terms of `request`: ``X-Request-Timeout`` (seconds), ``Prefer: wait=N``
    (seconds, RFC 7240) and ``X-Priority`` (0 to 9).

    Args:
        at_most: seconds that what it asks for may take.

    Raises:
        InvalidInput: naming the header that makes no sense.
    """
    timeout = _timeout(request)
    waits = None if wants_job(request) else _WAIT.search(header(request, "Prefer") or "")
    if waits is not None and int(waits[1]) > 0:
        preferred = float(waits[1])
        if timeout is None or preferred <= timeout:
            timeout = preferred
            request.setHeader(b"preference-applied", b"wait=" + waits[1].encode())
    if at_most is not None:
        timeout = at_most if timeout is None else min(timeout, at_most)
    return RequestOptions(timeout, _priority(request), client, label)


def wants_job(request: IRequest) -> bool:
    """
    Does the client prefer to ask for the answer later (RFC 7240)?
    """
    return _ASYNC.search(header(request, "Prefer") or "") is not None


def requested_agent(request: IRequest) -> str | None:
    """
    The agent that `request` is for, by ``X-Agent``; None where it says none.
    """
    return header(request, "X-Agent")


def queried_agent(request: IRequest) -> str | None:
    """
    The agent that ``?agent=NAME`` is about; None for all.
    """
    found = request.args.get(b"agent", [])
    if len(found) > 1:
        raise InvalidInput("agent", "agent may stand only once in the query")
    return found[0].decode("utf-8", "replace") if found else None


def wants_raw(request: IRequest) -> bool:
    """
    Is what the agent said to be shown instead of the answer, by ``?raw=1``?

    Raises:
        InvalidInput: when it says neither that nor ``raw=0``.
    """
    found: list[bytes] = request.args.get(b"raw", [b"0"])
    if found not in ([b"0"], [b"1"]):
        raise InvalidInput("raw", "raw must be 0 or 1, once")
    return found == [b"1"]


def _timeout(request: IRequest) -> float | None:
    name = "X-Request-Timeout"
    text = header(request, name)
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise InvalidInput(name, f"{name} must be a number of seconds above 0")
    return seconds


def _priority(request: IRequest) -> int:
    name = "X-Priority"
    text = header(request, name)
    if text is None:
        return USUAL
    if not re.fullmatch("[0-9]", text):
        raise InvalidInput(
            name, f"{name} must be from {LEAST_URGENT} to {MOST_URGENT}, the most urgent"
        )
    return int(text)


def header(request: IRequest, name: str) -> str | None:
    """
    The header `name`, whatever its bytes are.
    """
    value = request.getHeader(name.encode())
    return None if value is None else value.decode("latin-1").strip()
